"""Kinds of runs that ask something of SAEs that are there: which features belong together and where
they lie, what heads and circuits do, how a prompt becomes its next token, which features carry a
difference, how good an SAE is at a task, what tells texts apart."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from monosemy.figures import plural
from monosemy.models.sites import Z
from monosemy.specs.circuits import (
    CausalSpec,
    CodesSpec,
    Edges,
    Head,
    IndirectObjectTask,
    KnownCircuit,
    PromptSource,
)
from monosemy.specs.concepts import MOST_NAMES, ChoiceRule, ConceptText, ConceptTexts, Deactivating
from monosemy.specs.feature_circuits import FeatureCircuitSpec
from monosemy.specs.graphs import GraphOptions, GraphSpec, SomePrompts
from monosemy.specs.hooks import MOST_PLACES
from monosemy.specs.kinds import ChangedSae, Reference, SaeRef
from monosemy.specs.names import Name
from monosemy.specs.part import NAME, Seed, Site, added_later
from monosemy.specs.parts import ModelSpec
from monosemy.specs.references import Plain, SaeReference, SetReference
from monosemy.specs.run import RunSpec, register_kind
from monosemy.specs.tasks import (
    MOST_PROMPTS,
    AttributedPrompts,
    Edited,
    IndirectObjectPrompts,
    TaskSource,
    Word,
)

ChangedHeadsSae = Annotated[Reference, SaeReference(changed=True, site=Z)]
OtherSae = Annotated[Reference, SaeReference(distinct=True)]
SetRef = Annotated[Reference, SetReference()]


@register_kind
class CompareRun(RunSpec):
    """Find out which features of two SAEs belong together; what was found before is replaced."""

    kind: Literal["compare"] = "compare"
    sae: SaeRef
    """Id (or unique name) of the first SAE."""
    other: OtherSae
    """The second one."""
    by: Literal["decoder", "tokens", "explanations"] = "decoder"
    """What makes features alike: `decoder`, the cosine of their directions; `tokens`, the share of
    tokens that both fire on (Jaccard), for SAEs indexed over the same text; `explanations`, the
    cosine of their best explanations' embeddings."""
    method: Literal["mutual", "hungarian"] = "mutual"
    """Who are partners: `mutual`, those who are each other's nearest; `hungarian`, the one-to-one
    assignment of the largest sum (exact up to 16 million pairs, greedy beyond)."""
    neighbours: int = Field(3, ge=1, le=20)
    """Nearest features of the other SAE that are kept for each, partners or not."""

    @model_validator(mode="after")
    def _two_saes(self) -> Self:
        if self.sae == self.other:
            raise ValueError("sae and other are one and the same")
        return self


@register_kind
class LayoutRun(RunSpec):
    """Lay the decoder rows of an SAE out in two dimensions (t-SNE), and measure how faithful that
    is; the layout before is replaced."""

    kind: Literal["layout"] = "layout"
    sae: ChangedSae
    """Id (or unique name) of the SAE."""
    perplexity: float = Field(30.0, ge=2, le=100)
    """About how many of its nearest rows a row is drawn to (UMAP's ``n_neighbors``); a third of the
    features at most."""
    exaggeration: float = Field(1.0, ge=1, le=12)
    """How much stronger rows are drawn together than t-SNE has it: clusters stand further apart
    (UMAP's look is near 4), and fewer neighbours are kept."""
    iterations: int = Field(500, ge=50, le=5000)
    """Steps after the first 250, in which everything is drawn together twelvefold."""
    seed: Seed = 0
    """Of small shifts of the beginning, which is the plane of the first two principal components.
    Equal seeds give equal layouts."""
    silent: bool = False
    """Also lay out the features that never fire in the index.  Without an index all are laid
    out."""


