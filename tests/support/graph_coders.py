"""Sets of random coders of a tiny host, for graphs."""

from __future__ import annotations

import torch

from monosemy.graphs.replacement import ReplacementModel
from monosemy.hosted_sae import HostedSAE
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import TranscoderSpec
from monosemy.specs.hooks import Hooks

SETS = ("plain", "skip", "across")


def read_site(host: HostModel, layer: int) -> str:
    """What the MLP reads of the stream; in parallel blocks there is no middle."""
    middle = f"blocks.{layer}.hook_resid_mid"
    return middle if middle in host.sites() else f"blocks.{layer}.hook_resid_pre"


def random_coder(
    d_in: int, d_out: int, skip: bool = False, seed: int = 0, d_sae: int = 48, k: int = 5
) -> SAE:
    """Random directions, biases and skip."""
    sae = create(TranscoderSpec(d_sae=d_sae, k=k, skip=skip), d_in, d_out)
    generator = torch.Generator().manual_seed(seed)
    sae.initialise(generator)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
            if name == "W_skip":
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return sae.requires_grad_(False)


def transcoders(
    host: HostModel, layers: list[int] | None = None, skip: bool = False, k: int = 5
) -> list[HostedSAE]:
    """One for each of the layers."""
    width = host.d_model
    return [
        HostedSAE.at(
            host,
            random_coder(width, width, skip, layer, k=k),
            read_site(host, layer),
            f"blocks.{layer}.hook_mlp_out",
        )
        for layer in (range(host.n_layers) if layers is None else layers)
    ]


def cross_layer(host: HostModel, skip: bool = True, each: int = 24) -> HostedSAE:
    """A coder of all layers: latents of layer l read there and write all from l on."""
    layers, width = host.n_layers, host.d_model
    coder = random_coder(layers * width, layers * width, skip, 7, layers * each, 4 * layers)
    with torch.no_grad():
        for layer in range(layers):
            mine, part = slice(layer * each, (layer + 1) * each), slice(layer * width, None)
            read = torch.zeros(layers * width, dtype=torch.bool)
            read[layer * width : (layer + 1) * width] = True
            coder.W_enc[:, mine][~read] = 0
            coder.W_dec[mine, : part.start] = 0
            if skip:
                coder.W_skip[: layer * width, read] = 0
                coder.W_skip[(layer + 1) * width :, read] = 0
    reads = [read_site(host, layer) for layer in range(layers)]
    writes = [f"blocks.{layer}.hook_mlp_out" for layer in range(layers)]
    return HostedSAE(host, coder, Hooks.at(reads, writes))


def replacement(host: HostModel, which: str) -> ReplacementModel:
    """By the name of a set in ``SETS``."""
    if which == "across":
        return ReplacementModel(host, [cross_layer(host)])
    return ReplacementModel(host, transcoders(host, skip=which == "skip"))
