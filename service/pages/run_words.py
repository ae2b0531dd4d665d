"""Runs in words: progress, lines of a log, what a run waits for.

``static/lib/runs.js`` says the same of what comes while a page is open.  What a worker reported may
be of a plugin, so nothing is trusted to be of the expected type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from monosemy.errors import SpecError
from monosemy.figures import duration, number
from monosemy.specs import EXPLAINERS, SCORERS, RunSpec, parse_stored_spec
from monosemy.specs.differing import differing
from monosemy.specs.parse import write_spec
from monosemy.specs.parts import JudgeSpec
from monosemy.specs.references import parts_of
from monosemy.specs.rest.runs import RunDetail, RunEventMessage, RunSummary, RunWaiting


@dataclass(frozen=True)
class Progress:
    """Where the stage under way stands."""

    stage: str
    share: float | None
    """Of its total; None where that is not known."""
    text: str


def progress(data: Mapping[str, Any]) -> Progress | None:
    """None where nothing has been reported."""
    done = _figure(data.get("done"))
    if done is None:
        return None
    total = _figure(data.get("total"))
    share = None if not total else min(done / total, 1.0)
    unit = str(data.get("unit", ""))
    text = [f"{number(round(done))} of {number(round(total))}" if total else number(round(done))]
    text[0] += f" {_unit(unit, total or done)}" * bool(unit)
    if rate := _figure(data.get("rate")):
        text.append(f"{number(float(rate))}/s")
    eta = _figure(data.get("eta_seconds"))
    if eta is not None:
        text.append(f"{duration(eta)} left")
    return Progress(str(data.get("stage", "")), share, " · ".join(text))


def took(stage: Mapping[str, Any]) -> str:
    """What a finished stage did, in one line."""
    done, seconds = _figure(stage.get("done")), _figure(stage.get("elapsed_seconds"))
    parts = (
        []
        if done is None
        else [f"{number(round(done))} {_unit(str(stage.get('unit', '')), done)}".strip()]
    )
    if seconds is not None:
        parts.append(f"in {duration(seconds)}")
    if rate := _figure(stage.get("rate")):
        parts.append(f"{number(float(rate))}/s")
    return " · ".join(parts)


def _unit(name: str, count: float) -> str:
    """Units come in the plural."""
    return name.removesuffix("s") if count == 1 else name


def metrics(stage: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a stage measured, by name."""
    given = stage.get("metrics")
    if not isinstance(given, Mapping):
        return []
    return [
        (str(name).replace("_", " "), number(value) if _figure(value) is not None else str(value))
        for name, value in given.items()
    ]


def title(run: RunSummary) -> str:
    words = [run.kind]
    words += [run.subject] if run.subject else []
    words += ["with", run.other] if run.other else []
    words += ["by", run.scorer] if run.scorer else []
    return " ".join(words)


def step(run: RunDetail) -> str:
    """A step's kind; of score runs, of which there may be several, the scorer too."""
    scoring = run.spec.get("scoring")
    scorer = scoring.get("scorer") if isinstance(scoring, Mapping) else None
    return f"{run.kind} ({scorer})" if isinstance(scorer, str) else run.kind


_PURPOSES = {
    "probe": "trying the endpoint",
    "judge_test": "the judge's own test",
    "forecast": "a forecast",
}


def purpose(name: str | None) -> str:
    """What calls to a judge were for."""
    if name is None:
        return "not known any more"
    if name in EXPLAINERS:
        return f"explaining ({name})" if len(EXPLAINERS) > 1 else "explaining"
    return f"scoring ({name})" if name in SCORERS else _PURPOSES.get(name, name)


def line(event: RunEventMessage) -> tuple[str, str]:
    """(how it is to be seen, words) of a log line or a change of state."""
    data = event.data
    if event.type == "log":
        rest = [
            f"{name}={value}"
            for name, value in data.items()
            if name != "message" and not isinstance(value, dict | list)
        ]
        return "log", " ".join([str(data.get("message", "")), *rest])
    state, error = str(data.get("state", "")), data.get("error")
    if data.get("takeover"):
        return "warn", "running again: taken over from a worker that was lost"
    if data.get("interrupted"):
        return "warn", "queued again: its worker had to stop"
    if data.get("retried"):
        return "change", "queued again by hand"
    if state == "queued" and error:
        wait = _figure(data.get("retry_in_seconds"))
        again = "" if wait is None else f", to be tried again in {duration(wait)}"
        return "warn", f"the attempt failed{again}: {error}"
    attempt = data.get("attempt")
    words = f"{state}, attempt {attempt}" if state == "running" and attempt else state
    return (
        "bad" if state == "failed" else "change"
    ), f"{words}: {error}" if error and error != state else words


def waiting(told: RunWaiting) -> str:
    """What a queued run waits for."""
    ahead = told.ahead or 0
    place = (
        "it is next" if not ahead else f"{number(ahead)} {'goes' if ahead == 1 else 'go'} before it"
    )
    busy = f"{number(told.under_way)} under way" if told.under_way else "none under way"
    return {
        "nothing": "It waits for nothing.",
        "turn": f"Waits for a worker of the queue {told.queue}: {place}, {busy}.",
        "time": "An attempt failed; it is tried again soon.",
        "run": "Waits for another run to succeed.",
        "paused queue": f"The queue {told.queue} is paused: {place} once it is resumed.",
        "full queue": f"The queue {told.queue} is as full as it may be: {place}, {busy}.",
        "full key": "Its API key has as many runs under way as it may have.",
    }[told.waits_for]


def elapsed(run: RunSummary) -> float | None:
    """Seconds from its first start to its end; None before that."""
    if run.started_at is None or run.finished_at is None:
        return None
    return (run.finished_at - run.started_at).total_seconds()


def spec_text(spec: Mapping[str, Any], whole: bool = False) -> str:
    """A stored spec as YAML: what differs from the defaults, or all of it."""
    return write_spec(spec if whole else short_spec(spec))


def short_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a stored spec says that is not said anyway; all of it, where no class here reads it."""
    try:
        parsed = parse_stored_spec(dict(spec))
    except SpecError:
        return dict(spec)
    return {"kind": parsed.kind, **differing(parsed)}


def budget(runs: Iterable[RunDetail]) -> float | None:
    """What the judges of these runs may cost together; None where one has no limit or none asks."""
    limits: list[float | None] = []
    for run in runs:
        try:
            spec = parse_stored_spec({"kind": run.kind, **run.spec})
        except SpecError:
            continue
        if isinstance(spec, RunSpec) and spec.needs_judge():
            limits += [judge.budget for _, judge in parts_of(spec, JudgeSpec)]
    if not limits or None in limits:
        return None
    return sum(each for each in limits if each is not None)


def _figure(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
