"""Circuits as the library finds them and the API shows them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Literal

from monosemy.specs.described import Described


class WithInterval(Described):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class HeadScore(Described):
    """An attention head, and how much its codes tell positive prompts from negative ones."""

    layer: int
    head: int
    score: float
    """Codes that it has in positive prompts alone, as the mean over seeds.  It grows with how many
    codes the head has at all: look at z."""
    null_mean: float
    """The score under shuffled labels."""
    null_sd: float
    z: float
    """(score - null_mean) / (null_sd + 0.5)"""
    p: float
    """Share of the shuffled labels that score as high, the true ones among them."""
    q: float
    """False discovery rate at which it passes: Benjamini and Hochberg's, of p-values against the
    shuffled z of all heads together."""
    found: bool
    """q is at most the run's `false_discovery`."""
    codes: float
    """Different codes that it has in all prompts, as the mean over seeds."""
    known: bool | None
    """It is in the known circuit; null where none was given."""


class EdgeScore(Described):
    """A head and one of a later layer, and how much their pairs of codes tell."""

    source: tuple[int, int]
    """(layer, head)"""
    target: tuple[int, int]
    score: float
    z: float
    p: float
    q: float
    found: bool


class EdgeSummary(Described):
    """Which pairs of heads were scored."""

    among: Literal["all", "significant"]
    """All heads, or those alone that pass the false discovery rate."""
    heads: int
    """How many heads that are."""
    pairs: int
    """Pairs of an earlier and a later layer among them: so many were tested."""
    found: int
    """Pairs that pass the false discovery rate."""
    kept: int
    """Pairs that are listed, those of the highest z."""


class Stability(Described):
    """How much runs with other SAEs and other training prompts agree, pair by pair."""

    seeds: int
    rank_correlation: WithInterval | None
    """Spearman's, of z over all heads; null for one seed.  Seeds resampled."""
    top: int
    """The number of found heads; 10 where none is found."""
    jaccard: WithInterval | None
    """Overlap of the heads of the highest z, so many: shared ones / all of both."""
    jaccard_by_chance: float
    """What two random sets of that size share."""


class KnownComparison(Described):
    """How the ranking agrees with a known circuit."""

    name: str
    """Of the published list, or "given"."""
    source: str | None
    members: int
    heads: int
    auc: WithInterval
    """ROC AUC of z: 0.5 is chance.  Heads resampled, members and others apart."""
    auc_raw: WithInterval
    """Of the raw score, which measures how many codes a head has, too."""
    average_precision: WithInterval
    """Of z; chance is members / heads."""
    precision: float
    """Of the found heads."""
    recall: float
    f1: float
    """2 * precision * recall / (precision + recall) of the found heads."""
    best_f1: float
    """The highest that any threshold of z gives, chosen with the known circuit in hand."""
    edge_auc: float | None
    """ROC AUC of z of pairs of which both are members; null unless all pairs were scored."""


class CausalPoint(Described):
    """What is left of the answers with some heads alone, or without them."""

    heads: int
    """How many are kept, or removed."""
    top: WithInterval
    """Logit difference in nats with those of the highest z; prompts resampled."""
    random: WithInterval
    """Mean over random sets of as many heads; prompts resampled."""
    sets: list[float]
    """Of each random set."""


class CausalCheck(Described):
    """Logit differences with heads mean-ablated: log of the probability of right answers over that
    of wrong ones."""

    prompts: int
    held_out: bool
    """These prompts took no part in finding the circuit."""
    reference: Literal["token by token", "all tokens"]
    """What a head's mean is taken over: negatives of the same template, token by token, or all
    tokens of all negatives."""
    clean: WithInterval
    """With every head as it is."""
    none: WithInterval
    """With every head mean-ablated."""
    kept: list[CausalPoint]
    """All other heads are mean-ablated."""
    removed: list[CausalPoint]
    """These heads are mean-ablated."""


class CodesSummary(Described):
    """What the small SAEs make of the heads' outputs."""

    latents: int
    trained_on: int
    """Prompts for each SAE."""
    fvu: list[float]
    """Of what each was trained on, by seed."""
    silent: float
    """Share of the outputs for which no latent is active; they share one code."""
    codes_per_head: float
    """Different codes of a head, as a mean; 1 is no information."""


class CircuitSummary(Described):
    """What was looked for, and how much was found."""

    model: str
    task: str
    positive: int
    negative: int
    layers: list[int]
    heads_per_layer: int
    found: int
    """Heads that pass the false discovery rate."""
    false_discovery: float
    permutations: int
    seeds: int
    highest_z: float
    edges: EdgeSummary | None
    clean_logit_difference: WithInterval | None


class CircuitResult(CircuitSummary):
    """Heads and edges that tell the positive prompts from the negative ones, and the checks."""

    heads: list[HeadScore]
    """Every head, layer by layer."""
    edge_list: list[EdgeScore]
    """The highest z first."""
    codes: CodesSummary
    stability: Stability
    known: KnownComparison | None
    causal: CausalCheck | None
    no_causal: str | None
    """Why there is no causal check."""
    left_out: dict[str, list[str]]
    """Words that the tokenizer does not read as the task needs them."""
    examples: dict[str, str]
    """A positive and a negative prompt."""
    seconds: dict[str, float]
    """What took how long: `activations`, `nodes` (SAEs, codes and scores), `edges`, `causal`."""
    versions: dict[str, str]


class CircuitHeader(CircuitSummary):
    """A circuit in a listing."""

    id: uuid.UUID
    """That of the run which found it."""
    name: str
    created_at: dt.datetime


class CircuitView(CircuitResult):
    """A stored circuit."""

    id: uuid.UUID
    name: str
    created_at: dt.datetime
