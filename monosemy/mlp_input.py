"""One coder at either of the two sites before an MLP: behind the norm's gain and bias, or before.

Between them lies ``x = gain * n + shift``, with ``x`` at ``mlp.hook_in`` and ``n`` at
``ln2.hook_normalized``, so what is trained at one reads the other by other weights exactly
(``SAE.read_affine``):

    W_enc' = W_enc / gain[:, None],  b_enc' = b_enc - (shift / gain) @ W_enc     (n to x)
    W_enc' = gain[:, None] * W_enc,  b_enc' = b_enc + shift @ W_enc              (x to n)

Published sets read one or the other: Gemma Scope's transcoders the first without the gain, its
second release with it.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.models.sites import LN2_NORMALIZED, MLP_IN, Site, parse_site
from monosemy.specs.hooks import Hook

LEAST_GAIN = 1e-3
"""As a share of the largest: below it, what the gain took away cannot be had back."""


@torch.no_grad()
def moved_across_gain(hosted: HostedSAE) -> HostedSAE:
    """The same coder at ``ln2.hook_normalized`` where ``hosted`` reads ``mlp.hook_in`` of that
    block, or the other way round; codes and reconstructions stay what they are.

    Raises ``DataError`` for one that reads elsewhere or reconstructs what it reads, and where the
    gain is so small in some dimension that dividing by it means nothing; ``UnknownSite`` where the
    host model lacks the other site.  ``max_norm``, which is measured at the old site, is dropped.
    """
    layer, kind = parse_site(hosted.site)
    if kind not in (LN2_NORMALIZED, MLP_IN):
        raise DataError(
            f"The coder reads {hosted.site}, which no gain of a norm leads from or to.",
            f"Take one that reads blocks.N.{MLP_IN} or blocks.N.{LN2_NORMALIZED}.",
        )
    if not hosted.hooks.transcodes:
        raise DataError(
            f"The SAE reconstructs {hosted.site} as well, so its decoder would have to move too.",
            "Only a transcoder is moved.",
        )
    norm = hosted.host.norm_before_mlp(layer)
    sae = copy.deepcopy(hosted.sae)
    gain, shift = norm.gain.to(sae.device), norm.shift.to(sae.device)
    if kind == MLP_IN:
        sae.read_affine(gain, shift)
    else:
        least = float(gain.abs().min() / gain.abs().max())
        if not least >= LEAST_GAIN:
            raise DataError(
                f"The norm before the MLP of block {layer} has a gain of {least:.2g} times its "
                f"largest in some dimension: what {MLP_IN} says of it is too little to divide by.",
                f"Leave the coder at {LN2_NORMALIZED}.",
            )
        sae.read_affine(1 / gain, -shift / gain)
    other = LN2_NORMALIZED if kind == MLP_IN else MLP_IN
    hooks = replace(hosted.hooks, reads=(Hook(str(Site(layer, other))),), widths={})
    return HostedSAE(hosted.host, sae, hooks, None, hosted.stored_as)
