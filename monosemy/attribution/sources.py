"""Direct feature attribution: which heads and which tokens an attention-output feature reads from.

Of an SAE on ``attn.hook_z``: the pattern held, its pre-activation is a sum over heads and sources

    pre_i(t) = sum_h sum_s A_h[t, s] v_h(s) . W_enc[h, i]  +  b_V  +  b_enc  -  b_dec . W_enc[:, i],

where ``v`` are the values without their bias, and ``b_V`` is what that adds, wherever a head looks.
It is the pre-activation of the first encoding (``SAE.encoder_rows``).  A table of heads by sources
is made for one token and one feature at a time, ``[H, S]``; nothing of the width of z by sources
exists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.attribution.reading import BlockReading
from monosemy.errors import DataError
from monosemy.models import sites
from monosemy.models.sites import parse_site
from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes


@dataclass(frozen=True)
class Sources:
    """One feature at one token; all numbers are summands of ``pre``."""

    token: int
    feature: int
    activation: float
    pre: float
    """The pre-activation of the first encoding."""
    by_HS: Tensor
    """``[H, token + 1]``: by head and source, without the values' bias."""
    b_v_H: Tensor
    """What the bias of the values adds through each head."""
    b_enc: float
    b_dec: float
    """``-b_dec . W_enc``; 0 for an SAE that takes its input as it is."""
    direction_Z: Tensor
    """The encoder's row."""

    @property
    def constant(self) -> float:
        """What does not depend on the prompt's tokens, the values' bias left out."""
        return self.b_enc + self.b_dec

    @property
    def rounding(self) -> float:
        """What is missing from the sum of all parts to ``pre``."""
        parts = self.by_HS.double().sum() + self.b_v_H.double().sum()
        return self.pre - float(parts) - self.constant


def attention_layer(site: str, width: int, heads: int | None) -> int:
    """The block whose ``attn.hook_z`` an SAE reads; ``DataError`` for any other site."""
    place = parse_site(site)
    if place.kind != sites.Z:
        raise DataError(
            f"The SAE reads {site}, which has no heads.",
            f"Take one that was trained on blocks.{place.layer}.{sites.Z}.",
        )
    if heads is None or width % heads:
        raise DataError(f"The host model does not show its heads at {site}.")
    return place.layer


def feature_sources(
    reading: BlockReading, sae: SAE, codes: Codes, wanted: Mapping[int, Sequence[int]]
) -> list[Sources]:
    """Attribution of ``wanted``, features by token, in that order; ``codes`` are those of the whole
    prompt.  Cost: two products of ``[F, H, V]`` by ``[H, S, V]`` for F different features."""
    every = sorted({feature for features in wanted.values() for feature in features})
    if not every:
        return []
    device = reading.z_SZ.device
    latents = torch.tensor(every, device=device)
    rows_FZ, bias_F = sae.encoder_rows(latents)
    rows_FZ, bias_F = rows_FZ.float(), bias_F.float()
    heads, width = reading.block.heads, reading.block.width
    rows_HFV = rows_FZ.view(len(every), heads, width).transpose(0, 1)
    value_HFS = rows_HFV @ reading.value_HSV.transpose(1, 2)
    # Without a norm on values their bias is the same at every source.
    steady = reading.block.value.norm is None
    bias_HSV = reading.bias_HSV[:, :1] if steady else reading.bias_HSV
    bias_HFS = rows_HFV @ bias_HSV.transpose(1, 2)
    centre_F, centred_SZ = _centre(sae, rows_FZ), sae.centre(reading.z_SZ)
    active_SF = codes.of(every)
    place = {feature: number for number, feature in enumerate(every)}
    results = []
    for token, features in wanted.items():
        if not features:
            continue
        chosen = torch.tensor([place[feature] for feature in features], device=device)
        pattern_HS = reading.pattern_HSS[:, token, : token + 1]
        by_HFS = value_HFS[:, chosen, : token + 1] * pattern_HS[:, None]
        b_v_HF = (bias_HFS[:, chosen, : token + 1] * pattern_HS[:, None]).sum(-1)
        own_FZ = rows_FZ[chosen]
        pre_F = own_FZ @ centred_SZ[token] + bias_F[chosen]
        numbers = torch.stack([active_SF[token, chosen], pre_F, bias_F[chosen], centre_F[chosen]])
        for number, (feature, column) in enumerate(zip(features, numbers.T.tolist(), strict=True)):
            results.append(
                Sources(
                    *(token, feature, column[0], column[1]),
                    by_HS=by_HFS[:, number],
                    b_v_H=b_v_HF[:, number],
                    b_enc=column[2],
                    b_dec=column[3],
                    direction_Z=own_FZ[number],
                )
            )
    return results


def _centre(sae: SAE, rows_FZ: Tensor) -> Tensor:
    """What the centring of the input adds to each pre-activation, ``[F]``."""
    nothing = rows_FZ.new_zeros(1, rows_FZ.shape[1])
    return (sae.centre(nothing) @ rows_FZ.T)[0]


def strongest(codes: Codes, token: int, count: int) -> list[int]:
    """The features that fire most at a token, the strongest first, ties by index."""
    firing = [
        (-value, index)
        for index, value in zip(
            codes.indices[token].tolist(), codes.values[token].tolist(), strict=True
        )
        if value > 0
    ]
    return [index for _, index in sorted(firing)[:count]]
