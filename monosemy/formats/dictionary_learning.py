"""Dictionaries of the dictionary_learning package: ``config.json`` and the weights of ``ae.pt``.

``ae.pt`` is a pickle and is never read.  Its owner turns it into safetensors, once, in the folder
where it lies:

    python -c "import torch, safetensors.torch as s; s.save_file({n: t.contiguous() for n, t in
    torch.load('ae.pt', map_location='cpu', weights_only=True).items()}, 'ae.safetensors')"

Known: TopK, BatchTopK, Matryoshka, JumpReLU, Gated and the standard (ReLU) dictionaries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from monosemy.errors import DataError
from monosemy.formats.equivalent import centred
from monosemy.formats.folder import faults_of, float32, read_json, read_tensors
from monosemy.saes import saelens_keys
from monosemy.saes.base import SAE
from monosemy.saes.batchtopk import BatchTopKSAE
from monosemy.saes.gated import GatedSAE
from monosemy.saes.jumprelu import JumpReLUSAE, log_threshold
from monosemy.saes.matryoshka import MatryoshkaSAE
from monosemy.saes.relu import ReLUSAE
from monosemy.saes.topk import TopKSAE
from monosemy.specs import (
    BatchTopKSpec,
    GatedSpec,
    JumpReLUSpec,
    MatryoshkaSpec,
    ReLUSpec,
    TopKSpec,
)

WEIGHTS, CONFIG, PICKLE = "ae.safetensors", "config.json", "ae.pt"

CONVERT = (
    'Convert ae.pt once, in its folder: python -c "import torch, safetensors.torch as s; '
    "s.save_file({n: t.contiguous() for n, t in torch.load('ae.pt', map_location='cpu', "
    "weights_only=True).items()}, 'ae.safetensors')\""
)

_SITES = {
    "resid_pre": "hook_resid_pre",
    "resid_post": "hook_resid_post",
    "mlp_out": "hook_mlp_out",
    "attn_out": "hook_attn_out",
    "attention_out": "hook_attn_out",
}

Tensors = Mapping[str, Tensor]


def load_dictionary(folder: str | Path) -> SAE:
    """The dictionary in ``folder``, in float32 on the CPU, without gradients.

    ``DataError`` where it is of an unknown kind or does not fit, or is a pickle still.
    """
    folder = Path(folder)
    trainer = _trainer(folder)
    kind = str(trainer.get("dict_class", ""))
    if kind not in _KINDS:
        raise DataError(f"{folder} holds a '{kind}'; known here: {', '.join(_KINDS)}.")
    tensors = float32(read_tensors(folder / WEIGHTS, CONVERT))
    with faults_of(folder, "dictionary"):
        return _KINDS[kind](tensors, trainer)


def dictionary_metadata(folder: str | Path) -> dict[str, Any]:
    """What ``config.json`` says of where it was trained: model_name, submodule, layer, and the
    hook_name where the submodule's name gives it."""
    trainer = _trainer(Path(folder))
    named = {"model_name": "lm_name", "submodule": "submodule_name", "layer": "layer"}
    metadata = {
        ours: trainer[theirs] for ours, theirs in named.items() if trainer.get(theirs) is not None
    }
    place = re.fullmatch(r"(\w+?)_layer_(\d+)", str(metadata.get("submodule", "")))
    if place is not None and place[1] in _SITES:
        metadata["hook_name"] = f"blocks.{place[2]}.{_SITES[place[1]]}"
    return metadata


def _trainer(folder: Path) -> Mapping[str, Any]:
    trainer = read_json(folder / CONFIG).get("trainer")
    if not isinstance(trainer, Mapping):
        raise DataError(f"{folder / CONFIG} has no trainer: no dictionary's configuration.")
    return trainer


def _linear(tensors: Tensors, bias: str) -> dict[str, Tensor]:
    """Of two linear layers: encoder ``[latents, d]``, decoder ``[d, latents]``."""
    return {
        "W_enc": _turned(tensors, "encoder.weight"),
        "b_enc": tensors["encoder.bias"],
        "W_dec": _turned(tensors, "decoder.weight"),
        "b_dec": tensors[bias],
    }


