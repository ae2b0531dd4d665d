"""Figures of an SAE, its frozen-decoder baseline (the twin) beside them.

They come from evaluations and trainings of whatever version: what is no number is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from monosemy.figures import even_percent, fixed, number, signed
from monosemy.specs.readings import BASELINE
from monosemy.specs.rest.saes import SaeSummary


@dataclass(frozen=True)
class Figures:
    """Of an SAE, or of its twin; None where nobody measured it."""

    fvu: float | None = None
    l0: float | None = None
    ce_recovered: float | None = None
    dead: float | None = None
    tokens: int | None = None
    """Trained on."""


@dataclass(frozen=True)
class Measured:
    """The figures that a listing shows."""

    own: Figures
    twin: Figures
    evaluated: bool
    """On held-out text; else they are the training's last."""


@dataclass(frozen=True)
class Listed:
    """An SAE in a listing."""

    sae: SaeSummary
    measured: Measured


@dataclass(frozen=True)
class Row:
    """A line of the evaluation table."""

    name: str
    about: str
    own: str
    twin: str
    difference: str


@dataclass(frozen=True)
class Evaluation:
    rows: list[Row]
    evaluated: bool
    about: str
    """What it was measured on."""


@dataclass(frozen=True)
class _Figure:
    name: str
    key: str
    show: Callable[[float | None], str]
    about: str
    unit: float = 1.0
    """A difference is shown times this."""
    after: str = ""


def _three(value: float | None) -> str:
    return fixed(value, 3)


def _plus(value: float | None) -> str:
    return signed(value, 3)


_ADDED = "ce_added"
"""Not stored: the loss through the SAE less that of the host model alone."""

_FIGURES = (
    _Figure("FVU ↓", "fvu", _three, "Share of the activations' variance that is not explained."),
    _Figure("L0", "l0", number, "Latents that are active on a token."),
    _Figure(
        "CE recovered, zero ↑",
        "ce_recovered_zero",
        even_percent,
        "Of the loss that zeros in place of the activations cost, the share that the SAE saves.",
        100.0,
        " points",
    ),
    _Figure(
        "CE recovered, mean ↑",
        "ce_recovered_mean",
        even_percent,
        "The same with the mean activation in place of zeros.",
        100.0,
        " points",
    ),
    _Figure(
        "loss added ↓", _ADDED, _plus, "Cross-entropy that the SAE adds to the host model, nats."
    ),
    _Figure(
        "CE through it ↓", "ce_sae", _three, "Cross-entropy of the host model through it, nats."
    ),
    _Figure("KL ↓", "kl", _three, "Divergence from the host model without it, nats."),
    _Figure(
        "dead latents ↓",
        "dead_share",
        even_percent,
        "Share of latents that fired on none of these tokens.",
        100.0,
        " points",
    ),
)


def grouped(saes: Iterable[SaeSummary]) -> dict[str, dict[str, list[Listed]]]:
    """By host model, then by the places that they are hooked at."""
    groups: dict[str, dict[str, list[Listed]]] = {}
    for sae in saes:
        places = groups.setdefault(sae.model.name, {})
        places.setdefault(places_of(sae), []).append(Listed(sae, measured(sae.metrics)))
    return groups


def places_of(sae: SaeSummary) -> str:
    """Where it reads and, unless that is the same, writes."""
    reads = [each.site for each in sae.hooks.reads]
    writes = [each.site for each in sae.hooks.writes]
    return ", ".join(reads) + ("" if writes == reads else f" → {', '.join(writes)}")


def measured(metrics: Mapping[str, Any]) -> Measured:
    """Out of ``SaeSummary.metrics``."""
    found, evaluated = _found(metrics)
    own = replace(_figures(found), tokens=_count(metrics.get("tokens")))
    return Measured(own, _figures(part(found, BASELINE)), evaluated)


def evaluation(metrics: Mapping[str, Any]) -> Evaluation:
    """Every figure of the evaluation, else of the training's end; rows are those that are there."""
    own, evaluated = _found(metrics)
    clean = figure(own.get("ce_clean"))
    own, twin = _with_added(own, clean), _with_added(part(own, BASELINE), clean)
    rows = [_row(each, own, twin) for each in _FIGURES if figure(own.get(each.key)) is not None]
    for place, there in part(own, "parts").items():
        shown = _Figure(f"FVU of {place} ↓", "fvu", _three, "Of what is written there alone.")
        rows.append(_row(shown, _mapping(there), part(part(twin, "parts"), place)))
    effective = part(own, "effective_l0")
    if figure(effective.get("l0")) is not None:
        name = f"L0 at PPL-{number(figure(effective.get('percent')))} %"
        about = "Fewest latents per token that raise the perplexity by no more than that."
        rows.append(_row(_Figure(name, "l0", number, about), effective, {}))
    return Evaluation(rows, evaluated, _about(own) if evaluated else "")


def _with_added(found: Mapping[str, Any], clean: float | None) -> Mapping[str, Any]:
    through = figure(found.get("ce_sae"))
    if through is None or clean is None:
        return found
    return {**found, _ADDED: through - clean}


def figure(value: Any) -> float | None:
    """``value`` where it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _row(shown: _Figure, found: Mapping[str, Any], twin: Mapping[str, Any]) -> Row:
    own, other = figure(found.get(shown.key)), figure(twin.get(shown.key))
    difference = "–"
    if own is not None and other is not None:
        by = (own - other) * shown.unit
        size = number(by, 2) if shown.after else shown.show(by)
        difference = f"{'+' * (by > 0 and size != fixed(0, 3))}{size}{shown.after}"
    return Row(shown.name, shown.about, shown.show(own), shown.show(other), difference)


def _found(metrics: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    evaluated = part(metrics, "evaluation")
    return (evaluated, True) if evaluated else (metrics, False)


def _figures(found: Mapping[str, Any]) -> Figures:
    return Figures(
        figure(found.get("fvu")),
        figure(found.get("l0")),
        figure(found.get("ce_recovered_zero")),
        figure(found.get("dead_share")),
    )


def _about(found: Mapping[str, Any]) -> str:
    words = f"On {number(_count(found.get('tokens')))} tokens of held-out documents."
    spliced, clean = _count(found.get("splice_tokens")), figure(found.get("ce_clean"))
    if spliced is None or clean is None:
        return words
    zero, mean = figure(found.get("ce_zero")), figure(found.get("ce_mean"))
    return (
        f"{words} Cross-entropy on {number(spliced)} of them: {fixed(clean, 3)} in the host model "
        f"alone, {fixed(zero, 3)} with zeros and {fixed(mean, 3)} with means in place of the "
        "activations."
    )


def _count(value: Any) -> int | None:
    known = figure(value)
    return None if known is None else int(known)


def part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The mapping under ``name``; an empty one where that is none."""
    return _mapping(values.get(name))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