@register_kind
class TaskRun(RunSpec):
    """Try SAEs at a task whose attributes are known, beside a dictionary made of these, PCA and
    random directions: what each keeps of the task, how well few features steer it, and whether they
    stand for attributes."""

    kind: Literal["task"] = "task"
    saes: list[SaeRef] = Field(default_factory=list, max_length=16)
    """Ids (or unique names) of SAEs of one host model, each reading and writing one site; none to
    see the supervised dictionary and the baselines alone."""
    model: ModelSpec | None = None
    """The host model; None takes that of the SAEs."""
    prompts: TaskSource = IndirectObjectPrompts()
    """What is asked."""
    attributes: list[Word] | None = Field(None, min_length=1, max_length=64)
    """Attributes that count; None takes all."""
    sites: list[Site] | None = Field(None, min_length=1, max_length=32)
    """Where activations are taken; None takes the sites of the SAEs."""
    positions: list[Word] | None = Field(None, min_length=1, max_length=64)
    """Names of the tokens at which they are taken; None takes `S2` and `end` of indirect objects,
    and of other prompts all positions that they name."""
    test_share: float = Field(0.2, gt=0, le=0.5)
    """Share of the prompts that is tested on: no combination of values is in both halves."""
    features: list[Edited] = Field([1, 2, 4, 8, 32], min_length=1, max_length=16)
    """Numbers of features that an edit may change at a node."""
    pairs: int = Field(100, ge=2, le=MOST_PROMPTS)
    """Most counterfactuals of each attribute."""
    l0: int = Field(32, ge=1, le=4096)
    """Active features of PCA and random directions where there is no SAE to take that from."""
    prepend_bos: bool = True
    """Put the tokenizer's BOS before each prompt (if it has one)."""
    resamples: int = Field(1000, ge=100, le=100_000)
    """Of prompts, for intervals."""
    seed: Seed = 0
    """Of halves, counterfactuals, random directions and intervals."""

    @model_validator(mode="after")
    def _has_a_host_and_sites(self) -> Self:
        if not self.saes and (self.model is None or self.sites is None):
            raise ValueError("without saes, model and sites are needed")
        for name in ("attributes", "sites", "positions", "saes"):
            given = getattr(self, name) or []
            if len(set(given)) < len(given):
                raise ValueError(f"{name} holds something twice")
        return self

    @model_validator(mode="after")
    def _attributes_vary(self) -> Self:
        if not isinstance(self.prompts, AttributedPrompts):
            return self
        values: dict[str, set[str]] = {}
        for item in self.prompts.items:
            for each in item.attributes:
                values.setdefault(each.name, set()).add(each.value)
        for name in self.attributes or values:
            if len(values.get(name, ())) == 1:
                (only,) = values[name]
                raise ValueError(
                    f"the attribute '{name}' has one value, {only!r}, in all prompts: nothing"
                    " tells it; leave it out of attributes, or add prompts with another value"
                )
        return self


@register_kind
class AttentionRun(RunSpec):
    """Survey the attention heads behind an SAE at `attn.hook_z`: each feature's share by head,
    where what adds to it comes from, and its family; each head's features, whether they are more
    alike than random ones, and its standard scores.  The survey before is replaced."""

    kind: Literal["attention"] = "attention"
    sae: ChangedHeadsSae
    """Id (or unique name) of an indexed SAE that reads and writes at `attn.hook_z`."""
    rows: int = Field(512, ge=1, le=100_000)
    """Most rows of the indexed text that are read for the families: those with the strongest
    examples of features that fire seldom come first."""
    examples: int = Field(10, ge=3, le=100)
    """Strongest firings of each feature, in these rows, that its family goes by."""
    top: int = Field(10, ge=2, le=100)
    """Features by which a head is judged: those with the largest share of it."""
    draws: int = Field(1000, ge=19, le=100_000)
    """Random sets of features that a head's own are compared with."""
    seed: Seed = 0
    """Of the random sets and the random tokens."""


@register_kind
class CircuitRun(RunSpec):
    """Find the attention heads of a host model whose codes tell prompts with a task from prompts
    without it, and check by ablation whether these heads do the task."""

    kind: Literal["circuit"] = "circuit"
    name: Name | None = None
    """Of the circuit; left out, one is made of task and model."""
    model: ModelSpec = ModelSpec()
    """The host model."""
    prompts: PromptSource = IndirectObjectTask()
    """Positive and negative ones."""
    codes: CodesSpec = CodesSpec()
    """How a head's output becomes a code."""
    permutations: int = Field(200, ge=20, le=10_000)
    """Times that labels are shuffled for the null."""
    false_discovery: float = Field(0.05, gt=0, lt=1)
    """Expected share of wrong ones among the heads, and the edges, that count as found."""
    edges: Edges = "auto"
    """Which pairs of heads are scored, each with those of later layers: `all`; `significant`, those
    of heads that are found; `none`; or `auto`, all where that takes minutes."""
    causal: CausalSpec | None = CausalSpec()
    """The check by ablation; None leaves it out."""
    known: KnownCircuit | None = None
    """A published circuit to compare with; the host model must have its layers and heads."""
    known_heads: list[Head] | None = Field(None, min_length=1, max_length=10_000)
    """One's own instead."""

    @model_validator(mode="after")
    def _one_known_circuit(self) -> Self:
        if self.known is not None and self.known_heads is not None:
            raise ValueError("known and known_heads are two circuits; give one of them")
        return self


