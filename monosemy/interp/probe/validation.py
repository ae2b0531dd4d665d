"""Cross-validation in which no feature is on both sides, and choices are never scored by the items
that they were made with.  numpy only."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monosemy.interp.probe.escalation import Band, Platt, choose_band, fit_platt
from monosemy.interp.probe.linear import Axes, Floats, Linear, fit_logistic, log_loss
from monosemy.interp.statistics.ranks import midranks

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""The grid of C, the inverse of the penalty."""

Rows = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class View:
    """A way of turning items into columns."""

    columns: Callable[[Rows], Floats]
    """All items ``[N, D]``, with whatever has to be fitted fitted on the given rows alone."""
    axes: Callable[[Floats], Axes]


@dataclass(frozen=True)
class Choice:
    """What held-out features of the training side preferred."""

    view: str
    c: float
    platt: Platt
    band: Band
    log_loss: float
    """Of held-out features, in nats."""


@dataclass(frozen=True)
class Tested:
    """Every item as judged by a probe that never saw its feature."""

    logit_N: Floats
    p_N: Floats
    """Calibrated."""
    unsure_N: Bools
    """In the band that features of the training side chose."""
    fold_N: Rows
    choices: tuple[Choice, ...]

    @property
    def place_N(self) -> Floats:
        """Ranks within the fold, in (0, 1): folds have biases of their own, and a fold with few
        positives meets a model trained on many, so logits of two folds do not compare."""
        place_N = np.zeros(len(self.logit_N))
        for fold in np.unique(self.fold_N):
            inside = self.fold_N == fold
            place_N[inside] = (midranks(self.logit_N[inside]) - 0.5) / inside.sum()
        return place_N


def folds_by_group(groups: Sequence[Hashable], folds: int, seed: int) -> Rows:
    """The fold of each item; groups stay whole and are dealt in seeded order, the largest first.

    Fewer folds where there are fewer groups.  ``ValueError`` for fewer than two groups.
    """
    numbers: dict[Hashable, int] = {}
    of_N = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    if len(numbers) < 2:
        raise ValueError("a split needs two groups")
    sizes = np.bincount(of_N)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(min(folds, len(sizes)), dtype=np.int64)
    fold_G = np.zeros(len(sizes), dtype=np.int64)
    for group in order:
        fold_G[group] = int(filled.argmin())
        filled[fold_G[group]] += sizes[group]
    return fold_G[of_N]


def choose(
    views: Mapping[str, View],
    rows: Rows,
    answer_N: Bools,
    groups: Sequence[Hashable],
    wanted: float,
    folds: int,
    seed: int,
) -> Choice:
    """View, penalty, calibration and band by held-out features among ``rows``."""
    fold_R = folds_by_group([groups[i] for i in rows], folds, seed)
    logits: dict[tuple[str, float], Floats] = {
        (name, c): np.zeros(len(rows)) for name in views for c in STRENGTHS
    }
    for fold in np.unique(fold_R):
        seen, held = rows[fold_R != fold], fold_R == fold
        for name, view in views.items():
            x_ND = view.columns(seen)
            axes = view.axes(x_ND[seen])
            seen_XK, held_XK = axes.project(x_ND[seen]), axes.project(x_ND[rows[held]])
            for c in STRENGTHS:
                fitted = fit_logistic(seen_XK, answer_N[seen], c)
                logits[name, c][held] = fitted.logits(held_XK)
    losses = {key: log_loss(found, answer_N[rows]) for key, found in logits.items()}
    best = min(losses, key=losses.__getitem__)
    platt = fit_platt(logits[best], answer_N[rows])
    band = choose_band(platt.probabilities(logits[best]), answer_N[rows], wanted)
    return Choice(*best, platt, band, losses[best])


def fit(view: View, rows: Rows, answer_N: Bools, c: float) -> tuple[Linear, Floats]:
    """A model of ``rows``, and the columns of all items."""
    x_ND = view.columns(rows)
    axes = view.axes(x_ND[rows])
    return axes.unfold(fit_logistic(axes.project(x_ND[rows]), answer_N[rows], c)), x_ND


def judge_by_group(
    views: Mapping[str, View],
    answer_N: Bools,
    groups: Sequence[Hashable],
    wanted: float,
    folds: int,
    seed: int,
) -> Tested:
    """Nested cross-validation: each fold is judged by what the others alone chose and fitted."""
    fold_N = folds_by_group(groups, folds, seed)
    logit_N, p_N = np.zeros(len(answer_N)), np.zeros(len(answer_N))
    unsure_N = np.zeros(len(answer_N), dtype=bool)
    choices = []
    for fold in np.unique(fold_N):
        seen, held = np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)
        choice = choose(views, seen, answer_N, groups, wanted, folds, seed + 1)
        model, x_ND = fit(views[choice.view], seen, answer_N, choice.c)
        logit_N[held] = model.logits(x_ND[held])
        p_N[held] = choice.platt.probabilities(logit_N[held])
        unsure_N[held] = choice.band.unsure(p_N[held])
        choices.append(choice)
    return Tested(logit_N, p_N, unsure_N, fold_N, tuple(choices))
