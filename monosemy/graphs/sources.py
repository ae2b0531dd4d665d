"""The sources of a graph in their order: features, errors, tokens, positions, biases."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from monosemy.graphs.names import BIASES
from monosemy.graphs.prompt import ReplacedPrompt


@dataclass(frozen=True)
class Sources:
    """Where each kind of source begins among N of them."""

    features: int
    layers: int
    tokens: int
    positions: bool
    attention: tuple[int, ...] = ()
    """Layers in which an SAE stands for attention; their errors stand behind those of MLPs."""

    @classmethod
    def of(cls, prompt: ReplacedPrompt) -> Sources:
        placed, coded = prompt.position_TD is not None, tuple(prompt.coded_attention)
        return cls(len(prompt.features), prompt.layers, prompt.length, placed, coded)

    @cached_property
    def first_error(self) -> int:
        return self.features

    @cached_property
    def first_token(self) -> int:
        return self.first_error + (self.layers + len(self.attention)) * self.tokens

    @cached_property
    def first_position(self) -> int:
        return self.first_token + self.tokens

    @cached_property
    def first_bias(self) -> int:
        return self.first_position + (self.tokens if self.positions else 0)

    @cached_property
    def first_goal(self) -> int:
        """As many as there are sources: logits stand behind them."""
        return self.first_bias + len(BIASES)

    def bias(self, kind: str) -> int:
        return self.first_bias + BIASES.index(kind)

    def error(self, layer: int, token: int = 0) -> int:
        """Of a layer's MLP."""
        return self.first_error + layer * self.tokens + token

    def attention_error(self, layer: int, token: int = 0) -> int:
        """Of the SAE that stands for a layer's attention."""
        return self.error(self.layers + self.attention.index(layer), token)


@dataclass(frozen=True)
class EdgeRows:
    """Edges of B targets from all N sources, dense: ``value = edges.sum()`` up to rounding."""

    edges_NB: Tensor
    value_B: Tensor
