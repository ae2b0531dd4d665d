"""SAE folders as SAELens v6 has them, plus our provenance.

``cfg.json`` and ``sae_weights.safetensors`` are what ``sae_lens.SAE.load_from_disk`` reads;
``provenance.json`` says where the SAE came from.  Nothing but safetensors and JSON is ever read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from monosemy.errors import DataError
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import SAESpec

FORMAT_VERSION = "6.0.0"
"""SAELens translates folders without a version, or of an older one, as pre-6 ones."""

_WEIGHTS = "sae_weights.safetensors"


def save_sae(
    sae: SAE, folder: Path, metadata: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Writes ``folder`` whole or not at all; one that is there is replaced.

    ``metadata`` goes into SAELens' own metadata (model_name, hook_name, context_size, ...).
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    config = {
        "architecture": sae.spec.architecture,
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": FORMAT_VERSION, **metadata},
        **_ARCHITECTURE_KEYS[sae.spec.architecture](sae),
    }
    hook = str(metadata.get("hook_name", ""))
    if hook.endswith("hook_z"):
        config["reshape_activations"] = "hook_z"
    weights = {
        name: value.detach().float().cpu().contiguous() for name, value in sae.state_dict().items()
    }
    save_file(weights, str(partial / _WEIGHTS))
    _write_json(partial / "cfg.json", config)
    _write_json(partial / "provenance.json", {"sae": sae.spec.model_dump(), **provenance})
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def load_sae(folder: str | Path) -> SAE:
    """The SAE in ``folder``, in float32 on the CPU, without gradients.

    Raises ``DataError`` for a folder that is no SAELens v6 folder, holds another architecture than
    those there are, or whose tensors do not fit its configuration.
    """
    folder = Path(folder)
    config = _read_json(folder / "cfg.json")
    try:
        architecture = config["architecture"]
        if architecture not in _ARCHITECTURE_SPECS:
            known = ", ".join(_ARCHITECTURE_SPECS)
            raise DataError(f"{folder} holds a '{architecture}' SAE; known here: {known}.")
        d_in, spec = int(config["d_in"]), _ARCHITECTURE_SPECS[architecture](folder, config)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder / 'cfg.json'} is not a usable SAE configuration: {error}."
        ) from None
    _refuse_unread(folder, config)
    try:
        weights = load_file(str(folder / _WEIGHTS))
    except FileNotFoundError:
        raise DataError(f"{folder} has no {_WEIGHTS}.") from None
    except (SafetensorError, OSError) as error:
        raise DataError(f"{folder / _WEIGHTS} cannot be read: {error}.") from None
    sae = create(spec, d_in)
    expected = {name: tuple(value.shape) for name, value in sae.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if found != expected:
        raise DataError(f"{folder / _WEIGHTS} holds {found}; {expected} was expected.")
    sae.load_state_dict({name: value.float() for name, value in weights.items()})
    return sae.requires_grad_(False)


def read_provenance(folder: str | Path) -> dict[str, Any]:
    """What we wrote beside the weights; ``DataError`` for a folder that is not ours."""
    return _read_json(Path(folder) / "provenance.json")


def _topk_keys(sae: SAE) -> dict[str, Any]:
    return {"k": sae.spec.k, "rescale_acts_by_decoder_norm": False}


def _topk_spec(folder: Path, config: Mapping[str, Any]) -> SAESpec:
    try:
        ours = _read_json(folder / "provenance.json")["sae"]
        return SAESpec.model_validate(ours)
    except (DataError, KeyError, ValueError):  # somebody else's folder
        return SAESpec(architecture="topk", d_sae=int(config["d_sae"]), k=int(config["k"]))


_ARCHITECTURE_KEYS: dict[str, Callable[[SAE], dict[str, Any]]] = {"topk": _topk_keys}
_ARCHITECTURE_SPECS: dict[str, Callable[[Path, Mapping[str, Any]], SAESpec]] = {"topk": _topk_spec}


def _refuse_unread(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuses what SAELens can express and these classes would silently get wrong."""
    wanted = {
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "rescale_acts_by_decoder_norm": False,
    }
    for key, value in wanted.items():
        found = config.get(key, value)
        if found != value:
            raise DataError(f"{folder} has {key} = {found!r}, which is not supported yet.")


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
    file.write_text(json.dumps(data, indent=1, default=_plain) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return str(value)