@register_kind
class ConceptRun(Deactivating, RunSpec):
    """Find the features of an SAE by which texts about something are told from others, a threshold
    for a wanted rate of false alarms, and how well both do on texts that chose nothing, beside
    other ways to classify and to erase."""

    unique_name: ClassVar[Literal["concept", "graph"] | None] = "concept"

    kind: Literal["concept"] = "concept"
    name: Name
    """Of the concept; a name stands for one concept."""
    sae: SaeRef
    """Id (or unique name) of an SAE that reads and writes one site."""
    targets: ConceptTexts
    """Texts that the concept is in."""
    retain: ConceptTexts
    """Texts that it is not in, as close to the targets as what is to be left alone: their features
    are not the concept's."""
    paraphrases: list[ConceptText] = Field(default_factory=list, max_length=5000)
    """Targets in other words; tested on alone."""
    embeddings: bool = added_later(True)
    """Measure what becomes of one vector for a whole text: by whole forwards of the host model,
    which take longer than all the rest."""
    called: ConceptText | None = added_later(None)
    """What the concept is called, as a text that others are held against; None takes its name."""
    others: list[ConceptText] = added_later([], max_length=MOST_NAMES)
    """What else texts are about, in words like `called`: whether a text's embedding is nearest to
    the concept among these."""
    word: Annotated[str, Plain(), Field(min_length=1, max_length=NAME)] | None = added_later(None)
    """A word that some targets and some retain texts have: a probe of it shows what is kept of
    other things.  None chooses the most balanced one."""
    top_k: int = Field(128, ge=1, le=100_000)
    """So many strongest features (by their maximum over the tokens) count for each text."""
    rule: ChoiceRule = added_later("difference")
    """How features are chosen: `difference`, those that are among the strongest of a target and of
    no retain text (the paper's; a few targets are enough, and every retain text takes some away);
    `share`, those that are so in more targets than retain texts beyond chance, as many as tell
    texts best in cross-validation (needs some dozen texts; more retain texts do no harm)."""
    false_alarms: float = Field(0.05, gt=0, lt=1)
    """Share of texts without the concept that may be flagged."""
    confidence: float | None = Field(None, gt=0.5, lt=1)
    """How sure it is to be that no more are flagged (by Clopper and Pearson); None: it holds on
    average over choices of texts (conformal)."""
    test_share: float = Field(0.3, gt=0, le=0.8)
    """Share of targets and retain texts that is tested on."""
    threshold_share: float = Field(0.3, gt=0, le=0.8)
    """Share of the retain texts that the threshold is set by; they choose no features."""
    seed: Seed = 0
    """Of which text is used for what, of spelling mistakes and random features, and of the folds of
    the rule `share`."""

    @model_validator(mode="after")
    def _two_sets(self) -> Self:
        both = sorted(set(self.targets) & set(self.retain))
        if both:
            raise ValueError(
                f"{plural(len(both), 'text is', 'texts are')} both targets and to be retained, such"
                f" as {both[0]!r:.80}; a text belongs into one of the sets"
            )
        return self

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if self.test_share + self.threshold_share > 0.95:
            raise ValueError("test_share and threshold_share leave no texts to choose features by")
        if (self.called or self.name) in self.others:
            raise ValueError("others holds what the concept itself is called")
        if not self.embeddings and (self.called or self.others or self.word):
            raise ValueError("called, others and word are about embeddings, which are left out")
        return self


@register_kind
class GraphRun(GraphOptions, SomePrompts, RunSpec):
    """Trace an attribution graph of a prompt, or of each of several: which features of a host
    model's MLPs feed which others on the way to its next token, in edges that add up; and check it
    by ablation."""

    unique_name: ClassVar[Literal["concept", "graph"] | None] = "graph"

    kind: Literal["graph"] = "graph"
    name: Name | None = None
    """Of the graph; left out, one is made of the prompt.  A name stands for one graph: of several
    prompts the graphs are called by it and their place, from 1."""
    set: SetRef | None = None
    """Name of a set of SAEs that write what MLPs add to the stream, or stand for attention: all of
    them are taken."""
    saes: list[SaeRef] = Field(default_factory=list, max_length=MOST_PLACES)
    """Ids (or unique names) of such SAEs instead, or beside the set: one for each of several
    layers, or one cross-layer transcoder; and SAEs of `attn.hook_z` or `hook_attn_out`."""

    @model_validator(mode="after")
    def _a_set_or_saes(self) -> Self:
        if self.set is None and not self.saes:
            raise ValueError("give either set, the name of a set, or saes, or both")
        if len({*self.saes}) < len(self.saes):
            raise ValueError("saes holds something twice")
        return self

    def graph_specs(self) -> list[GraphSpec]:
        """What each of its graphs is asked to be, in the order of the prompts."""
        options = {name: getattr(self, name) for name in GraphOptions.model_fields}
        wanted = self.prompts if self.prompt is None else [self.prompt]
        return [GraphSpec(**options, prompt=each) for each in wanted]

    def unique_names(self) -> list[str]:
        return [name for name in self.graph_names() if name is not None]

    def graph_names(self) -> list[str | None]:
        """What each is to be called; None leaves that to whoever keeps it."""
        if self.name is None or self.prompt is not None:
            return [self.name] * max(len(self.prompts), 1)
        return [f"{self.name}-{place + 1}" for place in range(len(self.prompts))]


@register_kind
class FeatureCircuitRun(FeatureCircuitSpec, RunSpec):
    """Find which features of several SAEs carry a difference between pairs of prompts, what they
    add to one another, and what they do on pairs that were left out; kept as a graph."""

    unique_name: ClassVar[Literal["concept", "graph"] | None] = "graph"

    kind: Literal["feature_circuit"] = "feature_circuit"
    name: Name | None = None
    """Of its graph; left out, one is made of the first prompt.  A name stands for one graph."""
    saes: list[SaeRef] = Field(min_length=1, max_length=MOST_PLACES)
    """Ids (or unique names) of SAEs and transcoders of one host model, each of which reads and
    writes one site; no two write the same."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len({*self.saes}) < len(self.saes):
            raise ValueError("saes holds something twice")
        return self
