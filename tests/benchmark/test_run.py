"""A run of benchmarks: one fault holds up nothing else, and nothing is measured twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

import monosemy
from monosemy.benchmark.base import Benchmark, BenchmarkSae, Measured
from monosemy.benchmark.run import Benchmarking
from monosemy.benchmark.units import Column
from monosemy.errors import DataError
from monosemy.home import Home
from monosemy.progress import SILENT
from monosemy.sae_folder import NamedFolder, SaeFolder
from monosemy.specs import TextSpec
from monosemy.specs.benchmarks import BENCHMARKS, BenchmarkRun, BenchmarkSpec
from monosemy.specs.parse import parse_run
from monosemy.specs.registry import register
from monosemy.specs.rest.benchmarks import BenchmarkResult, BenchmarkUnit


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

    implementation = "tests.benchmark.test_run:CountingBenchmark"
    version = "1"
    benchmark: Literal["counting"] = "counting"
    refused: int = 0
    """Width that is refused."""
    broken: bool = False
    """Fail to prepare."""


class Kept(dict[str, BenchmarkResult]):
    def find(self, key: str) -> BenchmarkResult | None:
        return self.get(key)

    def keep(self, key: str, sae: NamedFolder, result: BenchmarkResult) -> None:
        self[key] = result


@pytest.fixture(autouse=True)
def counting() -> Iterator[None]:
    register(CountingSpec)
    CountingBenchmark.prepared, CountingBenchmark.measured = 0, []
    yield
    BENCHMARKS._classes.pop("counting", None)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def saes(home: Path, host_folder: Path, tiny_text: TextSpec) -> list[NamedFolder]:
    def train(d_sae: int, site: str) -> SaeFolder:
        return monosemy.train(
            {
                "name": f"{site[7]}-{d_sae}",
                "model": {"name": str(host_folder), "dtype": "float32", "device": "cpu"},
                "text": tiny_text.model_dump(),
                "site": site,
                "sae": {"d_sae": d_sae, "k": 4},
                "training": {"tokens": 256, "batch_tokens": 128, "buffer_tokens": 512},
            },
            home,
            reporter=SILENT,
        )

    post, mid = "blocks.1.hook_resid_post", "blocks.2.hook_resid_mid"
    folders = [train(40, post), train(48, post), train(40, mid)]
    return [NamedFolder(each.name, each.path.name, each) for each in folders]


def _run(home: Path, saes: list[NamedFolder], kept: Kept, *benchmarks: dict[str, Any]) -> Any:
    spec = parse_run(
        BenchmarkRun,
        {
            "saes": [each.reference for each in saes],
            "benchmarks": [{"benchmark": "counting", **each} for each in benchmarks],
        },
    )
    here = Home(home)
    return Benchmarking(here.host, here.workspace, kept).run(spec, saes)


def test_each_site_is_prepared_once_and_a_second_run_measures_nothing(
    home: Path, saes: list[NamedFolder]
) -> None:
    kept = Kept()
    first = _run(home, saes, kept, {})
    assert [(each.sae, each.value, each.kept) for each in first.results] == [
        ("1-40", 40, False),
        ("1-48", 48, False),
        ("2-40", 40, False),
    ]
    assert CountingBenchmark.prepared == 2
    again = _run(home, saes, kept, {})
    assert all(each.kept for each in again.results)
    assert CountingBenchmark.prepared == 2 and len(CountingBenchmark.measured) == 3
    of_post = {each.protocol for each in first.results[:2]}
    assert len(of_post) == 1 and first.results[2].protocol not in of_post
    other = _run(home, saes, kept, {"seeds": [1]})
    assert not any(each.kept for each in other.results)


def test_a_result_says_what_it_belongs_to(home: Path, saes: list[NamedFolder]) -> None:
    kept = Kept()
    _run(home, saes[:1], kept, {"seeds": [3, 4]})
    (result,) = kept.values()
    assert result.about.sae_digest == saes[0].folder.digest
    assert result.about.host_fingerprint == saes[0].folder.provenance["model"]["fingerprint"]
    assert result.about.site == "blocks.1.hook_resid_post"
    assert result.seeds == [3, 4] and result.options["seeds"] == [3, 4]
    assert result.metrics[0].seed_sd == 0
    assert BenchmarkResult.model_validate_json(result.model_dump_json()) == result


def test_what_cannot_be_measured_is_said_and_holds_up_nothing(
    home: Path, saes: list[NamedFolder]
) -> None:
    done = _run(home, saes, Kept(), {"refused": 40}, {"seeds": [1]})
    assert {(each.sae, each.reason, each.advice) for each in done.failed} == {
        ("1-40", "This width is refused.", "Train another."),
        ("2-40", "This width is refused.", "Train another."),
    }
    assert len(done.results) == 4


def test_a_changed_sae_fails_alone(home: Path, saes: list[NamedFolder]) -> None:
    cfg = saes[0].folder.path / "cfg.json"
    whole = cfg.read_text(encoding="utf-8")
    try:
        cfg.write_text(whole.replace('"d_sae": 40', '"d_sae": 41'), encoding="utf-8")
        opened = SaeFolder(saes[0].folder.path, saes[0].folder.workspace)
        changed = NamedFolder("changed", saes[0].reference, opened)
        done = _run(home, [changed, saes[1]], Kept(), {})
    finally:
        cfg.write_text(whole, encoding="utf-8")
    assert [each.sae for each in done.results] == ["1-48"]
    (failure,) = done.failed
    assert failure.sae == "changed" and "have changed" in failure.reason


def test_a_run_of_which_nothing_could_be_measured_fails(
    home: Path, saes: list[NamedFolder]
) -> None:
    with pytest.raises(DataError, match="Nothing could be measured: counting: The host model"):
        _run(home, saes, Kept(), {"broken": True})
    assert CountingBenchmark.prepared == 2, "once for each site, whatever the number of SAEs"
