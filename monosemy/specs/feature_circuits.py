"""Which features carry a difference between pairs of prompts: what is asked for, and what is said
of it.  No torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from monosemy.specs.circuits import DocstringTask, GreaterThanTask, IndirectObjectTask
from monosemy.specs.described import Described
from monosemy.specs.graphs import GraphForecast
from monosemy.specs.part import Part, Seed
from monosemy.specs.references import Plain
from monosemy.specs.rest.circuits import WithInterval
from monosemy.specs.tasks import Word

MOST_PAIRS = 5_000
_LONGEST = 20_000
"""Characters of a prompt."""


class PromptPair(Part):
    """A prompt, and one like it in which what the circuit is about is another."""

    clean: Annotated[str, Plain()] = Field(min_length=1, max_length=_LONGEST)
    patch: Annotated[str, Plain()] | None = Field(None, min_length=1, max_length=_LONGEST)
    """As many tokens as `clean`; None: features are set to 0 instead.  All pairs have one, or none
    has."""
    answer: Word
    """The single token that follows `clean`, with its leading space."""
    wrong: Word
    """The single token to tell it from."""

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.answer == self.wrong:
            raise ValueError("answer and wrong are the same")
        if self.clean == self.patch:
            raise ValueError("clean and patch are the same")
        return self


class GivenPairs(Part):
    """Pairs of one's own."""

    task: Literal["given"] = "given"
    items: list[PromptPair] = Field(min_length=4, max_length=MOST_PAIRS)

    @model_validator(mode="after")
    def _all_or_none_patched(self) -> Self:
        without = [place for place, each in enumerate(self.items, 1) if each.patch is None]
        if without and len(without) < len(self.items):
            raise ValueError(f"pair {without[0]} has no patch, others have; give all or none")
        return self


PairSource = Annotated[
    IndirectObjectTask | GreaterThanTask | DocstringTask | GivenPairs, Field(discriminator="task")
]
"""Pairs of prompts: those of a task, whose negatives are the patches, or one's own."""


class FeatureCircuitSpec(Part):
    """A sparse feature circuit (Marks et al., arXiv 2403.19647)."""

    pairs: PairSource = IndirectObjectTask(count=40)
    """Prompts with and without what the circuit is about."""
    positions: Literal["summed", "aligned"] = "summed"
    """`summed`: a feature is one node, whatever the token; `aligned`: one at each token, for pairs
    of one template, which all have equally many tokens."""
    method: Literal["ig", "atp"] = "ig"
    """How effects are found: `ig`, by the mean gradient on the way from the patch to the clean
    activations of one site, whose effects then add up; `atp`, by the gradient at the clean ones,
    which takes one backward pass for all sites."""
    midpoints: int = Field(10, ge=1, le=1000)
    """Midpoints of that way."""
    edge_midpoints: int = Field(2, ge=1, le=1000)
    """Midpoints of the way that edges are found on."""
    nodes: int = Field(100, ge=0, le=5000)
    """Features that are kept: those of the largest effects."""
    edges: int = Field(2000, ge=0, le=1_000_000)
    """Edges that are kept: the largest."""
    test_share: float = Field(0.5, gt=0, lt=1)
    """Share of the pairs that the circuit is checked on; they take no part in finding it."""
    exact: int = Field(30, ge=0, le=5000)
    """Features that are patched one at a time, to see how good their effects are: half of them
    those of the largest effects, the others at random."""
    random_circuits: int = Field(3, ge=0, le=200)
    """Random circuits of each size, with as many features at each site."""
    neurons: bool = True
    """Also make circuits of the activations' own dimensions at the same sites."""
    batch: int = Field(16, ge=1, le=4096)
    """Prompts that are read together; memory is in proportion."""
    prepend_bos: bool = True
    """Put the tokenizer's BOS before each prompt (if it has one)."""
    seed: Seed = 0
    """Of halves, random features and intervals."""


class SiteEffects(Described):
    """What the features of one SAE carry of the difference."""

    site: str
    """Where it writes."""
    reads: str
    sae: str
    """Its name."""
    active: int
    """Features that are active in some prompt that the circuit is found on."""
    kept: int
    """Features of the circuit's graph."""
    features: float
    """Effects of all its features, summed."""
    error: float
    """Effect of its error, the skip path of a transcoder included."""
    cut: float
    """What the difference loses when all of the site is patched: features and error together."""
    residual: float
    """features + error - cut: what the sum of effects misses."""
    kept_share: float
    """Of the features' absolute effects, the share of those that are kept."""


class TokenEffects(Described):
    """What the prompt's tokens carry of the difference, as they enter block 0: all of it, were
    effects exact.  The way from other tokens to these is the longest of all sites, and most is
    missed on it."""

    effect: float
    """Of all of them, summed."""
    cut: float
    """What the difference loses when they are patched."""
    residual: float
    """effect - cut: what is missed."""


class ExactEffects(Described):
    """Effects beside those of patching one feature at a time."""

    n: int
    correlation: WithInterval | None
    """Pearson's, of the estimated with the real effects; features resampled."""
    attribution_patching: WithInterval | None
    """The same of effects by the gradient at the clean activations alone."""
    mean_real: float
    """Mean absolute real effect."""


class CircuitAtNodes(Described):
    """What the features of the largest effects do, on pairs that were left out.

    Faithfulness is (metric - metric with everything ablated) / (metric of the host - the same):
    1 is the host itself, 0 nothing.
    """

    nodes: int
    with_errors: WithInterval
    """Faithfulness with all other features mean-ablated; errors as they come."""
    without_errors: WithInterval
    """The same with errors mean-ablated as well."""
    complement: WithInterval
    """With these features mean-ablated, and all others as they come."""
    random_with_errors: WithInterval | None
    """Of random circuits: mean, the least and the most."""
    random_without_errors: WithInterval | None
    neurons: WithInterval | None
    """Of as many dimensions of the activations, those of the largest effects, at the tokens that
    the SAEs read; there are no errors."""


class HeldOutCheck(Described):
    """A circuit on pairs that took no part in finding it."""

    pairs: int
    host: WithInterval
    """Metric of the clean prompts; whole prompts are resampled, as everywhere here."""
    none: WithInterval
    """With all features and errors mean-ablated."""
    curve: list[CircuitAtNodes]
    """At sizes that double, up to all features of the graph."""


class FeatureCircuitSummary(Described):
    """What is said of a sparse feature circuit."""

    task: str
    method: Literal["ig", "atp"]
    midpoints: int
    positions: Literal["summed", "aligned"]
    pairs: int
    """That it was found on."""
    held_out: int
    """That it was checked on."""
    patched: bool
    """Whether pairs have a patch; else features were set to 0."""
    clean: WithInterval
    """The metric on clean prompts: log of the probability of right answers over that of wrong ones
    (a logit difference, where both are single tokens)."""
    patch: WithInterval
    """The same on their patches; with everything at 0 where there are none."""
    sites: list[SiteEffects]
    """In the order in which the host computes them."""
    tokens: TokenEffects | None = None
    """None where there is no patch, where an SAE writes what enters block 0, and of circuits that
    were found before this was said."""
    edges: int
    """That are kept."""
    edge_share: float
    """Of the absolute values of all edges between nodes that are kept, the share of those."""
    unexplained: float
    """Of the effects of nodes with inputs, by absolute value, what their inputs do not add up
    to."""
    exact: ExactEffects | None
    check: HeldOutCheck
    forecast: GraphForecast
