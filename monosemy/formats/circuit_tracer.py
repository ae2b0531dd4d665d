"""Folders of circuit-tracer: a transcoder for each layer, or one cross-layer transcoder.

``config.yaml`` names kind and places; weights lie in ``layer_{l}.safetensors``, or in
``W_enc_{l}.safetensors`` and ``W_dec_{l}.safetensors``.  Encoders are laid out ``[latents, d]``, a
skip connection as ``x @ W_skip.T``, thresholds are linear, and nothing is centred.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from monosemy.errors import DataError
from monosemy.formats.folder import (
    faults_of,
    float32,
    plain,
    read_tensors,
    replacing,
    whole,
    write_tensors,
)
from monosemy.formats.opened import OpenedSAE, Wanted, hooked
from monosemy.formats.transcoder_parts import cross_layer, jump_or_relu, topk
from monosemy.saes.base import SAE
from monosemy.saes.clt import BatchTopKCLT, JumpReLUCLT
from monosemy.specs import TopKSpec, TranscoderSpec
from monosemy.specs.yaml_text import NotYaml, yaml_of

NAME = "circuit_tracer"
CONFIG = "config.yaml"
THRESHOLD = "activation_function.threshold"
_KINDS = ("transcoder_set", "cross_layer_transcoder")
_MOST_YAML = 2**20
_LAYER = re.compile(r"layer_(\d+)\.safetensors")
_ENCODER = re.compile(r"W_enc_(\d+)\.safetensors")

_SITES = {
    "hook_resid_mid": "hook_resid_mid",
    "hook_resid_pre": "hook_resid_pre",
    "hook_resid_post": "hook_resid_post",
    "hook_mlp_in": "hook_resid_mid",  # TransformerLens' name of the stream before the norm
    "mlp.hook_in": "mlp.hook_in",
    "mlp.hook_out": "mlp.hook_out",
    "ln2.hook_normalized": "ln2.hook_normalized",
    "hook_mlp_out": "hook_mlp_out",
}
"""What a layer's places are called there, and here."""


