"""Run specs, one class per kind.  The same object serves API, CLI and notebook.

A class declares its kind (``monosemy.specs.run``): nothing else has a list of kinds.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from monosemy.models.sites import Z
from monosemy.specs.architectures import SAESpec, TopKSpec
from monosemy.specs.circuits import (
    CausalSpec,
    CodesSpec,
    Edges,
    Head,
    IndirectObjectTask,
    KnownCircuit,
    PromptSource,
)
from monosemy.specs.concepts import ConceptText, ConceptTexts, Deactivating
from monosemy.specs.explainers import DefaultExplanation, ExplanationSpec
from monosemy.specs.hooks import (
    Hooks,
    ReadsAndWrites,
    WritesElsewhere,
    checked_hooks,
    first_read,
)
from monosemy.specs.names import PENDING_SAE, STORED, Name
from monosemy.specs.part import LARGE, MOST_LISTED, PLACE, Latent, Seed, Site
from monosemy.specs.parts import (
    EvaluationSpec,
    IndexingSpec,
    ModelSpec,
    TextSpec,
    TrainingSpec,
)
from monosemy.specs.references import ExplanationReference, SaeReference, Source
from monosemy.specs.registry import Need
from monosemy.specs.run import INTERP, NO_QUEUE, RunSpec, Step, register_kind
from monosemy.specs.scorers import DetectionScoring, ScoringSpec
from monosemy.specs.tasks import MOST_PROMPTS, Edited, IndirectObjectPrompts, TaskSource, Word

Rate = Annotated[float, Field(gt=0, le=LARGE)]
_Reference = Annotated[str, Field(min_length=1, max_length=200)]
SaeRef = Annotated[_Reference, SaeReference()]
ChangedSae = Annotated[_Reference, SaeReference(changed=True)]
ChangedHeadsSae = Annotated[_Reference, SaeReference(changed=True, site=Z)]
OtherSae = Annotated[_Reference, SaeReference(distinct=True)]


MAX_SWEEP = 64
"""SAEs that one sweep may train."""


class _Stream(RunSpec):
    """Where activations come from."""

    name: Name | None = None
    """Name of the SAE; left out, one is built from model, site and size."""
    model: ModelSpec = ModelSpec()
    """The host model."""
    text: TextSpec = TextSpec()
    """What it reads."""


class _Training(_Stream, ReadsAndWrites):
    """What it takes to train an SAE."""

    site: Site = "blocks.9.hook_resid_post"
    """Where it is hooked, in TransformerLens names."""
    sae: SAESpec = TopKSpec()
    """Architecture and size."""
    training: TrainingSpec = TrainingSpec()
    """Length, rates, buffer."""

    @model_validator(mode="after")
    def _dictionary_divides(self) -> Self:
        _check_split(self.sae, self.training)
        return self

    _site_of_reads = model_validator(mode="before")(first_read)

    @model_validator(mode="after")
    def _can_be_hooked(self, info: ValidationInfo) -> Self:
        if info.context != STORED:
            checked_hooks(self.reads or [self.site], self.writes, self.sae)
        return self

    @property
    def hooks(self) -> Hooks:
        """Where its SAE reads and writes."""
        target = getattr(self.sae, "target_site", None)
        return Hooks.at(self.reads or self.site, self.writes or target)


def _check_split(sae: SAESpec, training: TrainingSpec) -> None:
    """``ValueError`` unless the dictionary can be split as asked."""
    parts = training.devices
    if training.split == "batch" or parts == 1:
        return
    sae.check_split(parts)


@register_kind
class TrainRun(_Training):
    """Train one SAE."""

    kind: Literal["train"] = "train"

    def trainings(self) -> list[TrainRun]:
        return [self]

    def sae_ids(self, run_id: uuid.UUID) -> list[uuid.UUID]:
        """The run's own: a second attempt writes where the first one did."""
        return [run_id]


