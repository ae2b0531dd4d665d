"""What a benchmark finds of an SAE."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Literal

from monosemy.specs.described import Described

Better = Literal["higher", "lower", "neither"]


class BenchmarkUnit(Described):
    """What is counted once: a task, a letter, a document, an attribute."""

    name: str
    family: str
    """Units of one family are alike, and are resampled together."""


class BenchmarkFigure(Described):
    """One metric of one subject, with its interval."""

    metric: str
    """What is measured; its formula is that of the result's benchmark and version."""
    subject: str
    """Of what: `sae`, or what stands beside it: `frozen` (the SAE's frozen-decoder baseline),
    `random`, `dense`, `shuffled`, and so on."""
    better: Better
    value: float | None
    """None where it is not defined."""
    low: float | None
    """Lower end of the 95 % interval: families of units resampled.  None with fewer than two."""
    high: float | None
    n: int
    """Units that it is made of."""
    families: int
    seed_sd: float | None = None
    """Standard deviation between seeds; None with one seed, or where seeds change nothing."""


class BenchmarkMetric(BenchmarkFigure):
    """A figure as it is kept: a sum over units, divided by a sum over units."""

    parts: list[float | None]
    """Its value, or the numerator of its value, by unit in the order of `units`; None for a unit
    that it has not."""
    weights: list[float] | None = None
    """The denominators by unit; None where they are all 1, so that the value is a mean."""


class BenchmarkAbout(Described):
    """What a result belongs to."""

    model: str
    host_fingerprint: str
    dtype: str
    site: str
    """Where the SAE reads; several places joined by a comma."""
    sae_digest: str
    architecture: str
    latents: int
    recipe: str
    """Equal for SAEs that differ in nothing but the seed of their training and the name."""
    seed: int | None
    """Of its training; None of one that was not trained here."""
    data: str
    """Digest of the data it was measured on."""
    protocol: str
    """Digest of benchmark, version, options, data, host model and site: results of one protocol can
    be set beside each other."""
    code: str
    """Version of monosemy."""


class BenchmarkHead(Described):
    """What results of one protocol have in common."""

    benchmark: str
    version: int
    """Of its formulas."""
    options: dict[str, Any]
    """The benchmark's part of the run's spec."""
    about: BenchmarkAbout
    seeds: list[int]
    unit: str
    """What its units are: `task`, `letter`, `document`."""
    headline: str
    """The metric that it is listed by."""
    ranks: bool = True
    """Whether SAEs may be ranked by it; a diagnostic says in `notes` why not."""


class BenchmarkResult(BenchmarkHead):
    """What one benchmark found of one SAE."""

    units: list[BenchmarkUnit]
    metrics: list[BenchmarkMetric]
    notes: list[str]
    """What to know when reading it, as sentences."""
    details: dict[str, Any]
    """What else was found, by the benchmark's own names."""
    seconds: float
    """That it took, what several SAEs share left out."""


class BenchmarkRow(Described):
    """A result in a list."""

    id: uuid.UUID
    sae: str
    """Name of the SAE."""
    benchmark: str
    model: str
    site: str
    protocol: str
    """Results of one protocol make a leaderboard."""
    figures: list[BenchmarkFigure]
    """The headline metric: of the SAE first, then of what stands beside it."""
    run: uuid.UUID
    """The run that measured it, which may be gone."""
    created_at: dt.datetime


class BenchmarkView(BenchmarkResult):
    """A result, with what it is of."""

    id: uuid.UUID
    sae: str
    run: uuid.UUID
    created_at: dt.datetime


class LeaderboardHeader(Described):
    """A protocol by which SAEs were measured here."""

    protocol: str
    benchmark: str
    version: int
    model: str
    dtype: str
    site: str
    seeds: list[int]
    options: dict[str, Any]
    """The benchmark's part of the runs' specs."""
    headline: str
    ranks: bool
    """Whether SAEs may be ranked by it."""
    saes: int
    newest: dt.datetime
    """When the newest of its results was measured."""


def header_of(head: BenchmarkHead, saes: int, newest: dt.datetime) -> LeaderboardHeader:
    """Of the protocol of a result, by which so many ``saes`` were measured."""
    about = head.about
    return LeaderboardHeader(
        protocol=about.protocol,
        benchmark=head.benchmark,
        version=head.version,
        model=about.model,
        dtype=about.dtype,
        site=about.site,
        seeds=head.seeds,
        options=head.options,
        headline=head.headline,
        ranks=head.ranks,
        saes=saes,
        newest=newest,
    )


class Leaderboards(Described):
    """Protocols by which SAEs were measured."""

    items: list[LeaderboardHeader]
    """That of the newest result first."""


class BenchmarkDifference(Described):
    """An SAE less another, over the same units."""

    value: float
    low: float | None
    """Ends of a 95 % interval that holds for all pairs of the leaderboard together."""
    high: float | None
    apart: bool
    """Whether the two can be told apart: the interval does not cover 0."""


class RankedSae(Described):
    """An SAE on a leaderboard."""

    id: uuid.UUID
    """Of the result."""
    sae: str
    architecture: str
    latents: int
    recipe: str
    seed: int | None
    """Of its training; None of one that was not trained here."""
    figure: BenchmarkFigure
    beside: list[BenchmarkFigure]
    """The same metric of its baselines and of chance."""
    best_rank: int | None
    """1 and as many as are told to be better; None where SAEs are not ranked."""
    worst_rank: int | None
    """How many there are, less those that are told to be worse."""
    difference: BenchmarkDifference | None
    """From the SAE that all are held against; None of that one, and where no unit is shared."""


class RankedRecipe(Described):
    """SAEs that differ in nothing but their seed."""

    recipe: str
    saes: list[str]
    mean: float
    seed_sd: float | None
    """Standard deviation between training seeds; None with one."""


class Leaderboard(LeaderboardHeader):
    """The SAEs that were measured by one protocol, by one of its metrics."""

    metric: str
    better: Better
    metrics: list[str]
    """That there are."""
    unit: str
    units: int
    """Over which SAEs are compared: those that all have."""
    families: int
    against: str | None
    """Name of the SAE that the others are held against; None where there are fewer than two."""
    rows: list[RankedSae]
    """The best first; where neither end is better, by value."""
    recipes: list[RankedRecipe]
    pairs: int
    """Of SAEs."""
    apart: int
    """Pairs that can be told apart, all intervals holding together with 95 %."""
    notes: list[str]


class BenchmarkFailure(Described):
    """What could not be measured, and why."""

    sae: str
    benchmark: str
    reason: str
    advice: str | None = None


class BenchmarkHeadline(Described):
    """A result in short."""

    sae: str
    reference: str
    """Id of the SAE; without a service, the name of its folder."""
    benchmark: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    protocol: str
    kept: bool
    """Whether it was stored before."""


class BenchmarkSummary(Described):
    """What a run of benchmarks came to."""

    results: list[BenchmarkHeadline]
    not_measured: list[BenchmarkFailure]
