"""Transcoders and cross-layer transcoders out of the parts that foreign files have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.formats.equivalent import centred
from monosemy.saes import saelens_keys
from monosemy.saes.base import SAE
from monosemy.saes.clt import JumpReLUCLT
from monosemy.saes.jumprelu import JumpReLUSAE, log_threshold
from monosemy.saes.relu import ReLUSAE
from monosemy.saes.topk import TopKSAE
from monosemy.specs import JumpReLUCLTSpec, JumpReLUSpec, ReLUSpec, TopKSpec


def jump_or_relu(
    weights: Mapping[str, Tensor], threshold: Tensor | None, transcodes: bool = True
) -> SAE:
    """An SAE of ``W_enc [d_in, F]``, ``b_enc [F]``, ``W_dec [F, d_out]``, ``b_dec [d_out]`` and
    perhaps ``W_skip [d_out, d_in]``, whose input is not centred.  ``threshold``: ``[F]`` or one
    number, linear; None is a ReLU.

    Raises ``KeyError`` for a part that is missing, ``DataError`` for parts that do not fit.
    """
    own, d_in, d_out = _fitting(weights, transcodes)
    d_sae = len(own["W_dec"])
    skip = {"skip": True} if "W_skip" in own else {}
    if threshold is None:
        spec = saelens_keys.checked_spec(ReLUSpec, d_sae=d_sae, **skip)
        return saelens_keys.filled(ReLUSAE, spec, own, d_in, d_out)
    own["log_threshold"] = _log(threshold, d_sae)
    spec = saelens_keys.checked_spec(JumpReLUSpec, d_sae=d_sae, **skip)
    return saelens_keys.filled(JumpReLUSAE, spec, own, d_in, d_out)


def topk(weights: Mapping[str, Tensor], k: int, transcodes: bool = True) -> SAE:
    """The same of one whose k largest latents fire."""
    own, d_in, d_out = _fitting(weights, transcodes)
    skip = {"skip": True} if "W_skip" in own else {}
    spec = saelens_keys.checked_spec(TopKSpec, d_sae=len(own["W_dec"]), k=k, **skip)
    return saelens_keys.filled(TopKSAE, spec, own, d_in, d_out)


def _fitting(
    weights: Mapping[str, Tensor], transcodes: bool
) -> tuple[dict[str, Tensor], int, int | None]:
    """(weights for an input as it is computed here, d_in, d_out; None where it reads and writes the
    same)."""
    own = dict(weights)
    W_enc, W_dec = own["W_enc"], own["W_dec"]
    if W_enc.dim() != 2 or W_dec.dim() != 2:
        raise DataError(
            f"W_enc {list(W_enc.shape)} and W_dec {list(W_dec.shape)} are to be matrices."
        )
    d_sae, d_out = W_dec.shape
    if transcodes:
        return own, len(W_enc), d_out
    if W_enc.shape != (d_out, d_sae) or own["b_dec"].shape != (d_out,):
        raise DataError("W_enc, W_dec and b_dec do not fit each other.")
    if "W_skip" in own:
        raise DataError("it has a skip connection, and is to write where it reads.")
    return own | centred(own), d_out, None


def cross_layer(
    encoders: Sequence[Tensor],
    biases: Sequence[Tensor],
    decoders: Sequence[Tensor],
    outputs: Sequence[Tensor],
    threshold: Sequence[Tensor | None] | Sequence[Tensor],
) -> JumpReLUCLT:
    """A cross-layer transcoder of L layers: of each an encoder ``[d, F]``, ``b_enc [F]``, a decoder
    ``[F, L - l, d']`` (its own layer first), ``b_dec [d']`` and a linear threshold ``[F]``, None
    for a ReLU.

    Raises ``DataError`` for parts that do not fit.
    """
    layers = len(encoders)
    if any(each.dim() != 2 for each in encoders) or any(each.dim() != 3 for each in decoders):
        raise DataError("its encoders are to be matrices, and its decoders [latents, layers, d].")
    d, size = encoders[0].shape
    width = decoders[0].shape[2]
    for layer, rows in enumerate(decoders):
        if rows.shape != (size, layers - layer, width) or encoders[layer].shape != (d, size):
            raise DataError(
                f"the decoder of layer {layer} is {list(rows.shape)} and its encoder "
                f"{list(encoders[layer].shape)}: expected {[size, layers - layer, width]} and "
                f"{[d, size]}."
            )
    limits = [_log(torch.zeros(1) if each is None else each, size) for each in threshold]
    state = {
        "W_enc": torch.cat(list(encoders), dim=1),
        "b_enc": torch.cat(list(biases)),
        "b_dec": torch.cat(list(outputs)),
        "log_threshold": torch.cat(limits),
    }
    state |= {f"decoder.matrices.{place}": rows.flatten(1) for place, rows in enumerate(decoders)}
    spec = saelens_keys.checked_spec(JumpReLUCLTSpec, d_sae=size * layers, places=layers)
    return saelens_keys.filled(JumpReLUCLT, spec, state, layers * d, layers * width)


def _log(threshold: Tensor, d_sae: int) -> Tensor:
    flat = threshold.float().reshape(-1)
    if len(flat) not in (1, d_sae):
        raise DataError(f"it has {len(flat)} thresholds for {d_sae} latents.")
    return log_threshold(flat).expand(d_sae)
