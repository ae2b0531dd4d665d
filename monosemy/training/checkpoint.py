"""Checkpoints: a folder per step, written aside and renamed, the newest sound one wins."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from monosemy.errors import DataError
from monosemy.progress import SILENT, Reporter

_CHECKPOINTS_KEPT = 2
_TENSORS, _VALUES = "state.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """The whole state of a run after ``step`` steps; ``key`` says which run it belongs to."""

    step: int
    key: str
    tensors: dict[str, Tensor]
    values: dict[str, Any]
    terms: dict[str, Any] = field(default_factory=dict)
    """What ``key`` stands for, in words, so that an error can name what differs."""
    about: dict[str, Any] = field(default_factory=dict)
    """Host model and text part by part, for the same purpose."""


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself."""

    step: int
    key: str
    terms: dict[str, Any]
    about: dict[str, Any]


def newest_header(folder: Path) -> Header | None:
    """Of the newest checkpoint in ``folder`` whose description can be read; None without any."""
    for path in sorted(_steps(folder), reverse=True):
        try:
            values = json.loads((path / _VALUES).read_text(encoding="utf-8"))
            terms, about = (dict(values.get(name) or {}) for name in ("terms", "about"))
            return Header(int(values["step"]), str(values["key"]), terms, about)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes ``folder/step-N`` so that it is there whole or not at all; keeps the newest two.

    What is there from later steps belongs to a damaged or abandoned run, and goes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{checkpoint.step:010d}"
    partial = folder / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        tensors = {name: value.detach().contiguous() for name, value in checkpoint.tensors.items()}
        save_file(tensors, str(partial / _TENSORS))
        _write_values(partial, checkpoint)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        # safetensors tells of a full disk by its text alone.
        full = "no space left" in str(error).lower()
        advice = "No space is left on that disk: free some" if full else "Make it writable"
        raise DataError(
            f"Cannot write a checkpoint to {folder}: {error}.", f"{advice}, and retry."
        ) from None
    newest_first = sorted(_steps(folder), reverse=True)
    newest = [path for path in newest_first if path.name <= final.name][:_CHECKPOINTS_KEPT]
    for path in newest_first:
        if path not in newest:
            shutil.rmtree(path, ignore_errors=True)


def load_checkpoint(
    folder: Path, key: str, reporter: Reporter = SILENT, at_most: int | None = None
) -> Checkpoint | None:
    """The newest checkpoint of run ``key`` that is sound, or None; those passed over are logged.

    ``at_most`` passes over later steps, too.

    What a process that died while it wrote has left half done is removed: it can be large.
    """
    for leftover in folder.glob(".step-*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)
    damaged = False
    for path in sorted(_steps(folder), reverse=True):
        try:
            values = json.loads((path / _VALUES).read_text(encoding="utf-8"))
            if values["key"] != key:
                reporter.log("checkpoint of another run passed over", checkpoint=path.name)
                continue
            if at_most is not None and values["step"] > at_most:
                continue
            if _checksum(path / _TENSORS) != values["checksum"]:
                raise ValueError("its checksum is wrong")
            tensors = load_file(str(path / _TENSORS))
            terms = values.get("terms") or {}
            return Checkpoint(values["step"], key, tensors, values["values"], terms)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            reporter.log("damaged checkpoint passed over", checkpoint=path.name, error=str(error))
            damaged = True
    if damaged:
        reporter.log("no sound checkpoint is left: training starts over", folder=str(folder))
    return None


def _write_values(partial: Path, checkpoint: Checkpoint) -> None:
    values = {
        "step": checkpoint.step,
        "key": checkpoint.key,
        "checksum": _checksum(partial / _TENSORS),
        "values": checkpoint.values,
        "terms": checkpoint.terms,
        "about": checkpoint.about,
    }
    (partial / _VALUES).write_text(json.dumps(values), encoding="utf-8")
    # On the disk before the rename: else a power cut can leave the name without the data.
    for path in (partial / _TENSORS, partial / _VALUES, partial):
        _sync(path)


def _checksum(file: Path) -> int:
    total = 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            total = zlib.crc32(block, total)
    return total


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _steps(folder: Path) -> list[Path]:
    return list(folder.glob("step-*")) if folder.is_dir() else []
