"""How many latents per token an SAE needs: PPL-p% sparsity (Luo et al. 2024, "Sparsing Law").

A latent contributes ``activation * decoder row`` to a token's reconstruction.  Contributions below
a threshold are left out, and the threshold is raised until the perplexity of the spliced host
model is p percent above that with all of them.  What is left is the effective L0: SAEs of any
architecture become comparable, however many tiny activations they have.  CETT, the length of what
is left out as a share of the whole, says how much that was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.evals.reconstruction import ROWS_AT_ONCE
from monosemy.evals.splice import Decode
from monosemy.models.columns import WHOLE, Columns
from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from monosemy.training.stream import RowSource

AT_ONCE = 7
"""Thresholds tried in one pass over the tokens."""

ROUNDS = 3
"""Each narrows the search by ``AT_ONCE + 1``: in the end to one in 512 of all contributions."""

PASSES = 1 + ROUNDS * AT_ONCE
"""Spliced passes over the tokens in all."""

Losses = Callable[[Sequence[Decode]], list[float]]
"""Cross-entropies of the host model with each of these in place of the activations."""


def contributions(sae: SAE, codes: Codes) -> Tensor:
    """Lengths of what each active latent adds, ``[n, k]``; 0 where none is active."""
    return codes.values * sae.decoder_norms()[codes.indices]


def cut(sae: SAE, threshold: float) -> Decode:
    """The SAE without contributions shorter than ``threshold``, as a function of activations."""

    def apply(x_ND: Tensor) -> Tensor:
        inner = x_ND.to(sae.device)
        codes = sae.encode(inner)
        kept = codes.values * (contributions(sae, codes) >= threshold)
        return sae.decode(Codes(codes.indices, kept), inner).to(x_ND.device)

    return apply


@dataclass(frozen=True)
class Contributions:
    """Of a sample of tokens."""

    lengths: Tensor
    """Of all that are not 0, rising."""
    cett: Callable[[float], float]
    """Mean over tokens of ``|sum of contributions below a threshold| / |sum of all|``."""
    tokens: int

    def threshold(self, share: float) -> float:
        """Just above the one that this share of contributions is shorter than: equal ones go
        together."""
        place = min(int(share * len(self.lengths)), len(self.lengths) - 1)
        return float(torch.nextafter(self.lengths[place], torch.tensor(torch.inf)))

    def l0(self, threshold: float) -> float:
        """Contributions per token that are at least so long."""
        return int((self.lengths >= threshold).sum()) / self.tokens


@torch.no_grad()
def sample_contributions(
    sae: SAE,
    source: RowSource,
    rows: npt.NDArray[np.int64],
    max_tokens: int,
    columns: Columns = WHOLE,
) -> Contributions:
    """Those of the first ``max_tokens`` usable tokens of ``rows``."""
    parts: list[Tensor] = []
    tokens = 0
    for start in range(0, len(rows), ROWS_AT_ONCE):
        if tokens >= max_tokens:
            break
        acts_ND, _ = source.rows(rows[start : start + ROWS_AT_ONCE])
        parts.append(columns.reads(acts_ND)[columns.usable(acts_ND)])
        tokens += len(parts[-1])
    x_ND = torch.cat(parts)[:max_tokens].to(sae.device)
    codes = sae.encode(x_ND)
    lengths = contributions(sae, codes)

    @torch.no_grad()
    def cett(threshold: float) -> float:
        out = codes.values * (lengths < threshold)
        left = sae.decode_without_bias(Codes(codes.indices, out)).norm(dim=1)
        whole = sae.decode_without_bias(codes).norm(dim=1)
        return float((left / whole.clamp_min(1e-12)).mean())

    there = lengths[lengths > 0].cpu().sort().values
    return Contributions(there, cett, len(x_ND))


def effective_l0(sae: SAE, sample: Contributions, losses: Losses, percent: float) -> dict[str, Any]:
    """``percent``, ``l0`` (latents per token that are needed), ``l0_whole``, ``threshold``,
    ``cett``, ``ce_whole`` and ``ce_cut`` (nats); ``l0`` is 0 where the host model does as well
    without any.

    The loss is taken to rise with the threshold, as it does but for noise.
    """
    (whole,) = losses([cut(sae, 0.0)])
    result = {"percent": percent, "l0_whole": sample.l0(0.0), "ce_whole": whole}
    if not len(sample.lengths):
        return {**result, "l0": 0.0, "threshold": 0.0, "cett": 0.0, "ce_cut": whole}
    limit = whole + math.log1p(percent / 100)
    good, bad, ce_cut = 0.0, 1.0, whole
    for _ in range(ROUNDS):
        step = (bad - good) / (AT_ONCE + 1)
        shares = [good + step * (i + 1) for i in range(AT_ONCE)]
        cut_losses = losses([cut(sae, sample.threshold(share)) for share in shares])
        for share, loss in zip(shares, cut_losses, strict=True):
            if loss > limit:
                bad = share
                break
            good, ce_cut = share, loss
    threshold = sample.threshold(good) if good else 0.0
    return {
        **result,
        "l0": sample.l0(threshold),
        "threshold": threshold,
        "cett": sample.cett(threshold),
        "ce_cut": ce_cut,
    }
