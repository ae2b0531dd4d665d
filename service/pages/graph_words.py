"""How far an attribution graph is to be believed, in words: what its check by ablation does not
bear out."""

from __future__ import annotations

from dataclasses import dataclass

from monosemy.figures import fixed, percent
from monosemy.interp.statistics.rates import wilson
from monosemy.specs.graphs import (
    AblationAgreement,
    CheckedPart,
    CircuitSearch,
    CircuitShare,
    GraphCheck,
)

_FEW = 10
_HALF = 0.5
_ROUNDED = 1e-3
_UNTRACED = 0.25


@dataclass(frozen=True)
class Belief:
    """What is said at the top of a check."""

    doubts: list[str]
    """Sentences; none where everything bears the graph out."""
    says: str


def belief(check: GraphCheck, untraced: float = 0.0, rounding: float = 0.0) -> Belief:
    """``untraced`` and ``rounding`` are those of ``GraphSummary``."""
    doubts = [
        *_of_trace(untraced, rounding),
        *_of_part("features", check.nodes),
        *_of_part("edges", check.edges),
        *_of_circuit(check.with_errors),
        *_of_search(check.search),
    ]
    if check.nodes is None and check.edges is None:
        says = "No feature and no edge was ablated."
    elif doubts:
        says = "Do not rely on this graph without a look at the check:"
    else:
        says = (
            "The host model does what the graph predicts: effects are in proportion, their order"
            " and signs agree beyond chance, and the circuit keeps more than random ones."
        )
    return Belief(doubts, says)


def _of_trace(untraced: float, rounding: float) -> list[str]:
    doubts = []
    if untraced > _UNTRACED:
        doubts.append(
            f"{percent(untraced)} of the influence ends in features whose inputs were not traced."
        )
    if rounding > _ROUNDED:
        doubts.append(
            f"Edges into a node miss its value by up to {percent(rounding)} of their mass:"
            " the host ran in less than 32 bits."
        )
    return doubts


def _of_part(what: str, part: CheckedPart | None) -> list[str]:
    if part is None:
        return []
    own = part.strongest
    doubts = []
    if own.n < _FEW:
        doubts.append(f"Only {own.n} {what} were ablated: too few to say much.")
    if own.slope is None:
        doubts.append(f"Of the {what} no slope can be told.")
    elif own.slope.high < _HALF:
        doubts.append(
            f"Ablated {what} change the host by {fixed(own.slope.value)} of what the graph"
            f" predicts, at most {fixed(own.slope.high)}."
        )
    elif own.slope.low > 1 / _HALF:
        doubts.append(
            f"Ablated {what} change the host by {fixed(own.slope.value)} times what the graph"
            " predicts."
        )
    if own.spearman is None or own.spearman.low <= 0:
        doubts.append(f"The order of the effects of {what} is not told apart from chance.")
    if own.same_sign is not None and _sign_low(own) <= _HALF:
        doubts.append(
            f"The signs of {what} agree in {percent(own.same_sign)} of {own.n}, which is not told"
            " apart from chance."
        )
    matched = part.matched.mean_real
    if own.mean_real is not None and matched is not None and own.mean_real <= matched:
        doubts.append(f"The strongest {what} change the host no more than others of like size do.")
    return doubts


def _sign_low(agreement: AblationAgreement) -> float:
    low, _ = wilson(round((agreement.same_sign or 0.0) * agreement.n), agreement.n)
    return low


def _of_search(search: CircuitSearch | None) -> list[str]:
    if search is None or search.features is not None:
        return []
    return [f"Not even all active features keep {fixed(search.wanted)} of the goal."]


def _of_circuit(share: CircuitShare) -> list[str]:
    doubts = []
    if share.kept is not None and share.random_kept and share.kept <= share.random_kept.high:
        doubts.append(
            f"The circuit alone keeps {fixed(share.kept)} of the goal, no more than random circuits"
            f" of as many features (up to {fixed(share.random_kept.high)})."
        )
    if share.lost is not None and share.random_lost and share.lost <= share.random_lost.high:
        doubts.append(
            f"Without the circuit {fixed(share.lost)} of the goal is lost, no more than without"
            f" random ones (up to {fixed(share.random_lost.high)})."
        )
    return doubts
