"""Sparse probing: planted features are found, chance is chance, and figures repeat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monosemy.benchmarking.probing.probe import chosen_columns, told
from monosemy.benchmarking.probing.result_files import write_probing_files
from monosemy.errors import DataError, SpecError
from monosemy.sae_folder import NamedFolder
from monosemy.saes.bases import random_directions
from monosemy.specs.benchmarks import ProbingBenchmark
from monosemy.specs.parse import parse_part
from monosemy.specs.rest.benchmarks import BenchmarkMetric, BenchmarkResult
from tests.benchmarking.conftest import KeptResults, benchmarked
from tests.support.tiny_text import tiny_documents


def test_two_planted_features_are_found_by_few_latents_alone() -> None:
    """A label that is the OR of two of 1,024 features in 256 dimensions, 12 of them active."""
    rng = np.random.default_rng(0)
    directions_FD = rng.normal(size=(1024, 256)) / 16
    on_NF = np.zeros((2000, 1024), bool)
    for row in on_NF:
        row[rng.choice(1024, 12, replace=False)] = True
    half = rng.random(2000) < 0.5
    on_NF[half, rng.integers(0, 2, half.sum())] = True
    on_NF[~half, :2] = False
    truth_NF = np.where(on_NF, rng.uniform(0.5, 1.5, on_NF.shape), 0)
    label_N: Any = on_NF[:, :2].any(1)
    x_ND = torch.tensor(truth_NF @ directions_FD).float()
    random = random_directions(x_ND, 1024, 0, "top_k", 12)
    codes_NF = random.encode(x_ND).dense(1024).numpy()
    fit, test = slice(0, 1000), slice(1000, 2000)

    def area(z_NF: Any, k: int, labels: Any = label_N) -> float:
        columns = chosen_columns(z_NF[fit], labels[fit], k)
        made = told(z_NF[fit][:, columns], labels[fit], z_NF[test][:, columns], label_N[test])
        return made.auc

    assert area(truth_NF, 5) > 0.99 and 0.65 < area(truth_NF, 1) < 0.85
    assert area(codes_NF, 5) < 0.6
    shuffled = [
        area(truth_NF, 5, np.random.default_rng(each).permutation(label_N)) for each in range(20)
    ]
    assert np.mean(shuffled) == pytest.approx(0.5, abs=0.05)


def test_columns_are_chosen_by_difference_in_units_of_their_size() -> None:
    on_N = np.array([True, True, False, False])
    z_ND = np.array([[9.0, 1, 0, 0], [10, 1, 0, 1], [9, 0, 0, 1], [8, 0, 0, 0]])
    # Differences 1, 1, 0, 0 over mean magnitudes 9, 1, 0, 1.
    assert chosen_columns(z_ND, on_N, 3).tolist() == [1, 0, 2]
    assert chosen_columns(z_ND, on_N, 9).tolist() == [1, 0, 2, 3]


def test_a_large_column_spoils_nothing() -> None:
    rng = np.random.default_rng(2)
    on_N = rng.random(400) < 0.5
    x_ND = np.stack([on_N + rng.normal(0, 0.7, 400), rng.normal(0, 1, 400)], 1)
    alike, large = x_ND.copy(), x_ND * [1, 1000.0]
    made = [told(x[:300], on_N[:300], x[300:], on_N[300:]) for x in (alike, large)]
    assert made[0].auc == pytest.approx(made[1].auc, abs=1e-3) and all(m.converged for m in made)
    assert made[0].auc > 0.75


# ------------------------------------------------------------------ on a host model
@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two tasks of the tiny text: whether the last word is a given one, and by a coin."""
    rng = np.random.default_rng(1)
    words = [word for document in tiny_documents() for word in document.split()]
    rows = []
    for at in range(240):
        start = int(rng.integers(0, len(words) - 8))
        stem = words[start : start + 6]
        end = at % 2 == 0
        text = " ".join([*stem, "king" if end else "river"])
        rows.append({"task": "last word", "text": text, "label": end})
        rows.append({"task": "coin", "text": text + " sat", "label": bool(rng.random() < 0.5)})
    file = tmp_path_factory.mktemp("tasks") / "tasks.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return str(file)


def measured(home: Path, sae: NamedFolder, source: str, **options: Any) -> BenchmarkResult:
    kept = KeptResults()
    asked = {"benchmark": "probing", "source": source, "ks": [1, 5], "context": 16, **options}
    done = benchmarked(home, [sae], kept, asked)
    assert not done.not_measured, done.not_measured
    (result,) = kept.values()
    return result