def holds(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and bool(_layers(folder, _LAYER) or _is_clt(folder))


def layers_in(folder: Path) -> list[int]:
    """The layers for each of which the folder holds a transcoder; none of a cross-layer one."""
    return [] if _is_clt(folder) else _layers(folder, _LAYER)


def open_folder(folder: Path, wanted: Wanted) -> OpenedSAE:
    """The transcoder of the layer that is wanted, or the cross-layer one.

    Raises ``DataError`` for a set of which no layer is named, for an activation that is not known
    here, and for tensors that do not fit.
    """
    config = read_config(folder)
    with faults_of(folder, "transcoder"):
        if _is_clt(folder):
            return OpenedSAE(*_open_clt(folder, config), NAME)
        return OpenedSAE(*_open_layer(folder, config, wanted.layer), NAME)


def read_config(folder: Path) -> dict[str, Any]:
    """``config.yaml``; ``DataError`` where it is no mapping of a known kind."""
    file = folder / CONFIG
    if file.stat().st_size > _MOST_YAML:
        raise DataError(f"{file} has more than {_MOST_YAML} bytes.")
    try:
        config = yaml_of(file.read_bytes(), aliases=False)
    except NotYaml as error:
        raise DataError(
            f"{file} is no YAML: {error}{error.place and f' ({error.place})'}."
        ) from None
    if not isinstance(config, Mapping):
        raise DataError(f"{file} holds no mapping.")
    config = plain(config, whole_floats=True)
    kind = config.get("model_kind", _KINDS[0])
    if kind not in _KINDS:
        raise DataError(f"{file}: model_kind is {kind!r}; known are {', '.join(_KINDS)}.")
    return dict(config)


def save_set(saes: Sequence[SAE], folder: str | Path, places: Places) -> None:
    """Writes a folder that circuit-tracer loads: the transcoder of each layer, from the first.

    ``DataError`` for what it cannot express: another architecture than ReLU, JumpReLU and TopK (a
    BatchTopK one is a JumpReLU one there), different widths, an SAE that writes where it reads, and
    TopK beside another.
    """
    written = [_exported(sae) for sae in saes]
    if len({sae.d_sae for sae in saes}) != 1 or len({sae.d_in for sae in saes}) != 1:
        raise DataError("circuit-tracer wants as many latents of one width in every layer.")
    counts = {k for _, k in written}
    if len(counts) != 1:
        raise DataError("circuit-tracer wants one activation function in all layers.")
    (k,) = counts
    config = places.config(_KINDS[0])
    config |= {"activation": "relu"} if k is None else {"activation": "topk", "k": k}
    names = [f"layer_{layer}.safetensors" for layer in range(len(saes))]
    with replacing(folder, (CONFIG, *names)) as partial:
        for name, (tensors, _) in zip(names, written, strict=True):
            write_tensors(partial / name, float32(tensors))
        _write_config(partial, config)


def save_clt(sae: SAE, folder: str | Path, places: Places) -> None:
    """Writes a cross-layer transcoder as circuit-tracer loads one.

    ``DataError`` for one with a skip connection, which its files have no place for.
    """
    if not isinstance(sae, JumpReLUCLT | BatchTopKCLT):
        raise DataError(f"A '{sae.spec.architecture}' SAE is no cross-layer transcoder.")
    if hasattr(sae, "W_skip"):
        raise DataError(
            "circuit-tracer's files have no place for a cross-layer transcoder's skip connection."
        )
    size, width = sae.size, sae.decoder.width
    threshold = sae.threshold if isinstance(sae, JumpReLUCLT) else sae.thresholds()
    names = [f"{kind}_{layer}.safetensors" for layer in range(sae.layers) for kind in _MATRICES]
    with replacing(folder, (CONFIG, *names)) as partial:
        for layer in range(sae.layers):
            latents = torch.arange(layer * size, (layer + 1) * size)
            rows = sae.decoder.rows(latents)[:, layer * width :].unflatten(1, (-1, width))
            encoder = {
                f"W_enc_{layer}": sae.W_enc.T[latents],
                f"b_enc_{layer}": sae.b_enc[latents],
                f"b_dec_{layer}": sae.b_dec[layer * width : (layer + 1) * width],
                f"threshold_{layer}": threshold[latents],
            }
            write_tensors(partial / f"W_enc_{layer}.safetensors", float32(encoder))
            decoder = {f"W_dec_{layer}": rows}
            write_tensors(partial / f"W_dec_{layer}.safetensors", float32(decoder))
        _write_config(partial, places.config(_KINDS[1]))


_MATRICES = ("W_enc", "W_dec")


class Places:
    """Where a set reads and writes, as ``config.yaml`` names it: one name for all layers."""

    def __init__(self, reads: Iterable[str], writes: Iterable[str], model: str) -> None:
        """``DataError`` unless these are one place of each layer, from the first."""
        self.model = model
        self.reads, self.writes = (_one_kind(list(each)) for each in (reads, writes))

    def config(self, kind: str) -> dict[str, Any]:
        return {
            "model_name": self.model,
            "model_kind": kind,
            "feature_input_hook": self.reads,
            "feature_output_hook": self.writes,
        }


def _one_kind(sites: list[str]) -> str:
    kinds = {site.split(".", 2)[2] for site in sites}
    if [site.split(".", 2)[1] for site in sites] != [str(layer) for layer in range(len(sites))]:
        raise DataError(
            "circuit-tracer wants a transcoder for every layer from 0; here they are of "
            f"{', '.join(sites[:4])}{', ...' if len(sites) > 4 else ''}."
        )
    if len(kinds) != 1 or (kind := kinds.pop()) not in _SITES:
        raise DataError(f"circuit-tracer wants one of {', '.join(_SITES)} in every layer.")
    return kind


def _layers(folder: Path, pattern: re.Pattern[str]) -> list[int]:
    names = (pattern.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(name[1]) for name in names if name is not None)


def _is_clt(folder: Path) -> bool:
    return bool(_layers(folder, _ENCODER))


def _site(config: Mapping[str, Any], key: str, layer: int) -> str:
    name = config.get(key)
    if name not in _SITES:
        raise DataError(f"{key} is {name!r}; known are {', '.join(_SITES)}.")
    return f"blocks.{layer}.{_SITES[name]}"


def _metadata(config: Mapping[str, Any], layers: Sequence[int]) -> dict[str, Any]:
    reads, writes = (
        [_site(config, f"feature_{end}_hook", layer) for layer in layers]
        for end in ("input", "output")
    )
    model = config.get("model_name")
    return hooked(reads, writes, model=model if isinstance(model, str) else None)


def _open_layer(
    folder: Path, config: Mapping[str, Any], layer: int | None
) -> tuple[SAE, dict[str, Any]]:
    there = _layers(folder, _LAYER)
    if layer not in there:
        raise DataError(
            f"it holds a transcoder for each of {len(there)} layers, {there[0]} to {there[-1]}"
            + ("" if layer is None else f", none for layer {layer}")
            + ".",
            "Name the layers (layers=0-11), or the site of one.",
        )
    tensors = float32(read_tensors(folder / f"layer_{layer}.safetensors"))
    weights = {"W_enc": _turned(tensors["W_enc"])}
    weights |= {name: tensors[name] for name in ("b_enc", "W_dec", "b_dec")}
    if "W_skip" in tensors:
        weights["W_skip"] = tensors["W_skip"]
    if config.get("activation") == "topk":
        return topk(weights, whole(config, "k")), _metadata(config, [layer])
    sae = jump_or_relu(weights, tensors.get(THRESHOLD))
    return sae, _metadata(config, [layer])


def _open_clt(folder: Path, config: Mapping[str, Any]) -> tuple[SAE, dict[str, Any]]:
    layers = _layers(folder, _ENCODER)
    if layers != list(range(len(layers))):
        raise DataError(f"it lacks layers between 0 and {layers[-1]}.")
    if (folder / "factors.safetensors").is_file() or config.get("activation") == "topk":
        raise DataError("its latents fire by their rank over all layers, which is not known here.")
    encoders, biases, decoders, outputs, limits = [], [], [], [], []
    for layer in layers:
        encoder = float32(read_tensors(folder / f"W_enc_{layer}.safetensors"))
        decoder = float32(read_tensors(folder / f"W_dec_{layer}.safetensors"))
        encoders.append(_turned(encoder[f"W_enc_{layer}"]))
        biases.append(encoder[f"b_enc_{layer}"])
        outputs.append(encoder[f"b_dec_{layer}"])
        decoders.append(decoder[f"W_dec_{layer}"])
        limits.append(encoder.get(f"threshold_{layer}"))
    sae = cross_layer(encoders, biases, decoders, outputs, limits)
    return sae, _metadata(config, layers)


def _turned(matrix: Tensor) -> Tensor:
    if matrix.dim() != 2:
        raise DataError(f"W_enc {list(matrix.shape)} is no matrix.")
    return matrix.T


def _exported(sae: SAE) -> tuple[dict[str, Tensor], int | None]:
    """The tensors of a layer, and the k of a TopK transcoder."""
    if not sae.transcodes:
        raise DataError("circuit-tracer has transcoders alone, and this SAE writes where it reads.")
    if isinstance(sae.spec, TopKSpec | TranscoderSpec) and not sae.spec.ista_steps:
        tensors = {name: getattr(sae, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
        skip = sae.skip_matrix()
        if skip is not None:
            tensors["W_skip"] = skip
        k: int | None = sae.spec.k
    else:
        tensors, k = dict(sae.saelens_export()[1]), None
        if "threshold" in tensors:
            tensors[THRESHOLD] = tensors.pop("threshold")
    known = {"W_enc", "b_enc", "W_dec", "b_dec", "W_skip", THRESHOLD}
    if not tensors.keys() <= known:
        raise DataError(f"circuit-tracer has no form of a '{sae.spec.architecture}' transcoder.")
    return {**tensors, "W_enc": tensors["W_enc"].T}, k


def _write_config(folder: Path, config: Mapping[str, Any]) -> None:
    (folder / CONFIG).write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
