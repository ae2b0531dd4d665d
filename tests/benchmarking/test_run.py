"""A run of benchmarks: one fault holds up nothing else, and nothing is measured twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from monosemy.benchmarking.base import Benchmark, BenchmarkSae, Measured
from monosemy.benchmarking.units import Column
from monosemy.errors import DataError
from monosemy.sae_folder import NamedFolder, SaeFolder
from monosemy.specs.benchmarks import BENCHMARKS, BenchmarkSpec
from monosemy.specs.registry import register
from monosemy.specs.rest.benchmarks import BenchmarkResult, BenchmarkUnit
from tests.benchmarking.conftest import KeptResults, benchmarked


class CountingBenchmark(Benchmark["CountingSpec"]):
    """Counts how often it is asked; refuses widths that it is told to."""

    unit = "latent"
    prepared: ClassVar[int] = 0
    measured: ClassVar[list[str]] = []

    @property
    def headline(self) -> str:
        return "width"

    def data_digest(self) -> str:
        return "none"

    def check(self, sae: BenchmarkSae) -> None:
        if sae.sae.d_sae == self.spec.refused:
            raise DataError("This width is refused.", "Train another.")

    def prepare(self) -> None:
        type(self).prepared += 1
        if self.spec.broken:
            raise DataError("The host model cannot be measured.")

    def measure(self, sae: BenchmarkSae) -> Measured:
        self.measured.append(sae.name)
        column = Column("width", "sae", np.full((len(self.spec.seeds), 2), float(sae.sae.d_sae)))
        units = [BenchmarkUnit(name=each, family=each) for each in "ab"]
        return Measured(units, [column], notes=["Wider is wider."], details={"of": sae.name})


class CountingSpec(BenchmarkSpec):
    """For tests."""

    implementation = "tests.benchmarking.test_run:CountingBenchmark"
    version = "1"
    benchmark: Literal["counting"] = "counting"
    refused: int = 0
    """Width that is refused."""
    broken: bool = False
    """Fail to prepare."""


@pytest.fixture(autouse=True)
def counting() -> Iterator[None]:
    register(CountingSpec)
    CountingBenchmark.prepared, CountingBenchmark.measured = 0, []
    yield
    BENCHMARKS._classes.pop("counting", None)


def _run(home: Path, saes: list[NamedFolder], kept: KeptResults, *options: dict[str, Any]) -> Any:
    return benchmarked(home, saes, kept, *({"benchmark": "counting", **each} for each in options))


def test_each_site_is_prepared_once_and_a_second_run_measures_nothing(
    benchmark_home: Path, benchmarked_saes: list[NamedFolder]
) -> None:
    kept = KeptResults()
    first = _run(benchmark_home, benchmarked_saes, kept, {})
    assert [(each.sae, each.value, each.kept) for each in first.results] == [
        ("1-40", 40, False),
        ("1-48", 48, False),
        ("2-40", 40, False),
    ]
    assert CountingBenchmark.prepared == 2
    again = _run(benchmark_home, benchmarked_saes, kept, {})
    assert all(each.kept for each in again.results)
    assert CountingBenchmark.prepared == 2 and len(CountingBenchmark.measured) == 3
    of_post = {each.protocol for each in first.results[:2]}
    assert len(of_post) == 1 and first.results[2].protocol not in of_post
    other = _run(benchmark_home, benchmarked_saes, kept, {"seeds": [1]})
    assert not any(each.kept for each in other.results)


def test_a_result_says_what_it_belongs_to(
    benchmark_home: Path, benchmarked_saes: list[NamedFolder]
) -> None:
    kept = KeptResults()
    _run(benchmark_home, benchmarked_saes[:1], kept, {"seeds": [3, 4]})
    (result,) = kept.values()
    assert result.about.sae_digest == benchmarked_saes[0].folder.digest
    assert (
        result.about.host_fingerprint
        == benchmarked_saes[0].folder.provenance["model"]["fingerprint"]
    )
    assert result.about.site == "blocks.1.hook_resid_post"
    assert result.seeds == [3, 4] and result.options["seeds"] == [3, 4]
    assert result.metrics[0].seed_sd == 0
    assert BenchmarkResult.model_validate_json(result.model_dump_json()) == result


def test_what_cannot_be_measured_is_said_and_holds_up_nothing(
    benchmark_home: Path, benchmarked_saes: list[NamedFolder]
) -> None:
    done = _run(benchmark_home, benchmarked_saes, KeptResults(), {"refused": 40}, {"seeds": [1]})
    assert {(each.sae, each.reason, each.advice) for each in done.not_measured} == {
        ("1-40", "This width is refused.", "Train another."),
        ("2-40", "This width is refused.", "Train another."),
    }
    assert len(done.results) == 4


def test_a_changed_sae_fails_alone(
    benchmark_home: Path, benchmarked_saes: list[NamedFolder]
) -> None:
    cfg = benchmarked_saes[0].folder.path / "cfg.json"
    whole = cfg.read_text(encoding="utf-8")
    try:
        cfg.write_text(whole.replace('"d_sae": 40', '"d_sae": 41'), encoding="utf-8")
        opened = SaeFolder(benchmarked_saes[0].folder.path, benchmarked_saes[0].folder.workspace)
        changed = NamedFolder("changed", benchmarked_saes[0].reference, opened)
        done = _run(benchmark_home, [changed, benchmarked_saes[1]], KeptResults(), {})
    finally:
        cfg.write_text(whole, encoding="utf-8")
    assert [each.sae for each in done.results] == ["1-48"]
    (failure,) = done.not_measured
    assert failure.sae == "changed" and "have changed" in failure.reason


def test_a_run_of_which_nothing_could_be_measured_fails(
    benchmark_home: Path, benchmarked_saes: list[NamedFolder]
) -> None:
    with pytest.raises(DataError, match="Nothing could be measured: counting: The host model"):
        _run(benchmark_home, benchmarked_saes, KeptResults(), {"broken": True})
    assert CountingBenchmark.prepared == 2, "once for each site, whatever the number of SAEs"
