"""What a benchmark finds of an SAE."""

from __future__ import annotations

from typing import Any, Literal

from monosemy.specs.described import Described

Better = Literal["higher", "lower", "neither"]


class BenchmarkUnit(Described):
    """What is counted once: a task, a letter, a document, an attribute."""

    name: str
    family: str
    """Units of one family are alike, and are resampled together."""


class BenchmarkMetric(Described):
    """One metric of one subject: a sum over units, divided by a sum over units."""

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
    data: str
    """Digest of the data it was measured on."""
    protocol: str
    """Digest of benchmark, version, options, data, host model and site: results of one protocol can
    be set beside each other."""
    code: str
    """Version of monosemy."""


class BenchmarkResult(Described):
    """What one benchmark found of one SAE."""

    benchmark: str
    version: int
    """Of its formulas."""
    options: dict[str, Any]
    """The benchmark's part of the run's spec."""
    about: BenchmarkAbout
    seeds: list[int]
    unit: str
    """What its units are: `task`, `letter`, `document`."""
    units: list[BenchmarkUnit]
    headline: str
    """The metric that it is listed by."""
    metrics: list[BenchmarkMetric]
    ranks: bool = True
    """Whether SAEs may be ranked by it; a diagnostic says in `notes` why not."""
    notes: list[str]
    """What to know when reading it, as sentences."""
    details: dict[str, Any]
    """What else was found, by the benchmark's own names."""
    seconds: float
    """That it took, what several SAEs share left out."""


class BenchmarkFailure(Described):
    """What could not be measured, and why."""

    sae: str
    benchmark: str
    reason: str
    advice: str | None = None


class BenchmarkHeadline(Described):
    """A result in short."""

    sae: str
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
    failed: list[BenchmarkFailure]
