"""Which things are garbage.  What is not recognised is never garbage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from service.retention.artifacts import Extent, Found, index_of, is_run_id, text_of
from service.retention.references import References
from service.settings import Settings

Verdict = Literal["live", "held", "garbage", "unknown"]
"""``held``: nobody refers to it, but a run that has not ended may come to; ``unknown``: not of a
name that workers give."""

_HOUR, _DAY = 3600.0, 86400.0


@dataclass(frozen=True)
class Rules:
    """Ages in seconds."""

    grace: float
    checkpoints: float
    activations: float | None
    events: float | None

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        def days(number: float | None) -> float | None:
            return None if number is None else number * _DAY

        return cls(
            grace=settings.retention_grace_hours * _HOUR,
            checkpoints=settings.retention_checkpoint_days * _DAY,
            activations=days(settings.retention_activations_days),
            events=days(settings.retention_events_days),
        )


def ripe(rules: Rules, size: Extent, now: float) -> bool:
    """Whether nothing of it was written within the grace period."""
    return now - size.written > rules.grace


def verdict(
    entry: Found,
    references: References,
    ended: Mapping[str, tuple[str, float]],
    rules: Rules,
    kept_texts: frozenset[str] = frozenset(),
) -> Verdict:
    """On anything but its age; ``ended`` as ``ended_runs`` gives it, ``kept_texts`` are those of
    indexes that no worker here made."""
    if references.holds(entry.path) or references.named_by_a_run(entry.name):
        return "live"
    if entry.temporary:
        return "garbage"
    if entry.kind == "saes":
        if not is_run_id(entry.name):
            return "unknown"
        if references.unread and entry.name not in references.saes:
            return "held"
        return _unless(entry.name in references.saes)
    if entry.kind == "indexes":
        return _index(entry, references)
    if entry.kind == "runs":
        return _of_run(entry, ended, rules)
    if entry.kind in ("text", "activations"):
        text_id = text_of(entry.name)
        if text_id is None:
            return "unknown"
        if text_id in references.texts or text_id in kept_texts:
            return "live"
        return "held" if references.unfinished else "garbage"
    return "unknown"


def forgotten_cache(
    entry: Found, references: References, rules: Rules, size: Extent, now: float
) -> bool:
    """Whether it is an activation cache that nobody has read for long; it can be had again."""
    return (
        entry.kind == "activations"
        and text_of(entry.name) is not None
        and rules.activations is not None
        and now - size.read > rules.activations
        and not references.unfinished
    )


def _unless(live: bool) -> Verdict:
    return "live" if live else "garbage"


def _index(entry: Found, references: References) -> Verdict:
    known = index_of(entry.name)
    if known is None:
        return "unknown"
    # Of an SAE that is there a run may still read the index before the current one.
    return "held" if known[0] in references.saes and references.unfinished else "garbage"


def _of_run(entry: Found, ended: Mapping[str, tuple[str, float]], rules: Rules) -> Verdict:
    """A run's folder, or something in it: the curves (.jsonl) stay as long as the run's row."""
    if not is_run_id(entry.name):
        return "unknown"
    if entry.name not in ended:
        return "garbage"
    state, age = ended[entry.name]
    if len(entry.parts) == 2 or entry.parts[-1].endswith(".jsonl") or age < 0:
        return "live"
    return _unless(state != "succeeded" and age < rules.checkpoints)
