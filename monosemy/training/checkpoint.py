"""Checkpoints: a folder per step, written aside and renamed, the newest readable one wins."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes ``folder/step-N`` so that it is there whole or not at all; keeps the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{checkpoint.step:010d}"
    partial = folder / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    contiguous = {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
    save_file(contiguous, str(partial / "state.safetensors"))
    values = {"step": checkpoint.step, **checkpoint.values}
    (partial / "state.json").write_text(json.dumps(values), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    for old in _steps(folder)[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read whole, or None."""
    for path in _steps(folder):
        try:
            values = json.loads((path / "state.json").read_text(encoding="utf-8"))
            tensors = load_file(str(path / "state.safetensors"))
            return Checkpoint(values.pop("step"), tensors, values)
        except (OSError, ValueError, KeyError, SafetensorError):
            continue  # a damaged one: the one before it will do
    return None


def _steps(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True) if folder.is_dir() else []
