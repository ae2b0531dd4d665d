"""A host of planted blocks: each token has a dimension of its own at first, and others say it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from monosemy.models.host import HostModel


class PlantedBlock(nn.Module):
    """Attention and an MLP that add to the stream, without norms."""

    def __init__(self, self_attn: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.self_attn, self.mlp = self_attn, mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(x)
        return x + self.mlp(x)


class _Core(nn.Module):
    def __init__(self, blocks: Sequence[PlantedBlock], tokens: int, width: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(tokens, width)
        self.layers = nn.ModuleList(blocks)
        with torch.no_grad():
            self.embed_tokens.weight.zero_()
            self.embed_tokens.weight[:, :tokens] = 2 * torch.eye(tokens)

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        x = self.embed_tokens(input_ids)
        for block in self.layers:
            x = block(x)
        return SimpleNamespace(last_hidden_state=x)


class _Model(nn.Module):
    def __init__(self, blocks: Sequence[PlantedBlock], tokens: int, width: int, heads: int) -> None:
        super().__init__()
        self.config = PretrainedConfig(
            hidden_size=width,
            num_hidden_layers=len(blocks),
            num_attention_heads=heads,
            vocab_size=tokens,
        )
        self.model = _Core(blocks, tokens, width)
        self.lm_head = nn.Linear(width, tokens, bias=False)
        nn.init.zeros_(self.lm_head.weight)

    @property
    def base_model(self) -> nn.Module:
        return self.model

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.lm_head(self.model(input_ids).last_hidden_state))


def planted_model_host(
    name: str,
    blocks: Sequence[PlantedBlock],
    tokens: Sequence[str],
    unknown: str,
    width: int,
    heads: int,
    spoken: slice,
    out: int,
) -> HostModel:
    """A host whose prompts are words of ``tokens`` (the first is its BOS); logits of the tokens
    ``spoken`` are the dimensions from ``out`` on."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model = _Model(blocks, len(tokens), width, heads)
    count = len(tokens[spoken])
    with torch.no_grad():
        model.lm_head.weight[spoken, out : out + count] = torch.eye(count)
    backend = Tokenizer(models.WordLevel({text: at for at, text in enumerate(tokens)}, unknown))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=tokens[0], unk_token=unknown
    )
    return HostModel.wrap(model, tokenizer, name)
