"""A host in which a name in a prompt is its next token, by known features and a known error."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from monosemy.hosted_sae import HostedSAE
from monosemy.models.host import HostModel
from monosemy.saes.registry import create
from monosemy.specs import TranscoderSpec

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


class _Block(nn.Module):
    def __init__(self, layer: int, affine: bool) -> None:
        super().__init__()
        self.self_attn = _Attention(copies=layer == 1)
        threshold = 50.0 if affine else (-1.0 if layer == 0 else 0.0)
        reads, writes = ((_FIRST, _STATE), (_MOVED, _OUT))[layer]
        self.mlp = _MLP(reads, writes, threshold)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(x)
        return x + self.mlp(x)


class _Core(nn.Module):
    def __init__(self, affine: bool) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(len(TOKENS), WIDTH)
        self.layers = nn.ModuleList([_Block(0, affine), _Block(1, affine)])
        with torch.no_grad():
            self.embed_tokens.weight.zero_()
            self.embed_tokens.weight[:, : len(TOKENS)] = 2 * torch.eye(len(TOKENS))

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        x = self.embed_tokens(input_ids)
        for block in self.layers:
            x = block(x)
        return SimpleNamespace(last_hidden_state=x)


class _Model(nn.Module):
    def __init__(self, affine: bool) -> None:
        super().__init__()
        self.config = PretrainedConfig(
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=1,
            vocab_size=len(TOKENS),
        )
        self.model = _Core(affine)
        self.lm_head = nn.Linear(WIDTH, len(TOKENS), bias=False)
        with torch.no_grad():
            self.lm_head.weight.zero_()
            names = slice(_FIRST, _FIRST + len(NAMES))
            self.lm_head.weight[names, _OUT : _OUT + len(NAMES)] = torch.eye(len(NAMES))

    @property
    def base_model(self) -> nn.Module:
        return self.model

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.lm_head(self.model(input_ids).last_hidden_state))


def planted_host(affine: bool = False) -> HostModel:
    """Block 0 notes each word (latent w: word w), block 1 says the names among them.  ``affine``:
    no neuron is ever off."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({text: at for at, text in enumerate(TOKENS)}, "="))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", unk_token="=")
    return HostModel.wrap(_Model(affine), tokenizer, "planted names")


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