def metric(result: BenchmarkResult, name: str, subject: str = "sae") -> BenchmarkMetric:
    (one,) = [each for each in result.metrics if (each.metric, each.subject) == (name, subject)]
    return one


@pytest.fixture(scope="module")
def found(
    benchmark_home: Path, benchmarked_saes: list[NamedFolder], source: str
) -> BenchmarkResult:
    return measured(benchmark_home, benchmarked_saes[0], source, seeds=[0, 1])


def test_what_the_last_token_says_is_told_and_a_coin_is_not(found: BenchmarkResult) -> None:
    names = [each.name for each in found.units]
    assert names == ["last word", "coin"]
    for subject in ("sae", "dense", "coordinates", "pca", "tfidf"):
        word, coin = metric(found, "auc_k5", subject).parts
        least = 0.6 if subject == "sae" else 0.9  # it has seen a thousand tokens
        assert word is not None and word > least, subject
        assert coin is not None and abs(coin - 0.5) < 0.2, subject
    assert metric(found, "auc_k5", "shuffled").value == pytest.approx(0.5, abs=0.2)
    subjects = {each.subject for each in found.metrics}
    beside = {"tfidf", "length", "dense", "coordinates", "pca", "random", "frozen", "shuffled"}
    assert subjects == {"sae", *beside}
    assert metric(found, "auc_k5_hard").n == 1, "characters tell the word, and not the coin"
    assert found.headline == "auc_k5" and metric(found, "auc_k5").seed_sd is not None
    assert found.details["leaked"] == 0
    assert "auc_k5 less tfidf" in found.details["differences"]


def test_it_repeats_bit_for_bit_and_seeds_change_it(
    found: BenchmarkResult, benchmark_home: Path, benchmarked_saes: list[NamedFolder], source: str
) -> None:
    sae = benchmarked_saes[0]
    again = measured(benchmark_home, sae, source, seeds=[0, 1])
    assert again.model_dump(exclude={"seconds"}) == found.model_dump(exclude={"seconds"})
    other = measured(benchmark_home, sae, source, seeds=[2, 3])
    assert metric(other, "auc_k5").parts != metric(found, "auc_k5").parts


def test_texts_beyond_the_context_are_cut_or_refused(
    benchmark_home: Path, benchmarked_saes: list[NamedFolder], source: str
) -> None:
    sae = benchmarked_saes[1]
    result = measured(benchmark_home, sae, source, context=3)
    assert metric(result, "auc_k5", "dense").parts[0] == pytest.approx(1, abs=0.05)
    assert {each.subject for each in result.metrics} & {"frozen"} == set()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"context": 3, "long_texts": "refuse"}, "more than the context of 3"),
        ({"context": 8000}, "Set context to"),
        ({"tasks": ["nothing"]}, "has no task 'nothing'"),
    ]
    for options, says in cases:
        asked = {"benchmark": "probing", "source": source, **options}
        with pytest.raises(DataError, match=says):
            benchmarked(benchmark_home, [sae], KeptResults(), asked)


def test_options_that_say_nothing_are_refused() -> None:
    cases: list[dict[str, Any]] = [{"ks": [1, 1]}, {"ks": []}, {"tasks": []}, {"ks": [0]}]
    for options in cases:
        with pytest.raises(SpecError):
            parse_part(ProbingBenchmark, {"benchmark": "probing", **options})


def test_result_files_are_those_of_the_package(found: BenchmarkResult, tmp_path: Path) -> None:
    word, _ = write_probing_files(found, tmp_path)
    assert word.name == f"last word_{found.about.site}_l2.json"
    assert word.parent.name == "normal_setting"
    assert word.parent.parent.name.startswith("sae_probes_")
    rows = json.loads(word.read_text())
    assert [each["k"] for each in rows] == [1, 5]
    assert {*rows[0]} == {
        *("test_f1", "test_acc", "test_auc", "val_auc", "k", "dataset", "hook_name"),
        *("reg_type", "binarize", "indices"),
    }
    assert rows[1]["test_auc"] == metric(found, "auc_k5").parts[0]
    assert len(rows[1]["indices"]) == 5 and rows[0]["indices"] == rows[1]["indices"][:1]
    odd = found.units[0].model_copy(update={"name": "../../out"})
    away = found.model_copy(update={"units": [odd, found.units[1]]})
    away.details = {"latents": {"../../out": [1, 2, 3, 4, 5], "coin": [1, 2, 3, 4, 5]}}
    assert all(tmp_path in file.parents for file in write_probing_files(away, tmp_path))
    with pytest.raises(DataError, match="not of 'probing'"):
        write_probing_files(found.model_copy(update={"benchmark": "core"}), tmp_path)
