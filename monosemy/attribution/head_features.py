"""Which features belong to which attention head, and whether a head's features are alike.

A feature of an attention-output SAE (``attn.hook_z``) writes to every head's part of ``z``; how
much it writes to each is read from its decoder row (Kissane et al. 2024, "decoder slices").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.interp.statistics.multiple import adjusted

if TYPE_CHECKING:
    from monosemy.models.host import HostModel

TOP = 10
"""Features by which a head is judged (Kissane et al. look at as many)."""
DRAWS = 1000
"""Random sets of features that a head's own are compared with."""
_AT_ONCE = 2**22
"""Numbers of drawn rows held at a time."""


@dataclass(frozen=True)
class HeadLikeness:
    """The features with the largest share of a head, and how alike what they say there is."""

    head: int
    features: tuple[int, ...]
    """Those of the largest share, the largest first."""
    shares: tuple[float, ...]
    cosine: float
    """Mean cosine between any two of them, of what they add to the logits through this head."""
    random: float
    """The mean of the same over random sets of as many features."""
    p: float
    """Share of random sets that are as alike or more: small where a head's features say like
    things, large where they do not differ from any others in that."""
    q: float
    """``p`` after Benjamini and Hochberg, over the heads."""


def head_shares(W_dec_FZ: Tensor, heads: int) -> Tensor:
    """Share of each head in each decoder row, ``[F, heads]``: norms of the row's parts, divided by
    their sum.  Rows of zeros have shares of 0.  ``DataError`` where the width is not that of so
    many heads."""
    parts_FHd = by_head(W_dec_FZ, heads)
    norms_FH = parts_FHd.norm(dim=-1)
    return norms_FH / norms_FH.sum(dim=1, keepdim=True).clamp_min(1e-30)


def share_entropy(shares_FH: Tensor) -> Tensor:
    """Entropy of the shares in nats, ``[F]``: 0 for a feature of one head, log(heads) for one that
    all heads write alike."""
    return torch.special.entr(shares_FH).sum(dim=1)


def by_head(rows_FZ: Tensor, heads: int) -> Tensor:
    """Vectors at ``attn.hook_z`` as ``[..., heads, d_head]``."""
    width = rows_FZ.shape[-1]
    if heads < 1 or width % heads:
        raise DataError(f"A width of {width} is not that of {heads} heads side by side.")
    return rows_FZ.unflatten(-1, (heads, width // heads))


def logit_bases(host: HostModel, site: str, heads: int) -> Tensor:
    """For each head a matrix ``[heads, d_head, d_head]``, float32 on the CPU: the inner product of
    two parts through it is that of what they add to the logits, centred over the vocabulary.

    Such an effect has as many dimensions as the head, so ``[F, d_vocab]`` is never made.
    ``ModelError`` for a host model without an unembedding.
    """
    W_U_DV, gain_D = host.unembedding()
    folded_DV = W_U_DV.float() * gain_D.float()[:, None]
    folded_DV = folded_DV - folded_DV.mean(dim=1, keepdim=True)
    width = host.site_width(site)
    d_head = width // heads
    bases = torch.empty(heads, d_head, d_head)
    for head in range(heads):
        ours_dZ = torch.zeros(d_head, width)
        ours_dZ[torch.arange(d_head), head * d_head + torch.arange(d_head)] = 1.0
        effect_dV = host.output_directions(site, ours_dZ).float().cpu() @ folded_DV
        gram_dd = (effect_dV @ effect_dV.T).double()
        values_d, vectors_dd = torch.linalg.eigh(gram_dd)
        bases[head] = (vectors_dd * values_d.clamp_min(0).sqrt()).float()
    return bases


def likeness(
    W_dec_FZ: Tensor,
    bases_Hdd: Tensor,
    among_F: Tensor,
    top: int = TOP,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[HeadLikeness]:
    """Each head's ``top`` features among those in ``among_F`` (bool ``[F]``), and how alike they
    are.

    ``bases_Hdd`` as ``logit_bases`` gives them.  A random set is drawn from the same features, and
    judged by the same head.  What a feature adds through a head that hardly matters to it is a
    direction of noise, so random sets are little alike, and a small ``p`` is weaker evidence for
    one meaning than a large one is against it.  ``DataError`` where too few features are left.
    """
    heads = len(bases_Hdd)
    features = among_F.nonzero()[:, 0].cpu()
    if len(features) <= top:
        raise DataError(
            f"There are {len(features)} features that fire; to compare a head's {top} with random "
            "ones there have to be more.",
            "Index more text, or take a larger SAE.",
        )
    shares_FH = head_shares(W_dec_FZ.detach().float().cpu(), heads)[features]
    parts_FHd = by_head(W_dec_FZ.detach().float().cpu()[features], heads)
    drawn = _random_sets(len(features), top, draws, seed)
    measured = []
    for head in range(heads):
        unit_Fd = torch.nn.functional.normalize(parts_FHd[:, head] @ bases_Hdd[head], dim=1)
        share, own = shares_FH[:, head].topk(top)
        cosine = float(_mean_cosine(unit_Fd, own[None])[0])
        random = _mean_cosine(unit_Fd, drawn)
        p = (1 + int((random >= cosine).sum())) / (1 + draws)
        measured.append((head, features[own], share, cosine, float(random.mean()), p))
    q = adjusted([each[-1] for each in measured])
    return [
        HeadLikeness(head, tuple(own.tolist()), tuple(share.tolist()), cosine, random, p, float(q_))
        for (head, own, share, cosine, random, p), q_ in zip(measured, q, strict=True)
    ]


def _random_sets(features: int, size: int, draws: int, seed: int) -> Tensor:
    """``[draws, size]``: different features in each row."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(features, generator=generator)[:size] for _ in range(draws)]
    return torch.stack(rows)


def _mean_cosine(unit_Fd: Tensor, sets_NK: Tensor) -> Tensor:
    """Mean cosine between two different members, of each set ``[N]``; rows of zeros are at a right
    angle to all."""
    size = sets_NK.shape[1]
    squares_F = unit_Fd.square().sum(dim=1)
    step = max(1, _AT_ONCE // (size * unit_Fd.shape[1]))
    results = []
    for part_nK in sets_NK.split(step):
        together = unit_Fd[part_nK].sum(dim=1).square().sum(dim=1)
        own = squares_F[part_nK].sum(dim=1)
        results.append((together - own) / (size * (size - 1)))
    return torch.cat(results)
