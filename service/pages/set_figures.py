"""What a run has measured of a set, for its page.

Results are of whatever version: what has not the expected form is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monosemy.specs.part import MOST_LISTED
from monosemy.specs.rest.sets import SetView
from service.pages.sae_figures import figure, part

_REPLACED_BY = {"all": "the SAEs", "mean_ablation": "the mean of each place"}


@dataclass(frozen=True)
class Increase:
    """Of the loss over the clean model's, in nats."""

    increase: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class MemberFigures:
    """Of one SAE of the set."""

    site: str
    target: str
    fvu: float | None
    l0: float | None
    dead_share: float | None
    alone: Increase | None
    """With only its own place replaced."""


@dataclass(frozen=True)
class AllAtOnce:
    """With every place replaced."""

    name: str
    loss: Increase
    kl: float | None
    agreement: float | None


@dataclass(frozen=True)
class SetFigures:
    members: list[MemberFigures]
    all_at_once: list[AllAtOnce]
    """Empty where there are no losses."""
    clean: float | None
    recovered: float | None
    tokens: int
    rows: int


def set_figures(view: SetView) -> SetFigures | None:
    """None for a set that nobody measured."""
    if view.evaluation is None:
        return None
    metrics = view.evaluation.metrics
    members = metrics.get("members")
    known = members[:MOST_LISTED] if isinstance(members, list) else []
    replaced = [(words, part(metrics, name)) for name, words in _REPLACED_BY.items()]
    return SetFigures(
        [_member(each) for each in known if isinstance(each, Mapping)],
        [
            AllAtOnce(words, loss, figure(each.get("kl")), figure(each.get("top1_agreement")))
            for words, each in replaced
            if (loss := _increase(each)) is not None
        ],
        figure(metrics.get("ce_clean")),
        figure(metrics.get("ce_recovered_mean")),
        int(figure(metrics.get("splice_tokens")) or 0),
        int(figure(metrics.get("splice_rows")) or 0),
    )


def _member(given: Mapping[str, Any]) -> MemberFigures:
    site = str(given.get("site"))
    fvu, l0, dead_share = (figure(given.get(name)) for name in ("fvu", "l0", "dead_share"))
    alone = _increase(part(given, "alone"))
    return MemberFigures(site, str(given.get("target") or site), fvu, l0, dead_share, alone)


def _increase(given: Mapping[str, Any]) -> Increase | None:
    increase = figure(given.get("ce_increase"))
    if increase is None:
        return None
    return Increase(increase, figure(given.get("low")), figure(given.get("high")))
