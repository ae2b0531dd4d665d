"""SAEs of OpenMOSS: Llama Scope of 2024 (``hyperparams.json``), and what their library writes
since (``config.json`` with an ``sae_type``): SAEs, transcoders, cross-layer transcoders and
crosscoders.

They are trained on activations scaled to a norm of ``sqrt(d)``, which is folded in here, of each
place by its own factor; nothing is centred.  Latents may be selected by activation times decoder
norm.  In the files since, thresholds are logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.formats.crosscoder_parts import relu_crosscoder
from monosemy.formats.equivalent import unit_decoder
from monosemy.formats.folder import faults_of, float32, read_json, read_tensors, whole
from monosemy.formats.hub import LLAMA_SCOPE_WEIGHTS
from monosemy.formats.opened import OpenedSAE, Wanted, hooked
from monosemy.formats.transcoder_parts import cross_layer, jump_or_relu, topk
from monosemy.saes.base import SAE

NAME = "llama_scope"
OLD_CONFIG, OLD_WEIGHTS = "hyperparams.json", LLAMA_SCOPE_WEIGHTS
CONFIG, WEIGHTS = "config.json", "sae_weights.safetensors"
_NORM = "dataset_average_activation_norm"
_LOG_THRESHOLD = "activation_function.log_jumprelu_threshold"
_ONE_PLACE = ("sae", "transcoder")

Config = Mapping[str, Any]


def holds(folder: Path) -> bool:
    if (folder / OLD_CONFIG).is_file() and (folder / OLD_WEIGHTS).is_file():
        return True
    return (
        (folder / CONFIG).is_file()
        and (folder / WEIGHTS).is_file()
        and "sae_type" in read_json(folder / CONFIG)
    )


def open_folder(folder: Path, wanted: Wanted) -> OpenedSAE:
    """The SAE, transcoder, cross-layer transcoder or crosscoder in a folder.

    ``DataError`` for what is selected by rank over a batch or over layers (there is no threshold to
    take instead), for other kinds (Lorsa, gated encoders), and for tensors that do not fit.
    """
    del wanted
    with faults_of(folder):
        if (folder / OLD_CONFIG).is_file():
            sae, metadata = _of_2024(folder)
        else:
            sae, metadata = _since(folder)
        return OpenedSAE(sae, metadata, NAME)


def _of_2024(folder: Path) -> tuple[SAE, dict[str, Any]]:
    config = read_json(folder / OLD_CONFIG)
    tensors = float32(read_tensors(folder / OLD_WEIGHTS))
    weights = {
        "W_enc": tensors["encoder.weight"].T,
        "b_enc": tensors["encoder.bias"],
        "W_dec": tensors["decoder.weight"].T,
        "b_dec": tensors["decoder.bias"],
    }
    reads, writes = (_hook(config, f"hook_point_{end}") for end in ("in", "out"))
    norms = config.get(_NORM)
    if not isinstance(norms, Mapping):
        raise KeyError(_NORM)
    d_in, d_out = len(weights["W_enc"]), weights["W_dec"].shape[-1]
    factors = _factor(norms.get("in"), d_in), _factor(norms.get("out"), d_out)
    _refuse(config, "act_fn", ("jumprelu",))
    _refuse(config, "apply_decoder_bias_to_pre_encoder", (False,))
    # In units of the activations themselves.
    threshold = torch.tensor([_number(config["jump_relu_threshold"]) * factors[0]])
    sae = jump_or_relu(weights, threshold, transcodes=reads != writes)
    sae.rescale(*factors)
    return sae, hooked(reads, writes, l0=config.get("top_k"))


def _since(folder: Path) -> tuple[SAE, dict[str, Any]]:
    config = read_json(folder / CONFIG)
    tensors = float32(read_tensors(folder / WEIGHTS))
    kind = config.get("sae_type")
    _refuse(config, "use_glu_encoder", (False,))
    _refuse(config, "norm_activation", ("dataset-wise", "inference"))
    if kind in _ONE_PLACE:
        return _one_place(config, tensors)
    if kind == "clt":
        return _cross_layer(config, tensors)
    if kind == "crosscoder":
        return _crosscoder(config, tensors)
    raise DataError(f"its sae_type is {kind!r}; known are sae, transcoder, clt and crosscoder.")


def _one_place(config: Config, tensors: Mapping[str, Tensor]) -> tuple[SAE, dict[str, Any]]:
    reads, writes = (_hook(config, f"hook_point_{end}") for end in ("in", "out"))
    weights = {"W_enc": tensors["W_E"], "b_enc": tensors["b_E"], "W_dec": tensors["W_D"]}
    d_out = weights["W_dec"].shape[-1]
    weights["b_dec"] = tensors["b_D"] if "b_D" in tensors else torch.zeros(d_out)
    if config.get("sparsity_include_decoder_norm", True):
        weights |= unit_decoder(weights)
    transcodes, act = reads != writes, config.get("act_fn", "relu")
    if act == "topk":
        sae = topk(weights, whole(config, "top_k"), transcodes)
    elif act in ("relu", "jumprelu"):
        threshold = tensors[_LOG_THRESHOLD].exp() if act == "jumprelu" else None
        sae = jump_or_relu(weights, threshold, transcodes)
    else:
        raise DataError(f"its act_fn is {act!r}, and files of it say no threshold.", _CONVERT)
    if config.get("norm_activation", "dataset-wise") == "dataset-wise":
        places = ((reads, sae.d_in), (writes, sae.d_out))
        sae.rescale(*(_stored_factor(tensors, place, width) for place, width in places))
    return sae, hooked(reads, writes)


_CONVERT = "Convert it to JumpReLU with their library, and import that."


def _cross_layer(config: Config, tensors: Mapping[str, Tensor]) -> tuple[SAE, dict[str, Any]]:
    act = config.get("act_fn", "relu")
    if act not in ("relu", "jumprelu"):
        raise DataError(f"its act_fn is {act!r}, and files of it say no threshold.", _CONVERT)
    reads, writes = (_hooks(config, f"hook_points_{end}") for end in ("in", "out"))
    layers = len(reads)
    into = [tensors[f"W_D.{m}"] for m in range(layers)]
    for m, rows in enumerate(into):
        if rows.dim() != 3 or len(rows) != m + 1:
            raise DataError(f"W_D.{m} {list(rows.shape)} has not a matrix for each layer to {m}.")
    decoders = [
        torch.stack([into[m][layer] for m in range(layer, layers)], 1) for layer in range(layers)
    ]
    encoders, biases = list(tensors["W_E"]), list(tensors["b_E"])
    limits: list[Tensor | None] = [None] * layers
    if act == "jumprelu":
        limits = list(tensors[_LOG_THRESHOLD].exp())
        if config.get("sparsity_include_decoder_norm", True):
            for layer, rows in enumerate(decoders):
                own = {"W_enc": encoders[layer], "b_enc": biases[layer], "W_dec": rows.flatten(1)}
                unit = unit_decoder(own)
                encoders[layer], biases[layer] = unit["W_enc"], unit["b_enc"]
                decoders[layer] = unit["W_dec"].view_as(rows)
    outputs = [tensors[f"b_D.{m}"] for m in range(layers)]
    sae = cross_layer(encoders, biases, decoders, outputs, limits)
    if config.get("norm_activation", "dataset-wise") == "dataset-wise":
        sae.rescale(
            _stored_factors(tensors, reads, sae.d_in), _stored_factors(tensors, writes, sae.d_out)
        )
    return sae, hooked(reads, writes)


def _crosscoder(config: Config, tensors: Mapping[str, Tensor]) -> tuple[SAE, dict[str, Any]]:
    act = config.get("act_fn", "relu")
    if act != "relu":
        raise DataError(
            f"its act_fn is {act!r}, so that a latent may fire at one place and not at another: "
            "crosscoders here have one activation for all places."
        )
    places = _hooks(config, "hook_points")
    sae = relu_crosscoder(tensors["W_E"], tensors["b_E"].sum(0), tensors["W_D"], tensors["b_D"])
    if config.get("norm_activation", "dataset-wise") == "dataset-wise":
        factors = _stored_factors(tensors, places, sae.d_in)
        sae.rescale(factors, factors)
    return sae, hooked(places)


def _stored_factor(tensors: Mapping[str, Tensor], place: str, width: int) -> float:
    return _factor(float(tensors[f"{_NORM}.{place}"]), width)


def _stored_factors(tensors: Mapping[str, Tensor], places: list[str], total: int) -> Tensor:
    """Of each dimension, ``[total]``."""
    width = total // len(places)
    return torch.cat(
        [torch.full((width,), _stored_factor(tensors, place, width)) for place in places]
    )


def _factor(norm: Any, width: int) -> float:
    """What activations of this mean norm are multiplied by."""
    value = _number(norm)
    if not 0 < value < 1e30:
        raise DataError(f"its average activation norm is {value}.")
    return math.sqrt(width) / value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _hook(config: Config, key: str) -> str:
    name = config[key]
    if not isinstance(name, str):
        raise ValueError(f"{key} is {name!r}, no place")
    return _place(name)


def _hooks(config: Config, key: str) -> list[str]:
    names = config[key]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError(f"{key} is no list of places")
    return [_place(name) for name in names]


def _place(name: str) -> str:
    """TransformerLens calls the stream before the norm ``hook_mlp_in``."""
    return name.replace(".hook_mlp_in", ".hook_resid_mid")


def _refuse(config: Config, key: str, known: tuple[Any, ...]) -> None:
    if key in config and config[key] not in known:
        names = " or ".join(repr(each) for each in known)
        raise DataError(f"its {key} is {config[key]!r}; only {names} is known here.")
