"""What a score may ask for: what all scorers share, and one class for each.

Importable without torch; ``implementation`` names the class that judges, in
``monosemy/interp/scorers``.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic.annotated_handlers import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from monosemy.specs.part import NAME, Part, Seed
from monosemy.specs.parts import JudgeSpec
from monosemy.specs.references import Plain
from monosemy.specs.registry import Need, Registered, Registry, register, without_flat
from monosemy.specs.score_details import (
    DiscriminationDetails,
    EmbeddingDetails,
    ExampleEmbeddingDetails,
    InterventionDetails,
    IntruderDetails,
    ScoreDetails,
    SimulationDetails,
    SurprisalDetails,
    YesNoDetails,
)

NegativeTier = Literal["random", "same_token", "embedding_near", "neighbour"]
"""Windows in which the feature is silent: any; with a token on which it often fires; near in
meaning to the activating ones; on which a neighbour of the feature fires."""

SCORERS: Registry[ScoringSpec] = Registry("scorer", "scorer", "detection")
"""The options' class of every scorer, those of plugins included."""


class InterventionSpec(Part):
    """How the latent is intervened on."""

    mode: Literal["add", "zero"] = "add"
    """``add``: the latent's decoder direction is added, as strongly as ``kl`` says.  ``zero``: the
    latent is taken out of the activations, where it fires."""
    kl: float = Field(1.0, gt=0, le=20)
    """How far ``add`` moves the prediction of the next token: mean KL(intervened || clean) over
    prompts, in nats, met within 10 %."""
    new_tokens: int = Field(8, ge=1, le=128)
    """Tokens generated after each prompt, at temperature 1."""
    prompts: int | None = Field(None, ge=2, le=500)
    """Most activating examples to take, spread over their strata; None takes all of
    ``positives``."""


_FLAT = {
    "intervention": InterventionSpec().model_dump(),
    "probe": {"folder": "probes/default"},
}
"""Options, with their defaults, that every score had when all scorers shared one spec."""


class ScoringSpec(Registered):
    """What all scorers share; any of them where it is the type of a field."""

    registry: ClassVar = SCORERS
    needs: ClassVar[frozenset[Need]] = frozenset()
    """What the scorer works with."""
    details: ClassVar[type[ScoreDetails]] = ScoreDetails
    """The class of its scores' details."""

    scorer: Annotated[str, Plain()] = Field("detection", max_length=NAME)
    """How explanations are judged."""
    positives: int = Field(10, ge=2, le=500)
    """Activating examples per feature, from the scoring split, stratified over quantiles."""
    negatives: int = Field(10, ge=2, le=500)
    """Non-activating examples of each tier per feature, from the scoring split."""
    tiers: tuple[NegativeTier, ...] = Field(("random",), max_length=8)
    """Kinds of negatives to score against, each reported apart; ``random`` is what the score
    itself is against."""
    texts_per_call: int = Field(5, ge=1, le=50)
    """Texts judged in one call; for ``intruder`` at least 3, one of them the intruder;
    ``simulation`` by prompt logprobs takes one."""
    half_width: float | None = Field(None, gt=0, lt=0.5)
    """Stop judging a feature once its interval is at most twice this wide; None judges all its
    examples.  The intervals are then as wide as ``looks`` demands."""
    looks: int = Field(4, ge=1, le=50)
    """How many equal parts the examples are judged in, with a look after each, where
    ``half_width`` is given."""
    shuffled_baseline: bool = True
    """Also score every feature with another feature's explanation."""
    empty_baseline: bool = False
    """Also score every feature with an explanation that says nothing, through the same prompt: what
    the texts give away by themselves."""
    judge: JudgeSpec = JudgeSpec()
    """The judging LLM."""
    seed: Seed = 0
    """Seeds the choice and order of examples."""

    @model_validator(mode="before")
    @classmethod
    def _without_the_others_options(cls, data: Any) -> Any:
        return without_flat(cls, data, _FLAT)

    @property
    def required(self) -> frozenset[Need]:
        """What the scorer works with, under these options."""
        return self.needs

    @field_validator("judge")
    @classmethod
    def _asks_live(cls, value: JudgeSpec) -> JudgeSpec:
        if value.batch and Need.HOST in cls.needs:
            raise ValueError("this scorer asks feature by feature: leave batch out")
        return value

    @field_validator("looks")
    @classmethod
    def _something_in_each(cls, value: int, info: ValidationInfo) -> int:
        least = min(info.data.get("positives", value), info.data.get("negatives", value))
        if info.data.get("half_width") is not None and value > least:
            raise ValueError(
                f"{value} looks need as many positives and negatives; there are {least}"
            )
        return value


