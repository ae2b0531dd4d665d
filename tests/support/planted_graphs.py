"""A graph whose numbers are known, planted in the weights of a host."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monosemy.graphs.prompt import ReplacedPrompt, read_prompt
from monosemy.graphs.replacement import ReplacementModel
from monosemy.hosted_sae import HostedSAE
from monosemy.models.host import HostModel
from monosemy.saes.registry import create
from monosemy.specs import TranscoderSpec
from tests.support.planted_model import PlantedBlock, planted_model_host

BOS, DALLAS, CAPITAL, IS, AUSTIN = range(5)
TOKENS = ("<s>", "Dallas", "capital", "=", "Austin", "river", "stone")
_TOK, _STATE, _COPY, _FLAG, _FLAG_COPY, _OUT, _SCRATCH = 0, 7, 9, 11, 12, 13, 20
_WIDTH, _HEAD = 40, 8


class _Attention(nn.Module):
    """Three heads whose pattern at "=" is given by the tokens; what else they carry is scratch."""

    def __init__(self, planted: bool) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (
            nn.Linear(_WIDTH, 3 * _HEAD, bias=False) for _ in range(3)
        )
        self.o_proj = nn.Linear(3 * _HEAD, _WIDTH, bias=False)
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for layer in (self.q_proj, self.k_proj):
                layer.weight.zero_()
            self.v_proj.weight.copy_(torch.randn(3 * _HEAD, _WIDTH, generator=generator))
            self.o_proj.weight.zero_()
            scratch = torch.randn(_WIDTH - _SCRATCH, 3 * _HEAD, generator=generator)
            self.o_proj.weight[_SCRATCH:] = scratch
            self.v_proj.weight[:, _OUT:_SCRATCH] = 0
            if planted:
                self._plant()

    def _plant(self) -> None:
        patterns = ([0.1, 0.8, 0.05, 0.05], [0.05, 0.03, 0.9, 0.02], [0.2, 0.5, 0.2, 0.1])
        values, out = self.v_proj.weight, self.o_proj.weight
        for head, pattern in enumerate(patterns):
            first = head * _HEAD
            self.q_proj.weight[first, IS] = 0.5
            for token, share in enumerate(pattern):
                self.k_proj.weight[first, token] = math.log(share) / 2 * math.sqrt(_HEAD)
        for place in range(2):  # A: state
            values[place] = 0
            values[place, _STATE + place] = 1
            out[_COPY + place, place] = 1
        values[_HEAD] = 0  # B: the flag
        values[_HEAD, _FLAG] = 1
        out[_FLAG_COPY, _HEAD] = 1
        values[2 * _HEAD] = 0  # C: a little of the token itself
        values[2 * _HEAD, DALLAS] = 0.3
        out[_OUT + DALLAS, 2 * _HEAD] = 1

    def forward(self, hidden_states: Tensor) -> Tensor:
        rows, tokens, _ = hidden_states.shape

        def heads(layer: nn.Module) -> Tensor:
            return layer(hidden_states).view(rows, tokens, 3, _HEAD).transpose(1, 2)

        z = F.scaled_dot_product_attention(
            heads(self.q_proj), heads(self.k_proj), heads(self.v_proj), is_causal=True
        )
        return self.o_proj(z.transpose(1, 2).flatten(2))


class _MLP(nn.Module):
    def __init__(self, neurons: list[tuple[dict[int, float], float, dict[int, float]]]) -> None:
        super().__init__()
        self.up_proj = nn.Linear(_WIDTH, len(neurons))
        self.down_proj = nn.Linear(len(neurons), _WIDTH, bias=False)
        with torch.no_grad():
            for layer in (self.up_proj, self.down_proj):
                layer.weight.zero_()
            for number, (reads, bias, writes) in enumerate(neurons):
                self.up_proj.bias[number] = bias
                for place, weight in reads.items():
                    self.up_proj.weight[number, place] = weight
                for place, weight in writes.items():
                    self.down_proj.weight[place, number] = weight

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.up_proj(x).relu())


_FIRST = [
    ({_TOK + DALLAS: 1.0}, -1.0, {_STATE: 1.5}),
    ({_TOK + CAPITAL: 1.0}, -1.0, {_FLAG: 1.0}),
]
_SECOND = [({_COPY: 1.0, _FLAG_COPY: 1.0}, -1.2, {_OUT + AUSTIN: 2.0})]
_ERROR = [({_TOK + DALLAS: 1.0}, -1.0, {_STATE: 0.25})]


def planted_host() -> HostModel:
    """Two blocks without norms in which "Dallas capital =" leads to Austin by known numbers."""
    blocks = [
        PlantedBlock(_Attention(planted=False), _MLP(_FIRST + _ERROR)),
        PlantedBlock(_Attention(planted=True), _MLP(_SECOND)),
    ]
    every = slice(0, len(TOKENS))
    return planted_model_host("planted", blocks, TOKENS, "stone", _WIDTH, 3, every, _OUT)


def planted_coders(host: HostModel) -> list[HostedSAE]:
    """A transcoder for each block: its MLP, but for a neuron of the first."""
    coders = []
    for layer, neurons in enumerate((_FIRST, _SECOND)):
        made = _MLP(neurons)
        count = max(2, len(neurons))
        sae = create(TranscoderSpec(d_sae=count, k=count), _WIDTH, _WIDTH)
        with torch.no_grad():
            sae.W_enc.zero_()
            sae.W_dec.zero_()
            sae.b_enc.fill_(-1.0)
            sae.b_dec.zero_()
            sae.W_enc[:, : len(neurons)] = made.up_proj.weight.T
            sae.b_enc[: len(neurons)] = made.up_proj.bias
            sae.W_dec[: len(neurons)] = made.down_proj.weight.T
        sae.requires_grad_(False)
        reads, writes = f"blocks.{layer}.hook_resid_mid", f"blocks.{layer}.hook_mlp_out"
        coders.append(HostedSAE.at(host, sae, reads, writes))
    return coders


def planted_prompt() -> ReplacedPrompt:
    """``BOS Dallas capital =``, read by the planted host and its coders."""
    host = planted_host()
    return read_prompt(ReplacementModel(host, planted_coders(host)), [BOS, DALLAS, CAPITAL, IS])
