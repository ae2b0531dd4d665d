"""Attention behind a stored graph: which heads carry an edge, and why a head looks where it looks;
as the API takes and gives it, and as the inference server does."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from monosemy.specs.graphs import GraphGoals, TopLogits
from monosemy.specs.hooks import MOST_PLACES
from monosemy.specs.inference.answer import Answer
from monosemy.specs.inference.graph_steering import MOST_GRAPH_TOKENS, GraphPrompt
from monosemy.specs.part import Latent, Part

NodeNumber = Annotated[int, Field(ge=0, lt=2**31)]
Token = Annotated[int, Field(ge=0, lt=MOST_GRAPH_TOKENS)]
Number = Annotated[int, Field(ge=0, lt=10_000)]
Branch = Literal["attention", "mlp"]
PlaceKind = Literal["feature", "error", "token", "position", "logit"]
SourceKind = Literal["feature", "error", "token", "position", "bias", "head", "rounding", "other"]


class GraphHeadsRequest(Part):
    """An edge of a graph, or what a node gets from a token."""

    target: NodeNumber
    """Number of a feature's node, or of a goal's."""
    source: NodeNumber | None = None
    """Number of the node that feeds it: a feature, an error, a token or a position."""
    token: Token | None = None
    """Or a token of the prompt, from 0: what heads bring from the stream there, whatever made
    it."""
    top: int = Field(20, ge=1, le=1000)
    """Heads that are told, the largest first."""

    @model_validator(mode="after")
    def _a_source_or_a_token(self) -> Self:
        if (self.source is None) == (self.token is None):
            raise ValueError("give source or token")
        return self


class GraphScoreRequest(Part):
    """A head's score between two tokens of a graph's prompt."""

    layer: Number
    head: Number
    token: Token
    """The token that looks, from 0."""
    source: Token
    """The token that it looks at: the same or an earlier one."""
    listed: int = Field(20, ge=1, le=200)
    """Pairs that are told, and sources of either side."""


class GraphPlace(Part):
    """A node of a graph by what it is, so that another reading of the prompt finds it."""

    kind: PlaceKind
    branch: Branch = "mlp"
    layer: Number = 0
    position: Token = 0
    coder: int = Field(0, ge=0, lt=MOST_PLACES)
    latent: Latent | None = None
    goal: Number | None = None
    """Of a goal, its place among those of the graph."""


class GraphHeadsCall(GraphPrompt):
    """What the API sends on."""

    goals: GraphGoals = TopLogits()
    target: GraphPlace
    source: GraphPlace | None = None
    token: Token | None = None
    top: int = Field(20, ge=1, le=1000)


class GraphScoreCall(GraphPrompt, GraphScoreRequest):
    """What the API sends on."""


class HeadLoading(Answer):
    """What goes through one head."""

    layer: int
    head: int
    value: float
    """By all paths that meet no feature on the way."""


class LayerLoading(Answer):
    """How an edge gets past one layer of attention."""

    layer: int
    heads: float
    """The sum over its heads."""
    bypass: float
    """Along the stream past them, or written behind them."""


class GraphHeads(Answer):
    """Which heads carry an edge, or bring something from a token."""

    value: float
    """The edge: at every layer the sum of heads and bypass. Of a token, the target's value, of
    which each layer's heads and bypass are what goes through the stream there."""
    heads: list[HeadLoading]
    """The largest first."""
    layers: list[LayerLoading]


class ScoredSource(Answer):
    """A source of the graph's prompt, as it counts in a query or a key."""

    kind: SourceKind
    """`head`: the head's own biases and norms' shifts; `rounding`: what sums miss; `other`: all
    that is not listed."""
    branch: Branch | None = None
    layer: int | None = None
    position: int | None = None
    coder: int | None = None
    latent: int | None = None
    bias: str | None = None
    """Which bias: `encoder`, `decoder`, `attention`, `norm` or `unembedding`."""
    activation: float | None = None
    score: float
    """With the whole of the other side: the sum of its pairs."""
    relative: float
    """The same less what it counts on average over the keys that the head looks at, which a softmax
    ignores."""
    node: int | None = None
    """Its number in the graph; null where pruning left it out."""
    label: str | None = None


class ScoredPair(Answer):
    """A source of the query with one of the key."""

    query: int
    """Its place in `query`."""
    key: int
    """Its place in `key`."""
    score: float
    relative: float


class ScoredKinds(Answer):
    """All sources of one kind with all of another."""

    query: SourceKind
    key: SourceKind
    score: float
    relative: float


class GraphScore(Answer):
    """Why a head looks from one token at another, by the sources of a graph's prompt."""

    layer: int
    head: int
    token: int
    source: int
    weight: float
    """The attention that came of it."""
    score: float
    """As the host model computed it, before a soft cap: the sum of all pairs."""
    average: float
    """Of the scores of all keys, weighted by attention."""
    query: list[ScoredSource]
    """Of the token that looks, the largest `relative` first; they sum to the score."""
    key: list[ScoredSource]
    """Of the token that is looked at."""
    pairs: list[ScoredPair]
    """The largest `relative` first."""
    exact: bool
    """Whether no pair that is not listed can be larger."""
    kinds: list[ScoredKinds]
    """All pairs by kind; they sum to the score."""
