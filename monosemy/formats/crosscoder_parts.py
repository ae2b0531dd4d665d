"""Crosscoders out of the parts that foreign files have."""

from __future__ import annotations

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.formats.equivalent import centred
from monosemy.saes import saelens_keys
from monosemy.saes.crosscoder import BatchTopKCrosscoder, L1Crosscoder
from monosemy.specs import CrosscoderSpec, L1CrosscoderSpec


def relu_crosscoder(W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor) -> L1Crosscoder:
    """Of M places: ``W_enc [M, d, F]``, ``b_enc [F]``, ``W_dec [M, F, d]``, ``b_dec [M, d]``, whose
    input is not centred.  Rows are brought to ``sum |d_m| = sqrt(M)``, the measure used here.

    ``DataError`` for parts that do not fit.
    """
    state, places, d_sae = _state(W_enc, b_enc, W_dec, b_dec)
    spec = saelens_keys.checked_spec(L1CrosscoderSpec, d_sae=d_sae, places=places)
    return saelens_keys.filled(L1Crosscoder, spec, state, len(state["b_dec"]))


def threshold_crosscoder(
    W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor, threshold: float, k: int
) -> BatchTopKCrosscoder:
    """The same of one whose latents fire where activation times ``sum |d_m|`` is above a
    threshold."""
    state, places, d_sae = _state(W_enc, b_enc, W_dec, b_dec)
    state["threshold"] = torch.tensor([threshold / places**0.5], dtype=torch.float64)
    spec = saelens_keys.checked_spec(CrosscoderSpec, d_sae=d_sae, places=places, k=k)
    return saelens_keys.filled(BatchTopKCrosscoder, spec, state, len(state["b_dec"]))


def _state(
    W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor
) -> tuple[dict[str, Tensor], int, int]:
    if W_enc.dim() != 3 or W_dec.shape != (W_enc.shape[0], W_enc.shape[2], W_enc.shape[1]):
        raise DataError(
            f"encoder {list(W_enc.shape)} and decoder {list(W_dec.shape)} are not of the same "
            "places, width and latents."
        )
    places, d, d_sae = W_enc.shape
    if b_enc.shape != (d_sae,) or b_dec.shape != (places, d):
        raise DataError(f"its biases are {list(b_enc.shape)} and {list(b_dec.shape)}.")
    # A row of zeros stays, and its latent writes nothing.
    unit_F = W_dec.double().norm(dim=2).sum(0).clamp_min(1e-30) / places**0.5
    own = {"W_enc": W_enc.flatten(0, 1), "b_enc": b_enc, "b_dec": b_dec.flatten()}
    own |= centred(own)
    state = {
        "W_enc": (own["W_enc"].double() * unit_F).float(),
        "b_enc": (own["b_enc"].double() * unit_F).float(),
        "W_dec": (W_dec.double().transpose(0, 1).flatten(1) / unit_F[:, None]).float(),
        "b_dec": own["b_dec"].float(),
    }
    return state, places, d_sae
