"""What an SAE keeps: against the evaluation, by hand, and where nothing is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import monosemy
from monosemy.benchmarking.core import decoder_redundancy, peer_variances
from monosemy.errors import DataError
from monosemy.progress import SILENT
from monosemy.sae_folder import NamedFolder
from monosemy.saes import registry
from monosemy.specs import TextSpec, TopKSpec
from monosemy.specs.rest.benchmarks import BenchmarkMetric, BenchmarkResult
from tests.benchmarking.conftest import KeptResults, benchmarked


def _metric(result: BenchmarkResult, metric: str, subject: str = "sae") -> BenchmarkMetric:
    (one,) = [each for each in result.metrics if (each.metric, each.subject) == (metric, subject)]
    return one


def _measured(home: Path, sae: NamedFolder, text: TextSpec, **options: Any) -> BenchmarkResult:
    kept = KeptResults()
    asked = {"benchmark": "core", "text": text.model_dump(), "tokens": 100_000, **options}
    done = benchmarked(home, [sae], kept, asked)
    assert not done.not_measured
    (result,) = kept.values()
    return result


@pytest.fixture(scope="module")
def result(
    benchmark_home: Path, benchmarked_saes: list[NamedFolder], tiny_text: TextSpec
) -> BenchmarkResult:
    return _measured(benchmark_home, benchmarked_saes[0], tiny_text)


def test_figures_are_those_of_the_evaluation_of_the_same_tokens(
    result: BenchmarkResult, benchmark_home: Path, benchmarked_saes: list[NamedFolder]
) -> None:
    evaluated = monosemy.evaluate(
        benchmarked_saes[0].folder,
        home=benchmark_home,
        reporter=SILENT,
        tokens=100_000,
        reconstruction_tokens=100_000,
    )
    baseline = evaluated["frozen_decoder_baseline"]
    # The evaluation reads its cache, which is in bfloat16.
    for subject, own in (("sae", evaluated), ("frozen", baseline)):
        for metric, value in (
            ("explained_variance", 1 - own["fvu"]),
            ("l0", own["l0"]),
            ("ce_score_zero", own["ce_recovered_zero"]),
            ("kl", own["kl"]),
            ("ce_increase", own["ce_sae"] - evaluated["ce_clean"]),
        ):
            made = _metric(result, metric, subject)
            assert made.value == (None if value is None else pytest.approx(value, abs=5e-4)), metric
            assert (made.low is None) == (value is None)
    assert result.details["sae"]["tokens"] == evaluated["tokens"]
    assert result.details["sae"]["dead_share"] == pytest.approx(evaluated["dead_share"])
    assert _metric(result, "explained_variance").low is not None
    assert len(result.units) == _metric(result, "l0").families > 5


def test_it_repeats_bit_for_bit(
    result: BenchmarkResult,
    benchmark_home: Path,
    benchmarked_saes: list[NamedFolder],
    tiny_text: TextSpec,
) -> None:
    again = _measured(benchmark_home, benchmarked_saes[0], tiny_text)
    assert again.model_dump(exclude={"seconds"}) == result.model_dump(exclude={"seconds"})


def test_it_is_the_same_beside_others(
    result: BenchmarkResult,
    benchmark_home: Path,
    benchmarked_saes: list[NamedFolder],
    tiny_text: TextSpec,
) -> None:
    """What SAEs of a place share is measured with the first, whichever that is."""
    kept = KeptResults()
    asked = {"benchmark": "core", "text": tiny_text.model_dump(), "tokens": 100_000}
    benchmarked(benchmark_home, [benchmarked_saes[1], benchmarked_saes[0]], kept, asked)
    _, beside = kept.values()
    assert beside.model_dump(exclude={"seconds"}) == result.model_dump(exclude={"seconds"})


def test_an_sae_that_was_trained_on_the_documents_is_refused(
    benchmark_home: Path, benchmarked_saes: list[NamedFolder], tiny_text: TextSpec
) -> None:
    more = tiny_text.model_copy(update={"heldout_fraction": 0.5})
    fewer = tiny_text.model_copy(update={"heldout_fraction": 0.01})
    with pytest.raises(DataError, match="trained on some of these documents"):
        _measured(benchmark_home, benchmarked_saes[0], more)
    with pytest.raises(DataError, match="intervals need two documents"):
        _measured(benchmark_home, benchmarked_saes[0], fewer)


@pytest.mark.parametrize("mean", [0.0, 1.0, 5.0])
def test_explained_variance_of_a_gaussian_and_what_the_peer_makes_of_it(mean: float) -> None:
    """Both worked out by hand from the same numbers; the peer's error grows with the mean."""
    generator = torch.Generator().manual_seed(3)
    x_ND = torch.randn(20_000, 64, generator=generator, dtype=torch.float64) * 1.35 + mean
    error_N = torch.full((20_000,), 0.051 * 64 * 1.35**2, dtype=torch.float64)
    peers = peer_variances(error_N, x_ND)
    true = 1 - float(error_N.mean() / (x_ND - x_ND.mean(0)).pow(2).sum(1).mean())
    assert true == pytest.approx(0.949, abs=1e-3)
    second = 1.35**2 + mean**2
    wanted = 1 - 0.051 * 64 * 1.35**2 / (64 * second - second**2)
    assert peers["explained_variance_saebench_0_6_0"] == pytest.approx(wanted, abs=1e-3)
    assert peers["explained_variance_legacy"] == pytest.approx(true, abs=3e-3)
    if mean == 5:
        assert peers["explained_variance_saebench_0_6_0"] - true > 0.04


def test_duplicated_rows_are_seen() -> None:
    sae = registry.create(TopKSpec(d_sae=6, k=2), 8)
    rows = torch.eye(8)[:6].clone()
    rows[5] = -rows[0]
    sae.W_dec.data.copy_(rows)
    made = decoder_redundancy(sae)
    assert (made["nearest_cosine"], made["duplicated_share"]) == (0, 0)
    rows[5] = 3 * rows[0]
    sae.W_dec.data.copy_(rows)
    made = decoder_redundancy(sae)
    assert made["nearest_cosine"] == pytest.approx(2 / 6)
    assert made["duplicated_share"] == pytest.approx(2 / 6)
