"""What stands behind a score, one class for each scorer: the ``details`` of scores in answers.

Scores that other versions, or other tools, stored may lack keys and have others, so every key may
be missing and others are kept.  A test holds what the scorers give to these classes.
"""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from monosemy.specs.described import Described


class Details(Described):
    """Base: docstrings under fields become their descriptions, further keys are kept."""

    model_config = ConfigDict(extra="allow")


class Interval(Details):
    """A figure with its 95 % interval."""

    value: float | None
    """None where it is not defined."""
    low: float | None
    high: float | None


class RateDetails(Interval):
    """A share of documents' judgements, and Wilson's interval."""

    n: int
    """Judgements."""
    effective_n: float
    """What they are worth, documents that answer alike taken into account."""


class Confusion(Details):
    true_positives: int
    false_negatives: int
    true_negatives: int
    false_positives: int


class NegativesDetails(Interval):
    """Balanced accuracy against one kind of negatives."""

    worst_case: float | None
    tnr: RateDetails
    confusion: Confusion


class AreaDetails(Interval):
    """An area under the ROC curve."""

    n_positive: int
    n_negative: int
    worst_case: float | None = None


class PrecisionDetails(Interval):
    """Of the contexts that an explanation fits, the share that activates."""

    density: float
    """Share of all contexts in which the feature fires."""


class LooksDetails(Details):
    """How sequential scoring went."""

    declared: int
    taken: int
    half_width: float
    critical_value: float


class JudgementDetails(Details):
    """One example, judged."""

    row: int
    position: int
    document: int
    tier: str
    """`activating`, or the kind of negative it is."""
    group: str | int
    """Stratum of the activation, 0 the weakest; else the tier."""
    truth: bool
    answer: bool | None
    value: float | None = None
    real: list[float] | None = None
    simulated: list[float] | None = None


class ScoreDetails(Details):
    """What every score has."""

    worst_case: float | None = None
    """The value if every failed judgement had been wrong."""
    judgements: list[JudgementDetails] = Field(default_factory=list)
    """Every single one, failed ones included."""
    usage: dict[str, float] = Field(default_factory=dict)
    """Calls, tokens and seconds."""
    chance_normalised: float | None = None
    """(value - baseline) / (1 - baseline)."""
    baseline: dict[str, Any] | None = None
    """The same of another feature's explanation."""
    empty: dict[str, Any] | None = None
    """The same of an explanation that says nothing."""
    looks: LooksDetails | None = None
    prompt: Any = None
    """Name, version and hash of the prompt's file."""
    judge: dict[str, Any] | None = None
    """Who judged: model, address, sampling, format."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """What else the judging went by."""
    plugins: list[dict[str, str]] | None = None
    """Modules and versions from outside that took part."""


class YesNoDetails(ScoreDetails):
    """Of balanced accuracy."""

    confusion: Confusion
    tpr: RateDetails
    tnr: RateDetails
    recall_by_group: dict[str, RateDetails]
    """By stratum of the activation, 0 the weakest."""
    tiers: dict[str, NegativesDetails]
    """By kind of negatives."""
    natural_precision: PrecisionDetails | None = None


class DiscriminationDetails(YesNoDetails):
    neighbours: list[str]
    """The features that it was told from."""


class AurocDetails(ScoreDetails):
    n_positive: int
    n_negative: int
    by_group: dict[str, AreaDetails]
    """By stratum of the activation, 0 the weakest."""
    tiers: dict[str, AreaDetails]
    """By kind of negatives."""


class ExampleEmbeddingDetails(AurocDetails):
    embedder: str


class EmbeddingDetails(ExampleEmbeddingDetails):
    texts_embedded: int


class HostDetails(Details):
    """A host model that took part."""

    name: str
    fingerprint: str
    dtype: str


class SurprisalDetails(AurocDetails):
    model: HostDetails


class GroupMean(Details):
    mean: float
    n: int


class WrittenTexts(Details):
    prompt: str
    clean: str
    intervened: str


class InterventionDetails(ScoreDetails):
    unit: str
    n_documents: int
    by_group: dict[str, GroupMean]
    """By stratum of the activation, 0 the weakest."""
    note: str
    sem: float | None = None
    """Standard error of the mean."""
    kl: float
    """Mean KL(intervened || clean) of the first new token, nats."""
    strength: float | None
    """Length of the vector added; None for an ablation."""
    texts: list[WrittenTexts]
    """Some of what was written."""
    model: HostDetails
    reader: HostDetails


class IntruderAccuracy(RateDetails):
    above_chance: Interval
    """On the scale where guessing is 0 and always finding it is 1."""


class IntruderDetails(ScoreDetails):
    chance: float
    above_chance: Interval
    effective_n: float
    accuracy_by_group: dict[str, IntruderAccuracy]
    """By stratum of the other texts."""
    tiers: dict[str, IntruderAccuracy]
    """By kind of intruder."""


class Calibration(Details):
    slope: float
    intercept: float
    r_squared: float | None


class SimulationMeasures(Details):
    """How simulated activations agree with real ones."""

    clusters: int
    reason: str | None
    """Why there is no value, where there is none."""
    contexts: int
    spearman: float | None
    r_squared: float | None
    absolute_deviation_explained: float | None
    calibration: Calibration
    mean_real: float | None
    mean_simulated: float | None


class PartMeasures(SimulationMeasures, Interval):
    """The same of a part of the contexts, with its Pearson correlation."""

    n: int
    """Tokens."""


class SimulationDetails(ScoreDetails, SimulationMeasures):
    simulation: str | None
    """By prompt logprobs or in JSON."""
    simulation_reason: str | None
    """Why in JSON."""
    n_tokens: int
    activating_only: PartMeasures
    random_only: PartMeasures | None = None
    by_group: dict[str, PartMeasures]
    """By stratum of the activation, 0 the weakest."""