@register_kind
class SweepRun(_Stream, WritesElsewhere):
    """Train many SAEs on the same batches: every site with every SAE, rate and seed.

    The host model reads the text once for all of them.
    """

    kind: Literal["sweep"] = "sweep"
    sites: list[Site] = Field(["blocks.9.hook_resid_post"], min_length=1, max_length=32)
    """Where the model is hooked, in TransformerLens names."""
    saes: list[SAESpec] = Field([TopKSpec()], min_length=1, max_length=MAX_SWEEP)
    """Architectures and sizes."""
    learning_rates: list[Rate] | None = Field(None, min_length=1, max_length=16)
    """Rates to try; None takes ``training.learning_rate``."""
    seeds: list[Seed] | None = Field(None, min_length=1, max_length=16)
    """Seeds of the initialisation; None takes ``training.seed``, which seeds the order of the
    tokens in any case."""
    training: TrainingSpec = TrainingSpec()
    """Length, batch, buffer: shared by all."""

    @model_validator(mode="after")
    def _not_too_many(self) -> SweepRun:
        count = len(self.sites) * len(self.saes)
        count *= len(self.learning_rates or [0]) * len(self.seeds or [0])
        if count > MAX_SWEEP:
            raise ValueError(f"a sweep of {count} SAEs is too large: at most {MAX_SWEEP}")
        for sae in self.saes:
            _check_split(sae, self.training)
            for site in self.sites:
                checked_hooks([site], self.writes, sae)
        return self

    def members(self) -> list[TrainRun]:
        """One training spec per SAE, in the order sites, SAEs, rates, seeds."""
        shared = {"model": self.model, "text": self.text, "writes": self.writes}
        settings = [
            {"learning_rate": rate, "seed": seed}
            for rate in self.learning_rates or [self.training.learning_rate]
            for seed in self.seeds or [self.training.seed]
        ]
        return [
            TrainRun(site=site, sae=sae, training=self.training.model_copy(update=each), **shared)
            for site in self.sites
            for sae in self.saes
            for each in settings
        ]

    def trainings(self) -> list[TrainRun]:
        return self.members()

    def sae_ids(self, run_id: uuid.UUID) -> list[uuid.UUID]:
        """Made of the run's and of each SAE's place."""
        return [uuid.uuid5(run_id, str(place)) for place in range(len(self.members()))]


@register_kind
class ImportRun(_Stream, ReadsAndWrites):
    """Take in an SAE that was trained elsewhere, to be evaluated, indexed and explained here.

    ``model`` and ``text`` are what those runs will use.
    """

    kind: Literal["import"] = "import"
    source: Annotated[str, Source("sae"), Field(min_length=1, max_length=PLACE)]
    """``upload:ID[:FOLDER]``, what was uploaded; ``hub:OWNER/NAME[@REVISION][:FOLDER]``, on the
    Hugging Face hub; a folder on the worker's machine (SAELens v6, sparsify or dictionary_learning
    each); or release/sae_id of a SAELens release."""
    site: Site | None = None
    """Where it is hooked; None takes what its files say."""

    _site_of_reads = model_validator(mode="before")(first_read)

    def sae_ids(self, run_id: uuid.UUID) -> list[uuid.UUID]:
        return [run_id]