def _direct(tensors: Tensors) -> dict[str, Tensor]:
    """Of two matrices as ours are."""
    return {name: tensors[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec")}


def _turned(tensors: Tensors, name: str) -> Tensor:
    value = tensors[name]
    if value.dim() != 2:
        raise DataError(f"{name} {list(value.shape)} is no matrix.")
    return value.T


def _width(own: Tensors) -> tuple[int, int]:
    d_sae, d_in = own["W_dec"].shape
    return d_sae, d_in


def _k(tensors: Tensors, trainer: Mapping[str, Any]) -> int:
    """From the weights, the configuration, or both if they agree."""
    values = {int(value) for value in (tensors.get("k"), trainer.get("k")) if value is not None}
    if not values:
        raise KeyError("k")
    if len(values) > 1:
        raise DataError(f"weights and {CONFIG} disagree about k: {sorted(values)}.")
    return values.pop()


def _uncentred(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """For an encoder that does not subtract the decoder's bias from its input."""
    fits = own["W_enc"].dim() == 2 and own["b_dec"].shape == own["W_enc"].shape[:1]
    return {**own, **centred(own)} if fits else own


def _topk(tensors: Tensors, trainer: Mapping[str, Any]) -> SAE:
    own = _linear(tensors, "b_dec")
    d_sae, d_in = _width(own)
    spec = saelens_keys.checked_spec(TopKSpec, d_sae=d_sae, k=_k(tensors, trainer))
    return saelens_keys.filled(TopKSAE, spec, own, d_in)


def _batchtopk(tensors: Tensors, trainer: Mapping[str, Any]) -> SAE:
    own = _linear(tensors, "b_dec")
    d_sae, d_in = _width(own)
    own["threshold"] = tensors["threshold"].double().reshape(-1)
    spec = saelens_keys.checked_spec(BatchTopKSpec, d_sae=d_sae, k=_k(tensors, trainer))
    return saelens_keys.filled(BatchTopKSAE, spec, own, d_in)


def _matryoshka(tensors: Tensors, trainer: Mapping[str, Any]) -> SAE:
    own = _direct(tensors)
    d_sae, d_in = _width(own)
    own["threshold"] = tensors["threshold"].double().reshape(-1)
    inner = tensors["group_sizes"].long().cumsum(0).tolist()[:-1] or None
    k = _k(tensors, trainer)
    spec = saelens_keys.checked_spec(MatryoshkaSpec, d_sae=d_sae, k=k, prefixes=inner)
    return saelens_keys.filled(MatryoshkaSAE, spec, own, d_in)


def _standard(tensors: Tensors, _trainer: Mapping[str, Any]) -> SAE:
    own = _linear(tensors, "bias")
    d_sae, d_in = _width(own)
    spec = saelens_keys.checked_spec(ReLUSpec, d_sae=d_sae)
    return saelens_keys.filled(ReLUSAE, spec, own, d_in)


def _standard_uncentred(tensors: Tensors, _trainer: Mapping[str, Any]) -> SAE:
    own = _uncentred(_linear(tensors, "decoder.bias"))
    d_sae, d_in = _width(own)
    spec = saelens_keys.checked_spec(ReLUSpec, d_sae=d_sae)
    return saelens_keys.filled(ReLUSAE, spec, own, d_in)


def _gated(tensors: Tensors, _trainer: Mapping[str, Any]) -> SAE:
    own = {
        "W_enc": _turned(tensors, "encoder.weight"),
        "W_dec": _turned(tensors, "decoder.weight"),
        "b_dec": tensors["decoder_bias"],
        "b_gate": tensors["gate_bias"],
        "b_mag": tensors["mag_bias"],
        "r_mag": tensors["r_mag"],
    }
    d_sae, d_in = _width(own)
    spec = saelens_keys.checked_spec(GatedSpec, d_sae=d_sae)
    return saelens_keys.filled(GatedSAE, spec, own, d_in)


def _jumprelu(tensors: Tensors, _trainer: Mapping[str, Any]) -> SAE:
    own = _uncentred(_direct(tensors))
    own["log_threshold"] = log_threshold(tensors["threshold"])
    d_sae, d_in = _width(own)
    spec = saelens_keys.checked_spec(JumpReLUSpec, d_sae=d_sae)
    return saelens_keys.filled(JumpReLUSAE, spec, own, d_in)


_KINDS: dict[str, Callable[[Tensors, Mapping[str, Any]], SAE]] = {
    "AutoEncoderTopK": _topk,
    "BatchTopKSAE": _batchtopk,
    "MatryoshkaBatchTopKSAE": _matryoshka,
    "AutoEncoder": _standard,
    "AutoEncoderNew": _standard_uncentred,
    "GatedAutoEncoder": _gated,
    "JumpReluAutoEncoder": _jumprelu,
}
"""By the name of the class, which the trainer's configuration keeps."""
