"""Tiny random host models with random SAEs at several of their sites, for attributions."""

from __future__ import annotations

from typing import Any

import torch

from monosemy.attribution.backwards import Through
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import SAESpec, TopKSpec
from tests.support.tiny_models import tiny_model


def tiny_host_of(architecture: str, tokenizer: Any) -> HostModel:
    """Three blocks of four heads; float32."""
    return HostModel.wrap(tiny_model(architecture, len(tokenizer)), tokenizer, architecture)


def random_sae(width: int, spec: SAESpec | None = None, seed: int = 0) -> SAE:
    """Random directions and random biases."""
    sae = create(spec or TopKSpec(d_sae=3 * width, k=8), width)
    generator = torch.Generator().manual_seed(seed)
    sae.initialise(generator)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            if parameter.ndim == 1 and name != "log_threshold":
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return sae.requires_grad_(False)


def through(host: HostModel, *sites: str) -> list[Through]:
    """A random SAE at each site, numbered from 1."""
    return [
        Through(number, random_sae(host.site_width(site), seed=number), site)
        for number, site in enumerate(sites, start=1)
    ]


def some_ids(host: HostModel, length: int = 14) -> list[int]:
    generator = torch.Generator().manual_seed(11)
    return torch.randint(3, host.d_vocab, (length,), generator=generator).tolist()
