"""An SAE that learned nothing, as sparse as one that did: what explanations must beat.

Random directions of real activations can be explained, and score, better than one thinks (random
transformers do: arXiv 2501.17727).  So a run is compared with the same run on this SAE:

1. ``random_weights(sae, x_ND)`` with some ten thousand activations of the site
   (``monosemy.stages.activations`` reads them; more where features fire on fewer than 1e-3 of the
   tokens);
2. ``save_sae`` (``monosemy.formats.saelens``) writes it into a folder, which an ``import`` run
   takes in under a name of its own;
3. ``index``, ``explain`` and ``score`` runs name it, with the specs that the real SAE had;
4. the report takes its scores as ``Extras.reference`` and says P(score > random SAE's).

The twin of ``training.frozen_decoder_baseline`` is a harder one to beat: its decoder is random, but
its encoder was trained to make the best of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.saes.base import SAE, fired_counts
from monosemy.saes.jumprelu import JumpReLUSAE
from monosemy.specs import JumpReLUSpec

_BLOCK_ELEMENTS = 16_000_000
"""Pre-activations that exist at once."""


@torch.no_grad()
def random_weights(like: SAE, x_ND: Tensor, seed: int = 0) -> JumpReLUSAE:
    """A JumpReLU SAE with random unit directions in which latent i fires on as many of the tokens
    ``x_ND`` ``[n, d_in]`` as latent i of ``like`` does.

    So L0 and the whole distribution of densities are those of ``like`` (on these tokens exactly,
    where no two pre-activations are equal), and the same features are chosen and sampled.  Encoder
    and decoder hold the same directions, the decoder's bias is that of ``like``.  A latent that
    never fires here has a threshold that none of these tokens reaches.  Time O(n d d_sae), memory
    bounded.  Raises ``DataError`` where it transcodes (it reconstructs another site) and without
    tokens.
    """
    if like.transcodes:
        raise DataError(
            "An SAE that transcodes has no twin with random weights: it writes elsewhere."
        )
    if not len(x_ND):
        raise DataError("The thresholds of random directions need activations.")
    x_ND = x_ND.to(like.device).float()
    n = len(x_ND)
    counts_F = _firings(like, x_ND)
    twin = JumpReLUSAE(JumpReLUSpec(d_sae=like.d_sae), like.d_in).to(like.device)
    twin.initialise(torch.Generator().manual_seed(seed))
    twin.b_dec.copy_(like.b_dec)
    centred_ND = x_ND - like.b_dec
    typical = float(centred_ND.norm(dim=1).mean().clamp_min(1e-12))
    step = max(1, _BLOCK_ELEMENTS // n)
    for first in range(0, like.d_sae, step):
        block = slice(first, first + step)
        sorted_NB = (centred_ND @ twin.W_enc[:, block]).sort(dim=0, descending=True).values
        counts_B = counts_F[block]
        cut_B = _cuts(sorted_NB, counts_B, typical)
        # A threshold is positive: a latent that fires on most tokens is shifted upwards.
        least = 1e-3 * typical
        shift_B = (least - cut_B).clamp_min(0.0)
        twin.b_enc[block] = shift_B
        twin.log_threshold[block] = (cut_B + shift_B).log()
    return twin.requires_grad_(False)


def _cuts(sorted_NB: Tensor, counts_B: Tensor, typical: float) -> Tensor:
    """Halfway between the last pre-activation that is to fire and the first that is not, ``[b]``;
    columns descend."""
    n = len(sorted_NB)
    margin = 0.01 * typical
    last_B = sorted_NB.gather(0, (counts_B - 1).clamp_min(0)[None])[0]
    next_B = sorted_NB.gather(0, counts_B.clamp_max(n - 1)[None])[0]
    cut_B = (last_B + next_B) / 2
    cut_B = torch.where(counts_B == 0, sorted_NB[0] + margin, cut_B)
    return torch.where(counts_B == n, sorted_NB[-1] - margin, cut_B)


def _firings(sae: SAE, x_ND: Tensor, step: int = 4096) -> Tensor:
    """On how many tokens each latent fires, int64 ``[d_sae]``."""
    counts_F = torch.zeros(sae.d_sae, dtype=torch.float64, device=sae.device)
    for first in range(0, len(x_ND), step):
        counts_F += fired_counts(sae.encode(x_ND[first : first + step]), sae.d_sae)
    return counts_F.round().long()
