"""Rewrites of foreign SAEs into the form that is computed here.

Tensors go by SAELens' names and shapes.  Each rewrite is exact algebra, done in float64, so that
codes and reconstructions stay what they were up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_RESCALED = ("topk", "batchtopk", "matryoshka_batchtopk")
_SHIFTED = ("standard", "jumprelu", "gated", *_RESCALED)


def canonical(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``cfg.json`` and tensors of a SAELens SAE, rewritten where an exact rewrite exists.

    - ``rescale_acts_by_decoder_norm``: the decoder's norms go into the encoder;
    - ``apply_b_dec_to_input = false``: the encoder's bias takes back what subtracting ``b_dec``
      would take away.
    """
    config, tensors = dict(config), dict(tensors)
    architecture = config.get("architecture")
    # The keys are rewritten even where tensors are missing; that is reported later.
    if config.get("rescale_acts_by_decoder_norm") is True and architecture in _RESCALED:
        config["rescale_acts_by_decoder_norm"] = False
        if _fit(tensors, "W_enc", "b_enc", "W_dec"):
            tensors |= unit_decoder(tensors)
    if config.get("apply_b_dec_to_input") is False and architecture in _SHIFTED:
        config["apply_b_dec_to_input"] = True
        if _fit(tensors, "W_enc", "W_dec", "b_dec"):
            tensors |= centred(tensors)
    return config, tensors


def unit_decoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Decoder rows at length 1 and encoder, bias multiplied by their lengths: the same sum, with
    codes in units of the reconstruction.  A row of zeros stays, with an encoder of zeros."""
    norm_F = tensors["W_dec"].double().norm(dim=1)
    return {
        "W_enc": (tensors["W_enc"].double() * norm_F).float(),
        "b_enc": (tensors["b_enc"].double() * norm_F).float(),
        "W_dec": (tensors["W_dec"].double() / norm_F.clamp_min(1e-30)[:, None]).float(),
    }


def centred(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's biases for an input from which ``b_dec`` is subtracted, of an SAE that does not
    subtract it: ``x @ W + b == (x - b_dec) @ W + (b + b_dec @ W)``."""
    shift_F = tensors["b_dec"].double() @ tensors["W_enc"].double()
    return _shifted(tensors, shift_F)


def not_centred(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse."""
    return _shifted(tensors, -(tensors["b_dec"].double() @ tensors["W_enc"].double()))


def _shifted(tensors: Mapping[str, Tensor], shift_F: Tensor) -> dict[str, Tensor]:
    if "b_enc" in tensors:
        return {"b_enc": (tensors["b_enc"].double() + shift_F).float()}
    scale_F = tensors["r_mag"].double().exp()
    return {
        "b_gate": (tensors["b_gate"].double() + shift_F).float(),
        "b_mag": (tensors["b_mag"].double() + shift_F * scale_F).float(),
    }


def _fit(tensors: Mapping[str, Tensor], *names: str) -> bool:
    """Whether the tensors are there and can be multiplied with each other."""
    if any(name not in tensors for name in names):
        return False
    W_enc, W_dec = tensors["W_enc"], tensors["W_dec"]
    if W_enc.dim() != 2 or W_enc.shape != W_dec.shape[::-1]:
        return False
    d_in, d_sae = W_enc.shape
    widths = dict.fromkeys(("b_enc", "b_gate", "b_mag", "r_mag"), d_sae) | {"b_dec": d_in}
    shapes = all(tensors[n].shape == (width,) for n, width in widths.items() if n in tensors)
    return shapes and ("b_enc" in tensors or {"b_gate", "b_mag", "r_mag"} <= tensors.keys())