@register_kind
class EvaluateRun(RunSpec):
    """Measure an SAE inside its host model: FVU, L0, dead share, CE recovered."""

    kind: Literal["evaluate"] = "evaluate"
    sae: ChangedSae
    """Id (or unique name) of the SAE."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """How much text."""


@register_kind
class IndexRun(RunSpec):
    """One pass over the token store: postings, statistics, examples, evidence of every feature."""

    kind: Literal["index"] = "index"
    sae: ChangedSae
    """Id (or unique name) of the SAE."""
    text: TextSpec | None = None
    """Text to index; None takes the training text."""
    indexing: IndexingSpec = IndexingSpec()
    """What to keep per feature."""


@register_kind
class ExplainRun(RunSpec):
    """Explain features with an LLM."""

    queue: ClassVar[str] = INTERP
    shared: ClassVar[bool] = True

    kind: Literal["explain"] = "explain"
    sae: SaeRef
    """Id (or unique name) of an indexed SAE."""
    explanation: ExplanationSpec = DefaultExplanation()
    """Which features, how, by whom."""
    dry_run: bool = False
    """Only forecast calls, tokens and cost (``result.forecast``); nothing is explained."""

    def needs_host(self) -> bool:
        return Need.HOST in self.explanation.required

    def needs_judge(self) -> bool:
        return Need.JUDGE in self.explanation.required


@register_kind
class ScoreRun(RunSpec):
    """Score explanations on held-out documents."""

    queue: ClassVar[str] = INTERP
    shared: ClassVar[bool] = True
    listed_as: ClassVar[str | None] = "scores"

    kind: Literal["score"] = "score"
    sae: SaeRef
    """Id (or unique name) of an indexed SAE; its newest explanations are scored, unless they have
    such a score already."""
    features: list[Latent] | None = Field(None, min_length=1, max_length=MOST_LISTED)
    """Only these features; None takes all that are explained.  Those that do not exist, or have no
    explanation, are named in the result."""
    explanation: Annotated[uuid.UUID, ExplanationReference()] | None = None
    """Only this explanation, whether it is the newest or not."""
    scoring: ScoringSpec = DetectionScoring()
    """Which scorer, how many examples, by whom."""
    dry_run: bool = False
    """Only forecast calls, tokens and cost (``result.forecast``); nothing is scored."""

    def needs_host(self) -> bool:
        return Need.HOST in self.scoring.required

    def needs_judge(self) -> bool:
        return Need.JUDGE in self.scoring.required


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
    top_k: int = Field(128, ge=1, le=100_000)
    """So many strongest features (by their maximum over the tokens) count for each text."""
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
    """Of which text is used for what, of spelling mistakes and random features."""

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if self.test_share + self.threshold_share > 0.95:
            raise ValueError("test_share and threshold_share leave no texts to choose features by")
        return self


MAX_SCORINGS = 16
"""Score runs that one pipeline may end in."""


Scorings = Annotated[list[ScoringSpec], Field(min_length=1, max_length=MAX_SCORINGS)]


def as_list(value: Any) -> Any:
    """A single scoring as a list of one."""
    return [value] if isinstance(value, dict | ScoringSpec) else value


@register_kind
class PipelineRun(_Training):
    """Text to labelled features: train, evaluate, index, explain, score, each a run of its own."""

    queue: ClassVar[str] = NO_QUEUE

    kind: Literal["pipeline"] = "pipeline"
    evaluation: EvaluationSpec | None = EvaluationSpec()
    """How well it reconstructs held-out text; None leaves the evaluation out."""
    indexing: IndexingSpec = IndexingSpec()
    """What to keep per feature."""
    explanation: ExplanationSpec | None = DefaultExplanation()
    """What an LLM makes of features; None leaves it out, and features have evidence labels only."""
    scoring: Annotated[
        Scorings | None,
        BeforeValidator(as_list, json_schema_input_type=ScoringSpec | Scorings | None),
    ] = Field(default_factory=lambda: [ScoringSpec()])
    """How explanations are scored, one run each or a single one; None leaves scoring out."""

    def steps(self) -> list[Step]:
        """The index first, so that features are served as soon as there are any; then host model
        (evaluation) and judge (explanations, scores) work side by side."""
        shared = {name: getattr(self, name) for name in _Training.model_fields}
        steps = [
            Step(TrainRun(**shared)),
            Step(IndexRun(sae=PENDING_SAE, indexing=self.indexing), after=0),
        ]
        if self.evaluation is not None:
            steps.append(Step(EvaluateRun(sae=PENDING_SAE, evaluation=self.evaluation), after=1))
        if self.explanation is not None:
            explained = len(steps)
            steps.append(Step(ExplainRun(sae=PENDING_SAE, explanation=self.explanation), after=1))
            for each in self.scoring or []:
                steps.append(Step(ScoreRun(sae=PENDING_SAE, scoring=each), after=explained))
        return steps


def pipeline_children(spec: PipelineRun) -> list[RunSpec]:
    """The runs a pipeline consists of, those that others wait for before them."""
    return [step.spec for step in spec.steps()]
