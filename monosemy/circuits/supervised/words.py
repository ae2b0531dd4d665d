"""What task runs find, in sentences.  No torch."""

from __future__ import annotations

from monosemy.figures import fixed, interval, number
from monosemy.specs.rest.tasks import Estimate, Interpretation, TaskResult

TASKS = {"indirect-objects": "Indirect objects", "given": "Prompts of one's own"}
"""Names of tasks as titles."""


def sentences(result: TaskResult, kinds: tuple[str, ...] = ("sae",)) -> list[str]:
    """Which attributes dictionaries of these kinds lack, or have in many pieces."""
    names = {
        each.name for section in result.sections for each in section.methods if each.kind in kinds
    }
    return [
        sentence(each)
        for each in result.interpretations
        if each.method in names and each.verdict in ("occluded", "split")
    ]


def sentence(found: Interpretation) -> str:
    """Of one attribute at one node, with its figures."""
    where = f"{found.method}, {found.site} at {found.position}"
    there = f"the supervised dictionary tells its values (F1 {told(found.supervised)})"
    single = f"single features reach {told(found.single)}, shuffled labels {fixed(found.null)}"
    union = f"unions of {number(found.union_features)} features on average {told(found.union)}"
    if found.verdict == "unread":
        return (
            f"{where}: {found.attribute} is not read here: F1 of the supervised dictionary"
            f" {told(found.supervised)}."
        )
    if found.verdict == "found":
        return f"{where}: {found.attribute} is found: {single}."
    if found.verdict == "split":
        return f"{where}: {found.attribute} is split over many features: {single}; {union}."
    by = f"occluded by {found.by}, whose codes are longer" if found.by else "occluded"
    return f"{where}: {found.attribute} is {by}: {there}, no features do: {single}; {union}."


def told(estimate: Estimate) -> str:
    """A figure with its interval."""
    if estimate.value is None:
        return "–"
    return f"{fixed(estimate.value)} {interval(estimate.low, estimate.high)}"
