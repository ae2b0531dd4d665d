"""Gemma Scope: JumpReLU SAEs and transcoders of Gemma 2 (``params.npz``) and of Gemma 3
(``params.safetensors``, names in lower case), and the cross-layer transcoders of the latter.

Thresholds are linear, inputs are not centred.  What a folder is of, the names of the folders and of
the repository say: ``layer_12``, ``transcoder``, ``resid_post``; Gemma Scope 2 has a
``config.json`` in most folders.  Its transcoders read the norm's output, gain applied
(``mlp.hook_in``), those of the first release the norm's output without it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.formats.folder import faults_of, float32, read_json, read_tensors
from monosemy.formats.npz import read_npz
from monosemy.formats.opened import OpenedSAE, Wanted, hooked
from monosemy.formats.transcoder_parts import cross_layer, jump_or_relu

NAME = "gemma_scope"
ARRAYS, TENSORS, CONFIG = "params.npz", "params.safetensors", "config.json"
_LAYER = re.compile(r"layer_(\d+)")
_L0 = re.compile(r"average_l0_(\d{1,6})")
_CLT_LAYER = re.compile(r".*layer_(\d+).*\.safetensors")

_PLACES = {
    "resid_post": "hook_resid_post",
    "attn_out": "attn.hook_z",
    "mlp_out": "hook_mlp_out",
    "pt-res": "hook_resid_post",
    "it-res": "hook_resid_post",
    "pt-att": "attn.hook_z",
    "it-att": "attn.hook_z",
    "pt-mlp": "hook_mlp_out",
    "it-mlp": "hook_mlp_out",
}
"""Of SAEs, by what stands in the names of the second release's folders, and of the first's
repositories."""

_MODULES = {
    "pre_feedforward_layernorm.output": "mlp.hook_in",
    "post_feedforward_layernorm.output": "hook_mlp_out",
    "self_attn.o_proj.input": "attn.hook_z",
    "output": "hook_resid_post",
}
"""What ``config.json`` calls the places of a layer."""

_NAMES = {
    "w_enc": "W_enc",
    "w_dec": "W_dec",
    "b_enc": "b_enc",
    "b_dec": "b_dec",
    "threshold": "threshold",
    "affine_skip_connection": "W_skip",
}


def holds(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (ARRAYS, TENSORS)) or bool(_clt_files(folder))


def open_folder(folder: Path, wanted: Wanted) -> OpenedSAE:
    """The SAE, transcoder or cross-layer transcoder in a folder.

    Whether the first release's weights are an SAE or a transcoder only names say: ``transcodes``
    of ``wanted`` decides where it is given.  ``DataError`` for what does not fit.
    """
    with faults_of(folder):
        if not any((folder / name).is_file() for name in (ARRAYS, TENSORS)):
            return _open_clt(folder)
        return _open_one(folder, wanted)


def _open_one(folder: Path, wanted: Wanted) -> OpenedSAE:
    first = (folder / ARRAYS).is_file()
    if first:
        arrays = read_npz(folder / ARRAYS)
        weights = _named({name: torch.from_numpy(array) for name, array in arrays.items()})
    else:
        weights = _named(read_tensors(folder / TENSORS))
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    _check_kind(config)
    says = wanted.transcodes
    if says is None:
        says = _transcodes(folder, config) or "W_skip" in weights
    if "W_skip" in weights:
        weights["W_skip"] = weights["W_skip"].T  # stored as [d_in, d_out]
    sae = jump_or_relu(weights, weights.pop("threshold"), transcodes=says)
    return OpenedSAE(sae, _metadata(folder, config, first, says), NAME)


def _open_clt(folder: Path) -> OpenedSAE:
    files = _clt_files(folder)
    layers = sorted(files)
    if layers != list(range(len(layers))):
        raise DataError(f"it lacks layers between 0 and {layers[-1]}.")
    parts: list[dict[str, Tensor]] = []
    for layer in layers:
        own = _named(read_tensors(files[layer]))
        rows = own["W_dec"]
        if rows.dim() != 3 or rows.shape[1] != len(layers):
            raise DataError(
                f"the decoder of layer {layer} is {list(rows.shape)}; expected [latents, "
                f"{len(layers)}, d]."
            )
        if rows[:, :layer].any():
            raise DataError(f"latents of layer {layer} write layers before it.")
        if "W_skip" in own:
            raise DataError("it has an affine skip connection, which is not known of these.")
        parts.append({**own, "W_dec": rows[:, layer:]})
    columns = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
    W_enc, b_enc, W_dec, b_dec, threshold = ([part[name] for part in parts] for name in columns)
    sae = cross_layer(W_enc, b_enc, W_dec, b_dec, threshold)
    reads = [f"blocks.{layer}.mlp.hook_in" for layer in layers]
    writes = [f"blocks.{layer}.hook_mlp_out" for layer in layers]
    return OpenedSAE(sae, hooked(reads, writes, release=_path(folder)), NAME)


def _clt_files(folder: Path) -> dict[int, Path]:
    """By layer; none where the folder's own name, or that above, does not say ``clt``."""
    if "clt" not in (folder.resolve().name, folder.resolve().parent.name):
        return {}
    names = ((_CLT_LAYER.fullmatch(path.name), path) for path in folder.iterdir())
    return {int(name[1]): path for name, path in names if name is not None}


def _named(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """By our names, in float32; ``DataError`` for a tensor of another name."""
    unknown = [name for name in tensors if name.lower() not in _NAMES]
    if unknown:
        raise DataError(f"its tensor {unknown[0][:100]!r} is unknown.")
    return float32({_NAMES[name.lower()]: value for name, value in tensors.items()})


def _check_kind(config: dict[str, Any]) -> None:
    kind = config.get("architecture", "jump_relu")
    if kind not in ("jump_relu", "jumprelu"):
        raise DataError(f"its architecture is {kind!r}; only 'jump_relu' is known of this release.")


def _path(folder: Path) -> str:
    """The last folders' names: those of a copy of the hub begin with the repository's."""
    return "/".join(folder.resolve().parts[-6:])


def _transcodes(folder: Path, config: dict[str, Any]) -> bool:
    out = config.get("hf_hook_point_out")
    if isinstance(out, str):
        return out != config.get("hf_hook_point_in")
    return "transcoder" in _path(folder)


def _metadata(
    folder: Path, config: dict[str, Any], first: bool, transcodes: bool
) -> dict[str, Any]:
    path = _path(folder)
    layer, l0 = _LAYER.search(path), _L0.search(path)
    more: dict[str, Any] = {"release": path} | ({} if l0 is None else {"l0": int(l0[1])})
    if layer is None:
        return more
    block = f"blocks.{layer[1]}."
    if transcodes:
        reads = "ln2.hook_normalized" if first else "mlp.hook_in"
        return hooked(block + reads, block + "hook_mlp_out", **more)
    kinds = [place for name, place in _PLACES.items() if name in path]
    module = str(config.get("hf_hook_point_in", "")).removeprefix(f"model.layers.{layer[1]}.")
    kind = _MODULES.get(module, kinds[0] if kinds else None)
    return more if kind is None else hooked(block + kind, **more)
