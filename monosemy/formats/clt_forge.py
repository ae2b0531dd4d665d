"""Cross-layer transcoders of CLT-Forge: ``clt_cfg.json`` and ``clt_weights.safetensors``, or a
file for each process that trained a part of the latents.

Decoders stand one after the other by the layer that is read, then by that which is written, and
each has a bias of its own, which add up by layer.  Thresholds are logarithms; activations are
scaled by factors that the files hold, which are folded in here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.formats.folder import faults_of, float32, read_json, read_tensors
from monosemy.formats.opened import OpenedSAE, Wanted, hooked
from monosemy.formats.transcoder_parts import cross_layer

NAME = "clt_forge"
CONFIG, WEIGHTS = "clt_cfg.json", "clt_weights.safetensors"
_PART = re.compile(rf"rank(\d+)_{re.escape(WEIGHTS)}")
_OVER_LATENTS = {"W_enc": 2, "b_enc": 1, "W_dec": 1, "log_threshold": 1}
"""Along which dimension the parts are put together; the rest is the same in all."""


def holds(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


def open_folder(folder: Path, wanted: Wanted) -> OpenedSAE:
    """The cross-layer transcoder in a folder; ``DataError`` for one without cross-layer decoders
    and for tensors that do not fit."""
    del wanted
    config = read_json(folder / CONFIG)
    with faults_of(folder, "transcoder"):
        if config.get("cross_layer_decoders") is False:
            raise DataError("its latents write their own layer alone, which is not known of these.")
        return _built(_tensors(folder), config)


def _tensors(folder: Path) -> dict[str, Tensor]:
    parts = {
        int(name[1]): path
        for name, path in ((_PART.fullmatch(path.name), path) for path in folder.iterdir())
        if name is not None
    }
    if not parts:
        return float32(read_tensors(folder / WEIGHTS))
    if sorted(parts) != list(range(len(parts))):
        raise DataError(f"it lacks parts between 0 and {max(parts)}.")
    shards = [float32(read_tensors(parts[rank])) for rank in sorted(parts)]
    whole = dict(shards[0])
    for name, dimension in _OVER_LATENTS.items():
        whole[name] = torch.cat([shard[name] for shard in shards], dim=dimension)
    return whole


def _built(tensors: dict[str, Tensor], config: dict[str, Any]) -> OpenedSAE:
    layers = len(tensors["W_enc"])
    pairs = layers * (layers + 1) // 2
    for name in ("W_dec", "b_dec"):
        if len(tensors[name]) != pairs:
            raise DataError(
                f"{name} {list(tensors[name].shape)} is not of {pairs} pairs of layers."
            )
    source, target = torch.triu_indices(layers, layers)
    biases = torch.zeros(layers, tensors["b_dec"].shape[1]).index_add(0, target, tensors["b_dec"])
    sae = cross_layer(
        list(tensors["W_enc"]),
        list(tensors["b_enc"]),
        [tensors["W_dec"][source == layer].transpose(0, 1) for layer in range(layers)],
        list(biases),
        list(tensors["log_threshold"].exp()),
    )
    ends = ((sae.d_in, "in"), (sae.d_out, "out"))
    sae.rescale(
        *(
            tensors[f"estimated_norm_scaling_factor_{end}"].repeat_interleave(total // layers)
            for total, end in ends
        )
    )
    model = config.get("model_name")
    places = hooked(
        [f"blocks.{layer}.ln2.hook_normalized" for layer in range(layers)],
        [f"blocks.{layer}.hook_mlp_out" for layer in range(layers)],
        model=model if isinstance(model, str) else None,
    )
    return OpenedSAE(sae, places, NAME)
