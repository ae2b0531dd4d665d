"""SAE folders as SAELens v6 has them, plus our provenance.

``cfg.json`` and ``sae_weights.safetensors`` are what ``sae_lens.SAE.load_from_disk`` reads;
``provenance.json`` says where the SAE came from.  Nothing but safetensors and JSON is ever read.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from monosemy.errors import DataError
from monosemy.saes.base import SAE
from monosemy.saes.registry import ARCHITECTURES
from monosemy.specs import SAESpec
from monosemy.specs.architectures import ARCHITECTURES as SPECS

FORMAT_VERSION = "6.0.0"
"""SAELens translates folders without a version, or of an older one, as pre-6 ones."""

_WEIGHTS, _CONFIG, _PROVENANCE = "sae_weights.safetensors", "cfg.json", "provenance.json"
_UNSAFE = (".pt", ".pth", ".bin", ".pkl", ".ckpt")


def save_sae(
    sae: SAE, folder: str | Path, metadata: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Writes ``folder`` whole or not at all; the files of an SAE that is there are replaced.

    ``metadata`` goes into SAELens' own metadata (model_name, hook_name, context_size, ...),
    ``provenance`` into a file of its own; both must be ready for JSON.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        keys, tensors = sae.saelens_export()
        weights = {name: v.detach().float().cpu().contiguous() for name, v in tensors.items()}
        save_file(weights, str(partial / _WEIGHTS))
        _write_json(partial / _CONFIG, _config(sae, keys, metadata))
        _write_json(partial / _PROVENANCE, {"sae": sae.spec.model_dump(mode="json"), **provenance})
        _move(partial, folder)
    except (OSError, SafetensorError) as error:
        raise DataError(f"Cannot write the SAE to {folder}: {error}.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_sae(folder: str | Path) -> SAE:
    """The SAE in ``folder``, in float32 on the CPU, without gradients.

    Raises ``DataError`` for a folder that is no SAELens v6 folder, holds another architecture than
    those there are, or whose tensors do not fit its configuration.
    """
    folder = Path(folder)
    config = _read_json(folder / _CONFIG)
    architecture = str(config.get("architecture"))
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise DataError(f"{folder} holds a '{architecture}' SAE; known here: {known}.")
    _refuse_old(folder, config)
    weights = _read_weights(folder)
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise DataError(f"{folder / _WEIGHTS}: {name} holds values that are no numbers.")
    try:
        sae = ARCHITECTURES[architecture].saelens_import(config, weights)
    except DataError as error:
        raise DataError(f"{folder}: {error}") from None
    except KeyError as error:
        raise DataError(f"{folder / _CONFIG} lacks {error}.") from None
    except (TypeError, ValueError) as error:
        raise DataError(f"{folder / _CONFIG} is not a usable configuration: {error}.") from None
    sae.spec = _own_spec(folder, sae) or sae.spec
    return sae


def read_provenance(folder: str | Path) -> dict[str, Any]:
    """What we wrote beside the weights; ``DataError`` for a folder that is not ours."""
    return _read_json(Path(folder) / _PROVENANCE)


def _config(sae: SAE, keys: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    hook = str(metadata.get("hook_name", ""))
    return {
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        # SAELens hands over hook_z as [..., heads, d_head]; our activations are flat.
        "reshape_activations": "hook_z" if hook.endswith("hook_z") else "none",
        **keys,
        "metadata": {"sae_lens_version": FORMAT_VERSION, **metadata},
    }


def _own_spec(folder: Path, sae: SAE) -> SAESpec | None:
    """The spec in our provenance, unless there is none or ``cfg.json`` says otherwise."""
    try:
        stored = read_provenance(folder)["sae"]
        spec = SPECS[sae.spec.architecture].model_validate(stored)
    except (DataError, KeyError, ValidationError):
        return None
    keys = sae.saelens_export()[0]
    return spec if type(sae)(spec, sae.d_in, sae.d_out).saelens_export()[0] == keys else None


def _refuse_old(folder: Path, config: Mapping[str, Any]) -> None:
    metadata = config.get("metadata")
    version = metadata.get("sae_lens_version") if isinstance(metadata, Mapping) else None
    major = re.match(r"\d+", str(version))
    if major is None or int(major[0]) < 6:
        raise DataError(
            f"{folder} is no SAELens v6 folder: metadata.sae_lens_version is {version!r}.",
            "Load it with SAELens 6 and save it again.",
        )


def _read_weights(folder: Path) -> dict[str, Tensor]:
    file = folder / _WEIGHTS
    if not file.is_file():
        unsafe = sorted(path.name for path in folder.iterdir() if path.suffix in _UNSAFE)
        advice = f"{', '.join(unsafe)}: pickled weights can run code and are never read."
        raise DataError(f"{folder} has no {_WEIGHTS}.", advice if unsafe else None)
    try:
        return load_file(str(file))
    except (SafetensorError, OSError) as error:
        raise DataError(f"{file} is damaged or no safetensors file: {error}.") from None


def _move(partial: Path, folder: Path) -> None:
    """Renames the whole folder into place; into one that is there, file by file.

    A folder is never emptied: it may hold the baseline's, or be no SAE's folder at all.
    """
    if not folder.exists():
        partial.rename(folder)
        return
    (folder / _CONFIG).unlink(missing_ok=True)  # half an SAE is no SAE
    for name in (_WEIGHTS, _PROVENANCE, _CONFIG):
        (partial / name).replace(folder / name)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file.parent} has no {file.name}.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from None
    if not isinstance(data, dict):
        raise DataError(f"{file} does not hold a JSON object.")
    return data


def _write_json(file: Path, data: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
