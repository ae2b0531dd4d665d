"""Results as SAEBench writes them: against the JSON schemas that its package carries."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monosemy.benchmarking.saebench_file import saebench_name, saebench_result
from monosemy.benchmarking.units import Column, metric_of
from monosemy.errors import DataError
from monosemy.sae_folder import NamedFolder
from monosemy.specs import TextSpec
from monosemy.specs.rest.benchmarks import BenchmarkResult, BenchmarkUnit
from tests.benchmarking.conftest import KeptResults, benchmarked
from tests.support.benchmark_rows import result as made_up

_SCHEMAS = {
    "core": "evals/core/eval_output_schema_core.json",
    "absorption_first_letter": ("evals/absorption/eval_output_schema_absorption_first_letter.json"),
}


def validated(made: dict[str, Any]) -> dict[str, Any]:
    """``made``, if it is what SAEBench's own schema wants."""
    jsonschema = pytest.importorskip("jsonschema_rs")
    try:
        package = distribution("sae-bench")
    except PackageNotFoundError:
        pytest.skip("sae-bench is not installed: pip install --no-deps sae-bench==0.6.0")
    file = Path(str(package.locate_file(f"sae_bench/{_SCHEMAS[made['eval_type_id']]}")))
    jsonschema.validate(json.loads(file.read_text()), made)
    assert not any(
        isinstance(figure, dict)
        for category in made["eval_result_metrics"].values()
        for figure in category.values()
    )
    return made


def as_saebench(result: BenchmarkResult) -> dict[str, Any]:
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = saebench_result(result, "own", uuid.UUID(int=1), now)
    assert json.loads(json.dumps(made, allow_nan=False)) == json.loads(json.dumps(made))
    return made


def test_core_is_what_its_schema_wants(
    benchmark_home: Path, benchmarked_saes: list[NamedFolder], tiny_text: TextSpec
) -> None:
    kept = KeptResults()
    asked = {"benchmark": "core", "text": tiny_text.model_dump(), "tokens": 4000}
    benchmarked(benchmark_home, benchmarked_saes[:1], kept, asked)
    (result,) = kept.values()
    with pytest.raises(DataError, match="has no value of ce_score_zero"):
        as_saebench(result)  # of a random host ablation does no harm
    for each in result.metrics:
        if each.metric == "ce_score_zero":
            each.value = 0.5
    made = as_saebench(result)
    of = made["eval_result_metrics"]
    behaviour = of["model_behavior_preservation"]
    by_name = {(each.metric, each.subject): each.value for each in result.metrics}
    assert 1 - behaviour["kl_div_with_sae"] / behaviour["kl_div_with_ablation"] == pytest.approx(
        behaviour["kl_div_score"]
    )
    assert behaviour["kl_div_with_sae"] == pytest.approx(by_name["kl", "sae"])
    wrong = of["reconstruction_quality"]["explained_variance"]
    assert wrong == result.details["sae"]["explained_variance_saebench_0_6_0"]
    figures = made["eval_result_unstructured"]["figures"]
    (right,) = [
        each
        for each in figures
        if (each["metric"], each["subject"]) == ("explained_variance", "sae")
    ]
    assert right["value"] == by_name["explained_variance", "sae"] and right["low"] is not None
    validated(made)


def absorbed(units: int = 4) -> BenchmarkResult:
    letters = [BenchmarkUnit(name=each, family=each) for each in "ABCD"[:units]]
    values = {
        "full_absorption": [0.25, 0.5, 0.0, np.nan],
        "absorption_fraction_0_6_0": [0.2, 0.4, 0.0, np.nan],
        "main_latents": [1, 3, 2, np.nan],
        "words_told": [8, 4, 5, np.nan],
    }
    columns = [Column(name, "sae", np.array([parts])) for name, parts in values.items()]
    options = {"least_rise": 0.03, "most_latents": 10, "l1": 0.01}
    options |= {"least_f1": 0.6, "least_letters": 2}
    update = {
        "benchmark": "absorption",
        "headline": "full_absorption",
        "options": options,
        "units": letters,
        "metrics": [metric_of(each, letters) for each in columns],
    }
    return made_up().model_copy(update=update)


def test_absorption_is_what_its_schema_wants() -> None:
    made = as_saebench(absorbed())
    assert made["eval_result_metrics"]["mean"]["mean_full_absorption_score"] == 0.25
    a, b, c = made["eval_result_details"]
    assert (a["first_letter"], a["num_full_absorption"], a["num_probe_true_positives"]) == (
        *("a", 2, 8),
    )
    assert b["num_split_features"] == 3 and c["full_absorption_rate"] == 0
    validated(made)


def test_probing_has_the_fields_of_its_output() -> None:
    parts = np.array([[0.7, 0.9]])
    units = [BenchmarkUnit(name=each, family=each) for each in ("one", "two")]
    columns = [
        Column(f"{name}_k{k}", subject, parts + 0.01 * k)
        for name in ("auc", "accuracy", "f1")
        for k in (1, 5, 16)
        for subject in ("sae", "dense")
    ]
    update = {
        "benchmark": "probing",
        "options": {"ks": [1, 5, 16]},
        "units": units,
        "metrics": [metric_of(each, units) for each in columns],
    }
    made = as_saebench(made_up().model_copy(update=update))
    of = made["eval_result_metrics"]
    assert {*of["sae"]} == {
        f"sae_top_{k}_test_{name}" for k in (1, 5) for name in ("auc", "accuracy", "f1")
    }
    assert of["sae"]["sae_top_5_test_auc"] == pytest.approx(0.85)
    assert of["llm"]["llm_test_auc"] == pytest.approx(0.81)
    one = made["eval_result_details"][0]
    assert one["dataset_name"] == "one"
    assert one["sae_metrics_by_k"][16]["test_auc"] == pytest.approx(0.86)


def test_what_it_has_not_is_refused() -> None:
    with pytest.raises(DataError, match="no benchmark like 'another'"):
        as_saebench(made_up().model_copy(update={"benchmark": "another"}))
    with pytest.raises(DataError, match="has no losses"):
        as_saebench(made_up())
    empty = absorbed().model_copy(update={"metrics": []})
    with pytest.raises(DataError, match="has no value of absorption_fraction_0_6_0"):
        as_saebench(empty)
    assert saebench_name("a/../b") == "monosemy_a_.._b_eval_results.json"
