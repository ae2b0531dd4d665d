"""What the processes of a training run on several devices share: a folder of files.

``job.json`` says what to do; checkpoints, readings and the result come out of it; the file ``stop``
asks to write a checkpoint and end, ``error.json`` says why the run failed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from monosemy.errors import DataError, ModelError, MonosemyError
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import ModelSpec, TrainingSpec, TrainRun, parse_stored_spec
from monosemy.specs.readings import stored_reading
from monosemy.training.sae_training import TrainedSAE
from monosemy.workspace import Workspace

_JOB, _STOP, _SAVED, _ERROR = "job.json", "stop", "saved", "error.json"
_TENSORS, _RESULT = "result.safetensors", "result.json"
_SAES = ("sae", "baseline")
_ERRORS = {kind.__name__: kind for kind in (DataError, ModelError, MonosemyError)}


@dataclass(frozen=True)
class Job:
    """What the processes are to do; ``folder`` holds everything they share."""

    folder: Path
    specs: list[TrainRun]
    stream: TrainingSpec
    host: ModelSpec
    """Which host model to load: that of the specs, in a dtype that all processes agree on."""
    workspace: Workspace
    text_id: str | None = None
    """Names text and host model as the run has read them: all processes must find the same."""


def write_job(job: Job) -> None:
    """Writes ``job.json`` into the job's folder."""
    job.folder.mkdir(parents=True, exist_ok=True)
    data = {
        "specs": [spec.model_dump(mode="json") for spec in job.specs],
        "stream": job.stream.model_dump(mode="json"),
        "host": job.host.model_dump(mode="json"),
        "workspace": str(job.workspace.root),
        "text_id": job.text_id,
    }
    (job.folder / _JOB).write_text(json.dumps(data), encoding="utf-8")


def read_job(folder: Path) -> Job:
    """``DataError`` where there is none, or it does not validate."""
    try:
        data = json.loads((folder / _JOB).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / _JOB} cannot be read: {error}.") from None
    specs = [parse_stored_spec(spec) for spec in data["specs"]]
    return Job(
        folder,
        [spec for spec in specs if isinstance(spec, TrainRun)],
        TrainingSpec(**data["stream"]),
        ModelSpec(**data["host"]),
        Workspace(data["workspace"]),
        data.get("text_id"),
    )


def clear(folder: Path) -> None:
    """Removes what an earlier attempt has left but its checkpoints."""
    for name in (_STOP, _SAVED, _ERROR, _TENSORS, _RESULT):
        (folder / name).unlink(missing_ok=True)


def ask_to_stop(folder: Path) -> None:
    (folder / _STOP).touch()


def stop_asked(folder: Path) -> bool:
    return (folder / _STOP).exists()


def note_saved(folder: Path) -> None:
    """A process has saved its state since it was asked to stop: all have, as they stop together."""
    (folder / _SAVED).touch()


def has_saved(folder: Path) -> bool:
    return (folder / _SAVED).exists()


def write_error(folder: Path, error: MonosemyError) -> None:
    """The first process to fail is the one whose reason counts."""
    fields = {"kind": type(error).__name__, "message": error.message, "advice": error.advice}
    try:
        with (folder / _ERROR).open("x", encoding="utf-8") as stream:
            json.dump(fields, stream)
    except FileExistsError:
        pass


def read_error(folder: Path) -> MonosemyError | None:
    """What ``write_error`` left; None where nothing was."""
    try:
        fields = json.loads((folder / _ERROR).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return _ERRORS.get(fields["kind"], MonosemyError)(fields["message"], fields["advice"])


def write_result(folder: Path, trained: Sequence[TrainedSAE]) -> None:
    """Leaves the SAEs for ``read_result``; the last file appears whole or not at all."""
    tensors: dict[str, Tensor] = {}
    values: list[dict[str, Any]] = []
    for number, each in enumerate(trained):
        saes = {"sae": each.sae} | ({"baseline": each.baseline} if each.baseline else {})
        for name, sae in saes.items():
            for key, value in sae.state_dict().items():
                tensors[f"{number}.{name}.{key}"] = value.contiguous()
        tensors[f"{number}.density"] = each.density
        size = {"d_in": each.sae.d_in, "d_out": each.sae.d_out if each.sae.transcodes else None}
        history = [reading.model_dump(mode="json") for reading in each.history]
        values.append({**size, "metrics": each.metrics, "history": history})
    save_file(tensors, str(folder / _TENSORS))
    unfinished = folder / f"{_RESULT}.part"
    unfinished.write_text(json.dumps(values), encoding="utf-8")
    unfinished.replace(folder / _RESULT)


def has_result(folder: Path) -> bool:
    """Whether ``write_result`` came to its end."""
    return (folder / _RESULT).exists()


def read_result(job: Job) -> list[TrainedSAE]:
    """What ``write_result`` left, once: the files are removed."""
    tensors = load_file(str(job.folder / _TENSORS))
    values = json.loads((job.folder / _RESULT).read_text(encoding="utf-8"))
    trained = []
    for number, (spec, stored) in enumerate(zip(job.specs, values, strict=True)):
        saes = {name: _rebuilt(spec, stored, tensors, f"{number}.{name}.") for name in _SAES}
        sae = saes["sae"]
        assert sae is not None
        density = tensors[f"{number}.density"]
        history = [stored_reading(reading) for reading in stored["history"]]
        trained.append(TrainedSAE(sae, saes["baseline"], stored["metrics"], history, density))
    for name in (_TENSORS, _RESULT):
        (job.folder / name).unlink()
    return trained


def _rebuilt(
    spec: TrainRun, size: dict[str, Any], tensors: dict[str, Tensor], prefix: str
) -> SAE | None:
    state = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    if not state:
        return None
    sae = create(spec.sae, size["d_in"], size["d_out"])
    sae.load_state_dict(state)
    return sae.requires_grad_(False)
