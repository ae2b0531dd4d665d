"""Run specs of the main job, one class per kind; those that train are in ``trainings``, those of
analyses in ``analyses``.  The same object serves API, CLI and notebook.

A class declares its kind (``monosemy.specs.run``): nothing else has a list of kinds.
"""

from __future__ import annotations

import uuid
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from monosemy.specs.explainers import DefaultExplanation, ExplanationSpec
from monosemy.specs.hooks import (
    MOST_PLACES,
    ReadsAndWrites,
    first_read,
)
from monosemy.specs.layers import Layers
from monosemy.specs.names import PENDING_SAE
from monosemy.specs.part import MOST_LISTED, PLACE, Latent, Site, added_later
from monosemy.specs.parts import (
    EvaluationSpec,
    IndexingSpec,
    TextSpec,
)
from monosemy.specs.references import ExplanationReference, SaeReference, Source
from monosemy.specs.registry import Need
from monosemy.specs.run import INTERP, NO_QUEUE, RunSpec, Step, register_kind
from monosemy.specs.scorers import DetectionScoring, ScoringSpec
from monosemy.specs.trainings import StreamedRun, TrainingRun, TrainRun

Reference = Annotated[str, Field(min_length=1, max_length=200)]
"""Id or unique name."""
SaeRef = Annotated[Reference, SaeReference()]
ChangedSae = Annotated[Reference, SaeReference(changed=True)]


@register_kind
class ImportRun(StreamedRun, ReadsAndWrites):
    """Take in an SAE that was trained elsewhere, to be evaluated, indexed and explained here.

    ``model`` and ``text`` are what those runs will use.
    """

    kind: Literal["import"] = "import"
    source: Annotated[str, Source("sae"), Field(min_length=1, max_length=PLACE)]
    """``upload:ID[:FOLDER]``, what was uploaded; ``hub:OWNER/NAME[@REVISION][:FOLDER]``, on the
    Hugging Face hub; a folder on the worker's machine; or release/sae_id of a SAELens release.
    Read are SAELens v6, sparsify, dictionary_learning, circuit-tracer, Gemma Scope, Llama Scope
    and what its library writes, CLT-Forge and Qwen-Scope."""
    site: Site | None = None
    """Where it is hooked; None takes what its files say.  Of a folder that holds an SAE for each of
    several layers, that of this site's layer is taken."""
    layers: Layers | None = added_later(None)
    """Of such a folder these layers, as ``0-25``: each becomes an SAE, and together they are a set.
    """

    _site_of_reads = model_validator(mode="before")(first_read)

    @model_validator(mode="after")
    def _set_of_layers(self) -> Self:
        if self.layers is None:
            return self
        if any(a >= b for a, b in pairwise(self.layers)):
            raise ValueError("layers must rise")
        if self.site or self.reads or self.writes:
            raise ValueError("the files of a set say where it is hooked: leave out site and writes")
        return self

    def sae_ids(self, run_id: uuid.UUID) -> list[uuid.UUID]:
        """The run's own; of a set made of the run's and of each SAE's place."""
        if self.layers is None:
            return [run_id]
        return [uuid.uuid5(run_id, str(place)) for place in range(len(self.layers))]

    def sets(self) -> list[list[int]]:
        """The set: the places of its SAEs among ``members``."""
        return [] if self.layers is None else [list(range(len(self.layers)))]

    def members(self) -> list[ImportRun]:
        """One spec for each SAE, named by its layer where the run is named."""
        if self.layers is None:
            return [self]
        return [
            self.model_copy(
                update={
                    "layers": [layer],
                    "name": None if self.name is None else f"{self.name}-{layer}",
                }
            )
            for layer in self.layers
        ]

    def made_names(self) -> list[str]:
        return [each.name for each in self.members() if each.name is not None]

    def made_sets(self) -> list[str]:
        return [] if self.name is None or self.layers is None else [self.name]


@register_kind
class EvaluateRun(RunSpec):
    """Measure an SAE inside its host model: FVU, L0, dead share, CE recovered."""

    kind: Literal["evaluate"] = "evaluate"
    sae: ChangedSae
    """Id (or unique name) of the SAE."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """How much text."""


@register_kind
class EvaluateSetRun(RunSpec):
    """Measure SAEs of one host model together: each by itself, each alone in place, and all in
    place at once, where each reads what the others made of the layers before."""

    kind: Literal["evaluate_set"] = "evaluate_set"
    saes: list[SaeRef] = Field(min_length=1, max_length=MOST_PLACES)
    """Ids (or unique names) of the SAEs of a set, by layer; each reads and writes one place."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """How much text; ``ppl_percent`` and ``prune`` are of single SAEs, and refused."""

    @model_validator(mode="after")
    def _of_sets(self) -> Self:
        if self.evaluation.ppl_percent is not None or self.evaluation.prune is not None:
            raise ValueError("evaluation.ppl_percent and prune are for a single SAE")
        if len(set(self.saes)) < len(self.saes):
            raise ValueError("saes holds something twice")
        return self


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


MAX_SCORINGS = 16
"""Score runs that one pipeline may end in."""


Scorings = Annotated[list[ScoringSpec], Field(min_length=1, max_length=MAX_SCORINGS)]


def as_list(value: Any) -> Any:
    """A single scoring as a list of one."""
    return [value] if isinstance(value, dict | ScoringSpec) else value


@register_kind
class PipelineRun(TrainingRun):
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
        shared = {name: getattr(self, name) for name in TrainingRun.model_fields}
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
