"""What a concept run finds: features, a threshold, and how well they tell and erase."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Literal

from monosemy.specs.concepts import ChoiceRule, FittedConcept, Scoring, TextEmbedding
from monosemy.specs.described import Described

DetectorKind = Literal[
    "concept", "rule", "score", "scale", "no_retain", "random", "probe", "papers_threshold"
]
"""`rule`: features chosen by the other rule."""
EraserKind = Literal[
    "nothing", "concept", "rule", "scale", "no_retain", "random", "mean_difference", "leace"
]
EmbeddingKind = Literal["nothing", "concept", "scale", "random", "leace"]


class Share(Described):
    """A share, an area or a mean, with its interval."""

    value: float | None
    """None where nothing was counted."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    n: int
    """Texts."""


class TextCounts(Described):
    """What texts were used for; near duplicates share one use."""

    fit_targets: int
    """Features were chosen by them ..."""
    fit_retain: int
    """... less those of these."""
    threshold_retain: int
    """The threshold was set by them."""
    test_targets: int
    """Tested on, as are all below."""
    test_retain: int
    misspelt: int
    """Test targets with spelling mistakes that we made."""
    paraphrases: int
    repeated: int
    """Texts that were given more than once; counted once."""
    left_out: int
    """Paraphrases that are near duplicates of texts that were fitted to."""


class ThresholdFigures(Described):
    """How the threshold was found, and what holds of it."""

    value: float
    wanted: float
    """Share of false alarms that was asked for."""
    rule: Literal["conformal", "clopper_pearson"]
    """`conformal`: texts like the retain texts are flagged at no higher rate than `wanted`, on
    average over choices of texts; `clopper_pearson`: with this confidence it is no higher."""
    confidence: float | None
    texts: int
    """Retain texts that it was set by."""
    least: int
    """The least number of such texts for what is wanted."""
    above: int
    """How many of them have a score above it."""
    bound: float
    """With a confidence of 95 % the rate is no higher (Clopper and Pearson)."""
    by_chance: float | None = None
    """Share of false alarms among as many retain texts as were tested that 95 of 100 splits do not
    exceed, though what was asked for holds; null where none were tested."""


class Detector(Described):
    """One way to tell texts, tested on texts that chose nothing."""

    name: str
    kind: DetectorKind
    features: int | None
    """None where it goes by no features."""
    scale: float | None
    score: Scoring | None
    threshold: float
    """By the same rule for all, but for the paper's."""
    area: Share
    """Under the ROC curve: the chance that a target has a higher score than a retain text."""
    found: Share
    """Targets that are flagged."""
    false_alarms: Share
    """Retain texts that are flagged."""
    misspelt: Share
    """Misspelt targets that are flagged."""
    paraphrases: Share
    """Paraphrased targets that are flagged."""


class Eraser(Described):
    """One way to take the concept out of every text, flagged or not."""

    name: str
    kind: EraserKind
    features: int | None
    scale: float | None
    linear: Share
    """Area under the ROC curve of a linear probe that is fitted anew after it, on test texts: .5
    where it finds nothing."""
    nonlinear: Share
    """The same of a radial probe."""
    change_targets: float
    """Mean square change of a test target's mean activation, in units of the variance between
    texts."""
    change_retain: float
    """The same of test retain texts."""


class EmbeddingChange(Described):
    """What one way to take the concept out does to the embeddings of test texts.

    Of the targets those count that are flagged; where the probes have to tell these from something,
    it is from all retain texts.
    """

    name: str
    kind: EmbeddingKind
    """`nothing`, `concept`, `scale` and `random` leave texts alone that are not flagged; `leace`
    changes every text, as it tells none."""
    features: int | None
    scale: float | None
    equal: Share
    """Texts that are not flagged, targets or not, whose embedding is the same bit for bit."""
    cosine: Share
    """Mean cosine of a target's embedding before and after."""
    similarity: Share
    """Mean cosine of a target's embedding and that of what the concept is called."""
    named: Share
    """Targets whose embedding is nearer to what the concept is called than to any of the others."""
    probe: Share
    """Balanced accuracy of a linear probe of the concept that was fitted to embeddings as they
    were: .5 where it finds nothing."""
    new_probe: Share
    """The same of one that is fitted to embeddings as this way leaves them."""
    word_probe: Share
    """Balanced accuracy of a linear probe of the word that was fitted to embeddings as they were:
    what is kept of other things."""


class EmbeddingFigures(Described):
    """What writing without the concept does to one vector for a whole text."""

    embedding: TextEmbedding
    """`pooled`: what a text encoder pools at the text's end; `mean_stream`: the mean over the
    tokens of the stream after the last block."""
    width: int
    called: str
    """What the concept is called."""
    others: list[str]
    word: str | None
    """That the probe of something else goes by; None where there is none."""
    targets: int
    """Test targets ..."""
    flagged_targets: int
    """... that are flagged."""
    retain: int
    """Test retain texts ..."""
    flagged_retain: int
    changes: list[EmbeddingChange]
    """Empty where no test target is flagged."""
    missing: list[str]
    """What could not be measured, and why."""


class ConceptFeature(Described):
    """A feature of a concept."""

    index: int
    targets: int
    """Fitted targets among whose strongest features it is."""
    retain: int | None = None
    """Fitted retain texts of which it is so: none by the rule `difference`.  None of a concept that
    an earlier version found."""
    maximum: float
    """Its largest activation in these."""
    test_targets: float
    """Share of test targets in which it fires."""
    test_retain: float
    """Share of test retain texts in which it fires."""


class ConceptResult(Described):
    """A concept: how texts are told by it, and how well."""

    concept: FittedConcept
    model: str
    site: str
    weights: str
    """Digest of the SAE's weights that it was found in."""
    top_k: int
    rule: ChoiceRule = "difference"
    """How features were chosen."""
    seed: int
    texts: TextCounts
    threshold: ThresholdFigures
    shared: int
    """Features of the targets that are not the concept's: of the retain texts too, or in no
    more targets beyond chance."""
    features: list[ConceptFeature]
    """The concept's, those of most targets (by the rule `share` of the highest correlation)
    first; at most 1,000."""
    detectors: list[Detector]
    erasers: list[Eraser]
    embeddings: EmbeddingFigures | None = None
    """None of a concept that was found before they were measured."""
    examples: list[str]
    """A few targets."""
    seconds: float


class ConceptSummary(Described):
    """A concept in a line."""

    model: str
    site: str
    scale: float
    keep_error: bool
    features: int
    threshold: float
    wanted: float
    area: Share
    found: Share
    false_alarms: Share


class _Stored(Described):
    id: uuid.UUID
    """That of the run which made it."""
    name: str
    sae: str
    """Name of its SAE."""
    created_at: dt.datetime


class ConceptRow(ConceptSummary, _Stored):
    """One of several."""


class ConceptView(ConceptResult, _Stored):
    """A stored concept."""


def summary_of(result: ConceptResult) -> ConceptSummary:
    """The figures of a result that a list shows."""
    own = next(each for each in result.detectors if each.kind == "concept")
    concept = result.concept
    return ConceptSummary(
        model=result.model,
        site=result.site,
        scale=concept.scale,
        keep_error=concept.keep_error,
        features=len(concept.features),
        threshold=concept.threshold,
        wanted=result.threshold.wanted,
        area=own.area,
        found=own.found,
        false_alarms=own.false_alarms,
    )
