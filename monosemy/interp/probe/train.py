"""Training a probe on judgements of the expensive judge.  Needs safetensors; torch for states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from monosemy.errors import DataError
from monosemy.interp.probe.items import JudgedItem
from monosemy.interp.probe.linear import Floats, principal_axes, span_axes
from monosemy.interp.probe.probe import Probe
from monosemy.interp.probe.relation import RELATION, Relation
from monosemy.interp.probe.report import report_of
from monosemy.interp.probe.tfidf import TfIdf
from monosemy.interp.probe.validation import Rows, View, choose, fit, judge_by_group

if TYPE_CHECKING:
    from monosemy.models.host import HostModel

FOLDS = 5
MIN_FEATURES = 4


def train_probe(
    items: Sequence[JudgedItem],
    host: HostModel,
    sites: Sequence[str] | None = None,
    wanted: float = 0.9,
    judge: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Probe:
    """A probe of ``host``'s states, tested on held-out features beside TF-IDF.

    ``sites`` are those to choose among, by default around the middle; ``wanted`` the agreement with
    the judge that escalation is to reach; ``judge`` what to remember of the judge.  Look at
    ``probe.report``: a probe that does not beat TF-IDF does not serve.  Raises as ``fit_probe``.
    """
    from monosemy.interp.probe.states import ProbeStates  # needs torch

    reader = ProbeStates(host, sites)
    states = reader([(item.explanation, item.text) for item in items])
    return fit_probe(items, states, {**reader.source(), "judge": dict(judge or {})}, wanted, seed)


def fit_probe(
    items: Sequence[JudgedItem],
    states: Mapping[str, Floats],
    source: Mapping[str, Any],
    wanted: float = 0.9,
    seed: int = 0,
) -> Probe:
    """A probe of given states, ``[N, width]`` by view; ``source["depths"]`` is the number of layers
    in those of the view ``relation``.

    Raises ``DataError`` for fewer than four features, or a judge that always says the same;
    ``ValueError`` for ``wanted`` beyond [0, 1] or states of another number of items.
    """
    answer_N = np.array([item.answer for item in items], dtype=bool)
    features = [item.feature for item in items]
    if len(set(features)) < MIN_FEATURES:
        raise DataError(f"A probe needs judgements of {MIN_FEATURES} features or more.")
    if answer_N.all() or not answer_N.any():
        raise DataError("The judge said the same of every text: there is nothing to learn.")
    if any(len(found_ND) != len(items) for found_ND in states.values()):
        raise ValueError("one row of states per item is needed")
    if not 0 <= wanted <= 1:
        raise ValueError("an agreement is between 0 and 1")
    layers = source.get("depths", 1)
    views = {name: _view_of(name, found_ND, layers) for name, found_ND in states.items()}

    def words_of(rows: Rows) -> Floats:
        return TfIdf([items[i] for i in rows])(items)

    words = {"tfidf": View(words_of, span_axes)}
    tested = judge_by_group(views, answer_N, features, wanted, FOLDS, seed)
    baseline = judge_by_group(words, answer_N, features, wanted, FOLDS, seed)
    report = report_of(items, tested, baseline, wanted, seed)
    rows = np.arange(len(items))
    choice = choose(views, rows, answer_N, features, wanted, FOLDS, seed)
    model, _ = fit(views[choice.view], rows, answer_N, choice.c)
    relation = None
    if choice.view == RELATION:
        relation = Relation.fit(states[RELATION], layers)
    return Probe(choice.view, model, choice.platt, choice.band, report, source, relation)


def _view_of(name: str, states_ND: Floats, layers: int) -> View:
    x_ND = np.asarray(states_ND, dtype=np.float64)

    def related(rows: Rows) -> Floats:
        return Relation.fit(x_ND[rows], layers)(x_ND)

    if name == RELATION:
        return View(related, principal_axes)

    def columns(rows: Rows) -> Floats:  # noqa: ARG001 - states have nothing to fit
        return x_ND

    return View(columns, principal_axes)
