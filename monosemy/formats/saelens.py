"""SAE folders as SAELens v6 has them, plus what is ours.

``cfg.json`` and ``sae_weights.safetensors`` are what ``sae_lens.SAE.load_from_disk`` reads, and
``sparsity.safetensors`` the firing rates as it keeps them.  ``provenance.json`` says where the SAE
came from.  Where SAELens' form is another than ours (a BatchTopK SAE is a JumpReLU one there),
``state.safetensors`` holds ours too; where it has no form at all, ``cfg.json`` says ``monosemy.``
and the architecture's name, which SAELens refuses.  Nothing but safetensors and JSON is ever read.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from monosemy.errors import DataError
from monosemy.saes import saelens_keys
from monosemy.saes.base import SAE
from monosemy.saes.batchtopk import BatchTopKSAE
from monosemy.saes.gated import GatedSAE
from monosemy.saes.jumprelu import JumpReLUSAE
from monosemy.saes.matching_pursuit import MatchingPursuitSAE
from monosemy.saes.registry import ARCHITECTURES
from monosemy.saes.relu import ReLUSAE
from monosemy.saes.topk import TopKSAE
from monosemy.specs.architectures import ARCHITECTURES as SPECS

_LEAST_DENSITY = 1e-10
"""Where SAELens' logarithm ends."""

FORMAT_VERSION = "6.0.0"
"""SAELens translates folders without a version, or of an older one, as pre-6 ones."""

_WEIGHTS, _CONFIG, _PROVENANCE = "sae_weights.safetensors", "cfg.json", "provenance.json"
_STATE, _SPARSITY = "state.safetensors", "sparsity.safetensors"
_OURS = "monosemy."
"""Begins the architecture of a ``cfg.json`` that SAELens cannot have written or read."""

_IMPORTS: dict[str, type[SAE]] = {
    "topk": TopKSAE,
    "batchtopk": BatchTopKSAE,
    "standard": ReLUSAE,
    "gated": GatedSAE,
    "jumprelu": JumpReLUSAE,
    "matching_pursuit": MatchingPursuitSAE,
}
"""SAELens' names of what can be read."""
_UNSAFE = (".pt", ".pth", ".bin", ".pkl", ".ckpt")


def save_sae(
    sae: SAE,
    folder: str | Path,
    metadata: Mapping[str, Any],
    provenance: Mapping[str, Any],
    density: Tensor | None = None,
) -> None:
    """Writes ``folder`` whole or not at all; the files of an SAE that is there are replaced.

    ``metadata`` goes into SAELens' own metadata (model_name, hook_name, context_size, ...),
    ``provenance`` into a file of its own; both must be ready for JSON.  ``density``: share of
    tokens on which each latent fires, ``[d_sae]``.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        keys, tensors = _exported(sae)
        save_file(_plain(tensors), str(partial / _WEIGHTS))
        if not _is_state(sae, tensors):
            state = {name: v.detach().cpu().contiguous() for name, v in sae.state_dict().items()}
            save_file(state, str(partial / _STATE))
        if density is not None:
            rates = density.float().cpu().clamp_min(_LEAST_DENSITY).log10()
            save_file({"sparsity": rates}, str(partial / _SPARSITY))
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
    if architecture not in _IMPORTS and not architecture.startswith(_OURS):
        known = ", ".join(_IMPORTS)
        raise DataError(f"{folder} holds a '{architecture}' SAE; known here: {known}.")
    _refuse_old(folder, config)
    weights = _read_weights(folder / _WEIGHTS)
    try:
        if architecture.startswith(_OURS):
            return _from_state(folder, config, weights)
        sae = _IMPORTS[architecture].saelens_import(config, weights)
    except DataError as error:
        raise DataError(f"{folder}: {error}") from None
    except KeyError as error:
        raise DataError(f"{folder} lacks {error} in its configuration or tensors.") from None
    except (TypeError, ValueError) as error:
        raise DataError(f"{folder / _CONFIG} is not a usable configuration: {error}.") from None
    return _own_form(folder, config, weights) or sae


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


def _exported(sae: SAE) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """SAELens' form, or ours where it has none."""
    try:
        return sae.saelens_export()
    except DataError:
        return {"architecture": _OURS + sae.spec.architecture, "d_out": sae.d_out}, sae.state_dict()


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().float().cpu().contiguous() for name, value in tensors.items()}


def _is_state(sae: SAE, tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the state itself, and of numbers that float32 holds."""
    state = sae.state_dict()
    narrow = all(value.dtype == torch.float32 for value in state.values())
    return narrow and state.keys() == tensors.keys()


def _own_form(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> SAE | None:
    """The SAE as our own files have it; None where there are none, or where SAELens' files say
    something else by now."""
    try:
        stored = read_provenance(folder)["sae"]
        state = _read_weights(folder / _STATE) if (folder / _STATE).is_file() else weights
        sae = _filled(stored, state, int(config["d_in"]), None)
        keys, tensors = _exported(sae)
    except (DataError, KeyError, TypeError, ValueError):
        return None
    same = tensors.keys() == weights.keys() and all(
        torch.equal(value.detach().float(), weights[name]) for name, value in tensors.items()
    )
    return sae if same and all(config.get(key) == value for key, value in keys.items()) else None


def _from_state(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> SAE:
    state = _read_weights(folder / _STATE) if (folder / _STATE).is_file() else weights
    stored = read_provenance(folder)["sae"]
    return _filled(stored, state, int(config["d_in"]), int(config["d_out"]))


def _filled(
    stored: Mapping[str, Any], state: Mapping[str, Tensor], d_in: int, d_out: int | None
) -> SAE:
    architecture = stored["architecture"]
    spec = SPECS[architecture].model_validate(stored)
    return saelens_keys.filled(ARCHITECTURES[architecture], spec, state, d_in, d_out)


def _refuse_old(folder: Path, config: Mapping[str, Any]) -> None:
    metadata = config.get("metadata")
    version = metadata.get("sae_lens_version") if isinstance(metadata, Mapping) else None
    major = re.match(r"\d+", str(version))
    if major is None or int(major[0]) < 6:
        raise DataError(
            f"{folder} is no SAELens v6 folder: metadata.sae_lens_version is {version!r}.",
            "Load it with SAELens 6 and save it again.",
        )


def _read_weights(file: Path) -> dict[str, Tensor]:
    folder = file.parent
    if not file.is_file():
        unsafe = sorted(path.name for path in folder.iterdir() if path.suffix in _UNSAFE)
        advice = f"{', '.join(unsafe)}: pickled weights can run code and are never read."
        raise DataError(f"{folder} has no {file.name}.", advice if unsafe else None)
    try:
        tensors = load_file(str(file))
    except (SafetensorError, OSError) as error:
        raise DataError(f"{file} is damaged or no safetensors file: {error}.") from None
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise DataError(f"{file}: {name} holds values that are no numbers.")
    return tensors


def _move(partial: Path, folder: Path) -> None:
    """Renames the whole folder into place; into one that is there, file by file.

    A folder is never emptied: it may hold the baseline's, or be no SAE's folder at all.
    """
    if not folder.exists():
        partial.rename(folder)
        return
    (folder / _CONFIG).unlink(missing_ok=True)  # half an SAE is no SAE
    for name in (_WEIGHTS, _STATE, _SPARSITY, _PROVENANCE, _CONFIG):
        if (partial / name).is_file():
            (partial / name).replace(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


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
