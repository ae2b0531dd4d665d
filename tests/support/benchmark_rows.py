"""Results of benchmarks over the library of ``library_rows``: figures by hand."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence

import numpy as np
from sqlalchemy.orm import Session

from monosemy.benchmarking.units import Column, metric_of
from monosemy.specs.rest.benchmarks import (
    BenchmarkAbout,
    BenchmarkMetric,
    BenchmarkResult,
    BenchmarkUnit,
    Better,
    LeaderboardHeader,
)
from service.benchmarks.repository import keep_result
from service.saes.repository import find_sae

PROTOCOL, ODD_PROTOCOL = "00c0ffee00c0ffee", "0dd00dd00dd00dd0"
RESULT, RUN = uuid.UUID(int=131), uuid.UUID(int=130)
SITE = "blocks.9.hook_resid_post"
UNITS = [BenchmarkUnit(name=f"task {at}", family=f"family {at}") for at in range(12)]


def about(recipe: str = "a", seed: int | None = 0, **changes: str) -> BenchmarkAbout:
    own = {
        "model": "tiny-demo",
        "host_fingerprint": "1" * 16,
        "dtype": "float32",
        "site": SITE,
        "sae_digest": "2" * 16,
        "architecture": "topk",
        "data": "3" * 16,
        "protocol": PROTOCOL,
        "code": "0.1.0",
    }
    return BenchmarkAbout(**{**own, **changes}, latents=64, recipe=recipe, seed=seed)


def metric(
    values: Sequence[float | None], subject: str, name: str = "auc", seeds: int = 1
) -> BenchmarkMetric:
    """Its values by unit, each seed alike."""
    parts_U = np.array([np.nan if each is None else each for each in values], float)
    parts_SU = np.tile(parts_U, (seeds, 1)) + 0.001 * np.arange(seeds)[:, None]
    better: Better = "neither" if name == "l0" else "higher"
    return metric_of(Column(name, subject, parts_SU, better=better), UNITS[: len(values)])


def header(saes: int = 1, ranks: bool = True) -> LeaderboardHeader:
    return LeaderboardHeader(
        protocol=PROTOCOL,
        benchmark="core",
        version=1,
        model="tiny-demo",
        dtype="float32",
        site=SITE,
        seeds=[0],
        options={},
        headline="auc",
        ranks=ranks,
        saes=saes,
        newest=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )


def result(
    mean: float = 0.75, note: str = "Units are tasks.", name: str = "auc", **changes: str
) -> BenchmarkResult:
    """One of twelve tasks, with chance and a baseline beside it."""
    spread = 0.01 * np.arange(12) - 0.055
    of = {
        "sae": mean + spread,
        "frozen": mean - 0.1 + spread,
        "random": 0.5 + 0.2 * spread,
    }
    return BenchmarkResult(
        benchmark="core",
        version=1,
        options={"benchmark": "core", "tokens": 16_384, "seeds": [0, 1]},
        about=about("a", 0, **changes),
        seeds=[0, 1],
        unit="task",
        units=UNITS,
        headline=name,
        metrics=[
            *(metric(list(values), subject, name, 2) for subject, values in of.items()),
            metric([4.0] * 11 + [None], "sae", "l0"),
        ],
        notes=[note],
        details={"sae": {"dead_share": 0.125, "kinds": ["one", "two"]}},
        seconds=2.5,
    )


def odd_benchmark(text: str) -> BenchmarkResult:
    """Of a diagnostic whose every word is ``text``, without values."""
    units = [BenchmarkUnit(name=f"{text} {at}", family=text) for at in range(3)]
    column = Column(text, "sae", np.full((1, 3), np.nan))
    beside = Column(text, text, np.full((1, 3), 2.5))
    return BenchmarkResult(
        benchmark=text,
        version=1,
        options={"benchmark": text, "seeds": [0]},
        about=about(text, None, site=text, model=text, protocol=ODD_PROTOCOL, architecture=text),
        seeds=[0],
        unit=text,
        units=units,
        headline=text,
        metrics=[metric_of(each, units) for each in (column, beside)],
        ranks=False,
        notes=[text],
        details={text: [text]},
        seconds=0.0,
    )


def add_benchmarks(session: Session, *names: str) -> None:
    """Of SAEs by one protocol; each weaker than the one before it."""
    for place, name in enumerate(names):
        sae = find_sae(session, name)[0].id
        made = result(0.75 - 0.1 * place, sae_digest=f"{place}" * 16)
        keep_result(session, RESULT if place == 0 else uuid.UUID(int=131 + place), RUN, sae, made)
