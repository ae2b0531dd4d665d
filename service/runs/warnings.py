"""What has to be known before what a run made is relied on, out of its result.

A result may be a plugin's or an earlier version's, so nothing in it is trusted to be of the
expected type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from monosemy.figures import plural
from monosemy.interp.judge_test.result import JudgeTestBrief
from monosemy.specs.run import NO_QUEUE

_BRIEF = TypeAdapter(JudgeTestBrief)
_SHOWN = 3
"""Reasons of failed features that are told."""


def warnings_of(queue: str, result: Mapping[str, Any] | None) -> list[str]:
    """One sentence or two for each; none for a pipeline, whose steps have their own."""
    if not result or queue == NO_QUEUE:
        return []
    own = result.get("warnings")
    warnings = [each for each in own if isinstance(each, str)] if isinstance(own, list) else []
    if stopped := result.get("stopped"):
        warnings.append(f"It ended before all was done: {stopped}")
    known = " ".join(warnings)
    warnings += [
        each for each in _of_judge(result.get("judge_test")) if each.split(": ", 1)[1] not in known
    ]
    return warnings + _of_failures(result)


def _of_judge(data: Any) -> list[str]:
    try:
        warning = _BRIEF.validate_python(data).warning()
    except ValidationError:
        return []
    return [f"The judge's test: {warning}"] if warning else []


def _of_failures(result: Mapping[str, Any]) -> list[str]:
    failed, reasons = result.get("failed"), result.get("failures")
    if not isinstance(failed, int) or failed <= 0:
        return []
    words = f"{plural(failed, 'feature')} could not be done"
    if not isinstance(reasons, Mapping) or not reasons:
        return [f"{words}."]
    distinct = list(dict.fromkeys(str(each) for each in reasons.values()))
    more = " ..." if len(distinct) > _SHOWN else ""
    return [f"{words}: {' '.join(distinct[:_SHOWN])}{more}"]