@register
class DetectionScoring(ScoringSpec):
    """Which of these texts fits the explanation?"""

    implementation = "monosemy.interp.scorers.detection:DetectionScorer"
    needs = frozenset({Need.JUDGE})
    details = YesNoDetails
    scorer: Literal["detection"] = "detection"


@register
class FuzzingScoring(ScoringSpec):
    """In which of these activating texts are the right words marked?"""

    implementation = "monosemy.interp.scorers.fuzzing:FuzzingScorer"
    needs = frozenset({Need.JUDGE})
    details = YesNoDetails
    scorer: Literal["fuzzing"] = "fuzzing"


@register
class SimulationScoring(ScoringSpec):
    """How strong is the activation at every token (Pearson's correlation; by prompt logprobs where
    the endpoint has them, else in JSON)?"""

    implementation = "monosemy.interp.scorers.simulation:SimulationScorer"
    needs = frozenset({Need.JUDGE})
    details = SimulationDetails
    scorer: Literal["simulation"] = "simulation"


@register
class EmbeddingScoring(ScoringSpec):
    """Do activating texts lie nearer to the explanation than others, by the sentence embedder?"""

    implementation = "monosemy.interp.scorers.embedding:EmbeddingScorer"
    needs = frozenset({Need.EMBEDDER})
    details = EmbeddingDetails
    scorer: Literal["embedding"] = "embedding"


@register
class SurprisalScoring(ScoringSpec):
    """Does the explanation make activating texts more probable to the host model?"""

    implementation = "monosemy.interp.scorers.surprisal:SurprisalScorer"
    needs = frozenset({Need.HOST})
    details = SurprisalDetails
    scorer: Literal["surprisal"] = "surprisal"


@register
class InterventionScoring(ScoringSpec):
    """Does what the host model writes hold more of it when the latent is amplified?"""

    implementation = "monosemy.interp.scorers.intervention:InterventionScorer"
    needs = frozenset({Need.HOST})
    details = InterventionDetails
    scorer: Literal["intervention"] = "intervention"
    intervention: InterventionSpec = InterventionSpec()
    """What is done to the host model."""

    @field_validator("half_width")
    @classmethod
    def _one_strength(cls, value: float | None) -> float | None:
        if value is not None:
            raise ValueError("intervention is tuned on all its prompts: leave half_width out")
        return value


@register
class ExampleEmbeddingScoring(ScoringSpec):
    """Do activating texts lie nearer to each other than others?  A ceiling, without any
    explanation."""

    implementation = "monosemy.interp.scorers.example_embedding:ExampleEmbeddingScorer"
    needs = frozenset({Need.EMBEDDER})
    details = ExampleEmbeddingDetails
    scorer: Literal["example_embedding"] = "example_embedding"


@register
class IntruderScoring(ScoringSpec):
    """Which of these texts is the odd one?  A ceiling, without any explanation."""

    implementation = "monosemy.interp.scorers.intruder:IntruderScorer"
    needs = frozenset({Need.JUDGE})
    details = IntruderDetails
    scorer: Literal["intruder"] = "intruder"


@register
class DiscriminationScoring(ScoringSpec):
    """Detection against texts of the features with the most similar explanations (which must be
    embedded)."""

    implementation = "monosemy.interp.scorers.discrimination:DiscriminationScorer"
    needs = frozenset({Need.JUDGE})
    details = DiscriminationDetails
    scorer: Literal["discrimination"] = "discrimination"


class ProbeSpec(Part):
    """What is stored of the probe that judged."""

    folder: Annotated[str, Plain()] = Field("probes/default", max_length=400)
    """Relative to the artifact root; nothing reads it any more."""


@register
class ProbeScoring(ScoringSpec):
    """Detection by a trained probe of the host model's states; read, and no longer run."""

    retired = "the scorer probe is gone: nothing but a script ever trained a probe; take detection"
    scorer: Literal["probe"] = "probe"
    probe: ProbeSpec = ProbeSpec()
    """Where the probe was."""


class _OfAnyScorer:
    """Describes ``details`` as those of one of the scorers; whatever is stored is let through."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        del schema
        kinds = dict.fromkeys(spec.details for spec in SCORERS.values())
        return handler(core_schema.union_schema([kind.__pydantic_core_schema__ for kind in kinds]))


DetailsOfScore = Annotated[dict[str, Any], _OfAnyScorer]
"""As the type of a field: the details of any scorer."""
