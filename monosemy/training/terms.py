"""The terms of a training run: what must be the same for a checkpoint of it to be gone on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monosemy.changes import listed
from monosemy.errors import DataError
from monosemy.specs import TrainingSpec, TrainRun
from monosemy.training.checkpoint import Header, newest_header

PROCESSES = "processes"
PER_PROCESS = "process-*"
"""Where in a run's folder each process of several keeps its checkpoints."""
_TERMS_SHOWN = 6

_IRRELEVANT = {"checkpoint_seconds", "tracker", "buffer_device"}
"""What of ``training`` a run that goes on from a checkpoint may have otherwise."""


def training_terms(spec: TrainRun) -> dict[str, Any]:
    """What of a spec must be the same for a checkpoint to be gone on from."""
    terms = spec.model_dump(mode="json", exclude={"name"})
    terms["training"] = stream_terms(spec.training)
    plugins = spec.sae.plugins()
    return {**terms, "plugin": plugins[0]} if plugins else terms


def stream_terms(training: TrainingSpec) -> dict[str, Any]:
    """What of ``training`` a checkpoint is bound to.

    A dtype of the buffer that is left to the machine is none of it: the dump leaves it out, and the
    checkpoint says which it was.
    """
    return training.model_dump(mode="json", exclude=_IRRELEVANT)


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested JSON as one level, its keys joined by dots; a list's items have their places."""
    if isinstance(value, Mapping):
        items = [(f"{name}.{key}" if name else str(key), each) for key, each in value.items()]
    elif isinstance(value, list):
        items = [(f"{name}[{place}]", each) for place, each in enumerate(value)]
    else:
        return {name: value}
    return {path: each for key, part in items for path, each in flat(part, key).items()}


def check_terms(
    folder: Path,
    key: str,
    terms: Mapping[str, Any],
    changed_since: Callable[[dict[str, Any]], list[str]] = lambda _: [],
) -> None:
    """``DataError`` where ``folder`` holds checkpoints of a run on other terms than these.

    ``key`` stands for all terms but the number of processes; ``changed_since`` names what of host
    model and text is not as a checkpoint's ``about`` tells.  Nothing is touched: neither are the
    old checkpoints taken for what they are not, nor is a run started that would replace them.
    """
    alone = newest_header(folder)
    several = [h for place in sorted(folder.glob(PER_PROCESS)) if (h := newest_header(place))]
    newest = max([h for h in (alone, *several) if h], key=lambda h: h.step, default=None)
    if newest is None:
        return
    then = newest.terms.get(PROCESSES, 1 if newest is alone else len(several))
    if then != terms[PROCESSES]:
        raise DataError(
            f"{folder} holds checkpoints (step {newest.step}) of a run on {_counted(then)}; now"
            f" it is to run on {_counted(terms[PROCESSES])}.",
            f"Set training.devices to {then} to go on from there. {_start_over(folder)}",
        )
    if newest.key != key:
        raise DataError(
            f"{folder} holds checkpoints (step {newest.step}) of a run on other terms:"
            f" {_differences(newest, terms, changed_since(newest.about))}.",
            f"Give it those terms to go on from there. {_start_over(folder)}",
        )


def _counted(processes: int) -> str:
    return f"{processes} process{'es' if processes > 1 else ''}"


def _start_over(folder: Path) -> str:
    return f"To start over, submit it as another run (in another folder), or delete {folder}."


def _differences(newest: Header, terms: Mapping[str, Any], changes: list[str]) -> str:
    if not newest.terms:
        return "an earlier version of monosemy has not written down which"
    names = [
        name
        for name in sorted({*newest.terms, *terms})
        if newest.terms.get(name) != terms.get(name)
    ]
    changes_shown = [
        f"{name} {newest.terms.get(name)!r} then, {terms.get(name)!r} now"
        for name in names[:_TERMS_SHOWN]
    ]
    if names == ["text_id"]:
        return f"{listed(changes or ['the text, or the host model,'])} changed"
    return "; ".join(
        [
            *changes_shown,
            *([f"{len(names) - _TERMS_SHOWN} more"] if len(names) > _TERMS_SHOWN else []),
        ]
    )
