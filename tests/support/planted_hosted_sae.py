"""An SAE whose latent 0 raises the logit of one token, in a host model that reads long prompts."""

from __future__ import annotations

from typing import Any

import torch

from monosemy.hosted_sae import HostedSAE
from monosemy.models.host import HostModel
from monosemy.saes import registry
from monosemy.specs import TopKSpec
from tests.support.tiny_models import tiny_model

SITE = "blocks.2.hook_resid_post"


def long_host(tokenizer: Any, architecture: str = "llama") -> HostModel:
    """A tiny model with a context of 2048; its rotary embedding knows no end."""
    model = tiny_model(architecture, len(tokenizer))
    model.config.max_position_embeddings = 2048
    return HostModel.wrap(model, tokenizer, architecture)


def planted_hosted_sae(host: HostModel, token: int, site: str = SITE) -> HostedSAE:
    """Latent 0 reads and writes the direction that raises ``token``; the others are at random."""
    sae = registry.create(TopKSpec(d_sae=16, k=2), host.d_model)
    sae.initialise(torch.Generator().manual_seed(0))
    weights_DV, gain_D = host.unembedding()
    with torch.no_grad():
        sae.W_dec[0] = (weights_DV * gain_D[:, None])[:, token]
        sae.W_dec[0] *= 3.0 / sae.W_dec[0].norm()  # imports need not be normalised
        sae.W_enc[:, 0] = sae.W_dec[0] / 9.0
    return HostedSAE.at(host, sae.to(host.device), site)
