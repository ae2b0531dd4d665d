"""A host in which a name in a prompt is its next token, by known features and a known error."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monosemy.hosted_sae import HostedSAE
from monosemy.models.host import HostModel
from monosemy.saes.registry import create
from monosemy.specs import TranscoderSpec
from tests.support.planted_model import PlantedBlock, planted_model_host

NAMES = tuple(f"n{number}" for number in range(6))
FILLERS = tuple(f"f{number}" for number in range(6))
TOKENS = ("<s>", "=", *NAMES, *FILLERS)
_WORDS, _FIRST = len(NAMES) + len(FILLERS), 2
WIDTH = len(TOKENS) + 4 * _WORDS
_STATE = len(TOKENS)
_MOVED = _STATE + _WORDS
_OUT = _MOVED + _WORDS
_SCRATCH = _OUT + _WORDS
WRITTEN = 0.8
"""What of a neuron's output the transcoder of block 0 writes; the rest is its error."""


class _Attention(nn.Module):
    """One head that looks at all tokens alike, and copies the state to other dimensions."""

    def __init__(self, copies: bool) -> None:
        super().__init__()
        self.v_proj = nn.Linear(WIDTH, _WORDS, bias=False)
        self.o_proj = nn.Linear(_WORDS, WIDTH, bias=False)
        with torch.no_grad():
            self.v_proj.weight.zero_()
            self.o_proj.weight.zero_()
            # In block 0 it gives something that nobody reads: sites are proved by what is there.
            reads, writes = (_STATE, _MOVED) if copies else (_FIRST, _SCRATCH)
            self.v_proj.weight[:, reads : reads + _WORDS] = torch.eye(_WORDS)
            self.o_proj.weight[writes : writes + _WORDS] = 4 * torch.eye(_WORDS)

    def forward(self, hidden_states: Tensor) -> Tensor:
        values = self.v_proj(hidden_states)
        seen = torch.arange(1, values.shape[1] + 1, device=values.device)[:, None]
        return self.o_proj(values.cumsum(1) / seen)


class _MLP(nn.Module):
    def __init__(self, reads: int, writes: int, threshold: float) -> None:
        super().__init__()
        self.up_proj = nn.Linear(WIDTH, _WORDS)
        self.down_proj = nn.Linear(_WORDS, WIDTH, bias=False)
        with torch.no_grad():
            self.up_proj.weight.zero_()
            self.down_proj.weight.zero_()
            self.up_proj.bias.fill_(threshold)
            self.up_proj.weight[:, reads : reads + _WORDS] = torch.eye(_WORDS)
            self.down_proj.weight[writes : writes + _WORDS] = torch.eye(_WORDS)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.up_proj(x).relu())


def planted_host(affine: bool = False) -> HostModel:
    """Block 0 notes each word (latent w: word w), block 1 says the names among them.  ``affine``:
    no neuron is ever off."""
    first, second = (50.0, 50.0) if affine else (-1.0, 0.0)
    blocks = [
        PlantedBlock(_Attention(copies=False), _MLP(_FIRST, _STATE, first)),
        PlantedBlock(_Attention(copies=True), _MLP(_MOVED, _OUT, second)),
    ]
    names = slice(_FIRST, _FIRST + len(NAMES))
    return planted_model_host("planted names", blocks, TOKENS, "=", WIDTH, 1, names, _OUT)


def planted_saes(host: HostModel) -> list[HostedSAE]:
    """The transcoders of both blocks, the later one first; that of block 0 writes too little."""
    saes = []
    for layer, mlp in enumerate(block.mlp for block in host.model.model.layers):
        sae = create(TranscoderSpec(d_sae=_WORDS, k=_WORDS), WIDTH, WIDTH)
        with torch.no_grad():
            sae.b_dec.zero_()
            sae.W_enc.copy_(mlp.up_proj.weight.T)
            sae.b_enc.copy_(mlp.up_proj.bias)
            sae.W_dec.copy_(mlp.down_proj.weight.T * (WRITTEN if layer == 0 else 1.0))
        sae.requires_grad_(False)
        reads, writes = f"blocks.{layer}.hook_resid_mid", f"blocks.{layer}.hook_mlp_out"
        saes.append(HostedSAE.at(host, sae, reads, writes))
    return saes[::-1]


def planted_pairs(shuffled: bool = False, patched: bool = True) -> list[dict[str, str]]:
    """Other fillers in the patch, too.  ``shuffled``: asked for names that are in neither."""
    items = []
    for number, name in enumerate(NAMES):
        other = NAMES[(number + 1) % len(NAMES)]
        asked = [NAMES[(number + more) % len(NAMES)] for more in ((2, 3) if shuffled else (0, 1))]
        for place in range(2):
            before, after = FILLERS[number], FILLERS[(number + 2 + place) % len(FILLERS)]
            pair = {"clean": f"{before} {name} {after} =", "answer": f" {asked[0]}"}
            if patched:
                pair["patch"] = f"{after} {other} {before} ="
            items.append({**pair, "wrong": f" {asked[1]}"})
    return items
