"""Features as the API shows them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Literal

from pydantic import ConfigDict, Field

from monosemy.index.evidence import FeatureEvidence
from monosemy.interp.heading import Heading
from monosemy.interp.judge_test.result import JudgeTestBrief
from monosemy.specs.described import Described
from monosemy.specs.latent_classes import LatentClass
from monosemy.specs.rest.page import Page
from monosemy.specs.rest.saes import SaeSummary
from monosemy.specs.scorers import DetailsOfScore

FeatureSort = Literal["index", "density", "max_activation", "score", "margin"]
"""`margin`: how far a score's 95 % interval begins above its shuffled baseline."""
SortOrder = Literal["asc", "desc"]
MeasuredColumn = Literal[
    "density",
    "maximum",
    "mean",
    "score",
    "top_token_share",
    "distinct_tokens",
    "logit_kurtosis",
]
LayoutColumn = Literal["layout_x", "layout_y"]
"""Where the layout of the SAE has a feature."""
KindColumn = Literal["tag", "heading", "evidence_kind"]
"""Of which kind a feature is: a number, from 0 on."""
FeatureColumn = Literal[MeasuredColumn, LayoutColumn, KindColumn, "explained", "matches"]
"""What is had of all features of an SAE at once, one number for each."""


class _View(Described):
    model_config = ConfigDict(from_attributes=True)


class ScoreBrief(_View):
    """How well an explanation predicts on held-out documents."""

    scorer: str
    metric: str
    value: float | None
    """null when every judgement failed."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    n: int
    """Judgements that count."""
    n_failed: int
    """Judgements that could not be had."""
    baseline: float | None
    """The same metric for another feature's explanation."""
    judge: str
    """The LLM that judged; empty where none was asked."""
    judge_test: JudgeTestBrief | None = None
    """How often that judge detects what is known to be there; null where it was not tested, or
    none was asked."""


class ScoreDetail(ScoreBrief):
    """A score with everything that it was computed from."""

    id: uuid.UUID
    run_id: uuid.UUID | None
    details: DetailsOfScore
    """Confusion counts, worst case, the baseline's n and interval, the single judgements."""
    created_at: dt.datetime


class ExplanationBrief(_View):
    """What an LLM, or a person, says of a feature."""

    id: uuid.UUID
    explainer: str
    """`default`, `contrastive` and so on, or `human`."""
    label: str
    """A few words."""
    text: str
    """A sentence or two."""
    judge: str
    """The LLM that wrote it; empty for a person."""
    judge_test: JudgeTestBrief | None = None
    """How often that judge names what is known; null where it was not tested."""


class Votes(_View):
    """What readers hold of an explanation."""

    up: int = 0
    down: int = 0
    mine: int = 0
    """1 or -1 where the caller has voted; in open mode there is one voter."""


class ExplanationDetail(ExplanationBrief):
    run_id: uuid.UUID | None
    provenance: dict[str, Any]
    created_at: dt.datetime
    scores: list[ScoreDetail]
    votes: Votes


class FeatureFacts(_View):
    """What is shown of a feature everywhere: in listings, on its page, in exports.

    The API's columns of the table ``features`` follow from these fields
    (``service/features/columns.py``)."""

    index: int
    label: str
    """From evidence alone, by fixed rules: no LLM."""
    density: float
    """Share of all indexed tokens on which it fires."""
    max_activation: float
    postings: int
    """Tokens on which it fires."""


class FeatureSummary(FeatureFacts):
    """A feature in a listing."""

    model_config = ConfigDict(use_attribute_docstrings=True)  # for the dataclasses in it

    heading: Heading
    """What to call it: an explanation whose score clears its shuffled baseline, else `label`; and
    why."""
    explanation: ExplanationBrief | None
    """The best scored one, else the newest."""
    score: ScoreBrief | None
    """That explanation's best score."""
    tags: list[str]
    """In alphabetical order."""


class ExampleView(_View):
    """A window of text in which the feature fires."""

    group: str = Field(examples=["top", "q0"])
    """`top`, or the quantile of the positive activations it was drawn from, `q0` the weakest."""
    activation: float
    """At the token that the example is about."""
    focus: int
    """Which of `tokens` that is."""
    tokens: list[str]
    """Text of each token; joined they are the window's text."""
    token_ids: list[int]
    activations: list[float]
    """One for each token."""
    row: int
    """Row of the token store."""
    position: int
    """Position in the token store of the token that the example is about."""
    document: int
    document_name: str | None
    before: list[str] = []  # noqa: RUF012 - pydantic copies it
    """Text of the tokens of the row before the window, where more context was asked for; what the
    feature does there is not stored."""
    after: list[str] = []  # noqa: RUF012 - pydantic copies it
    """The same behind the window."""


class NeighbourView(_View):
    feature: int
    value: float
    """Cosine of the decoder rows, or Jaccard index of the sets of tokens."""
    label: str | None
    """Evidence label; null when that feature is not indexed."""
    heading: str | None
    """What to call it; null when it is not indexed."""
    explanation: str | None
    """Label of its best explanation."""


class Neighbours(_View):
    cosine: list[NeighbourView]
    """Nearest decoder directions."""
    coactive: list[NeighbourView]
    """Features that fire on the same tokens."""


class LatentScalingView(_View):
    """How much of a crosscoder's latent is at the places other than its strongest (Minder et al.
    2025): shares of what is at its own, the largest over the places."""

    place: str
    """Where it is strongest."""
    genuine: bool | None
    """Of one that looks exclusive: whether both are small, below .1 and .5. Null of others."""
    nu_error: float | None
    """Of what is there before the latent is taken out: a weaker presence that was shrunk away."""
    nu_reconstruction: float | None
    """Of what other latents write there."""


class FeaturePage(FeatureFacts):
    """Everything a feature's page needs."""

    model_config = ConfigDict(use_attribute_docstrings=True)  # for the dataclasses in it

    sae: SaeSummary
    heading: Heading
    """What to call it: an explanation whose score clears its shuffled baseline, else `label`; and
    why."""
    tags: list[str]
    """In alphabetical order."""
    evidence: FeatureEvidence
    """What is known without any LLM: tokens, promoted and suppressed tokens, histogram..."""
    latent_class: LatentClass | None = None
    """Of a crosscoder, by the length of what it writes at each place (`evidence.places`):
    `exclusive` where all but one are below a tenth of the largest, `shared` where all are from
    eight tenths on, else `weak`. Null for other SAEs, and where the index is of an earlier
    version."""
    latent_scaling: LatentScalingView | None = None
    """What the SAE's evaluation measured of the same latent; null where none has run or it never
    fired on held-out text: whether one that looks exclusive is so is unknown then."""
    explanations: list[ExplanationDetail]
    """Best scored first, then the newest."""
    neighbours: Neighbours
    examples: list[ExampleView]
    """The strongest first, then the quantiles from weakest to strongest."""


class ExamplePage(Page[ExampleView]):
    """One page of a feature's examples."""

    groups: dict[str, int]
    """How many examples each group has."""


class FeaturePlace(_View):
    """Where a feature is found."""

    sae: str
    """Name of the SAE."""
    feature: int
    """Index of the latent."""


class FeaturesAround(_View):
    """The features before and after one, in a listing or a list."""

    previous: FeaturePlace | None
    """null at the beginning."""
    next: FeaturePlace | None
    """null at the end."""
