"""The demo: sized by what the machine measures, one demo whatever that was, and served early."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from rich.console import Console

from monosemy.specs import PipelineRun, parse_spec
from service.cli.demo import FirstFeatures, earlier_run
from service.cli.demo_size import (
    LEAST_FEATURES,
    LEAST_TOKENS,
    MOST_FEATURES,
    MOST_TOKENS,
    SMALL,
    Measuring,
    Size,
    full,
    same_demo,
)


def size(gigaflops: float) -> Size:
    return Size(gigaflops * 1e9, "cpu", "bfloat16", 2)


def test_the_work_grows_with_the_machine_and_has_a_floor() -> None:
    tokens = [size(speed).tokens for speed in (1, 50, 500, 1000, 2000, 1e6)]
    assert tokens == sorted(tokens)
    assert (tokens[0], tokens[-1]) == (LEAST_TOKENS, MOST_TOKENS)
    assert LEAST_TOKENS < size(1200).tokens < MOST_TOKENS
    assert (size(500).features, size(50_000).features) == (LEAST_FEATURES, MOST_FEATURES)
    sentence = size(1000).sentence()
    assert f"{size(1000).tokens:,} tokens" in sentence and "1,000 GFLOP/s" in sentence


@pytest.mark.parametrize("known", [None, size(1), size(1e6)])
def test_no_machine_does_less_than_the_least(known: Size | None) -> None:
    spec = full(known)
    assert parse_spec(spec.model_dump(mode="json")) == spec
    assert (spec.text.max_tokens or 0) >= 600_000 and spec.indexing.max_tokens is None
    assert spec.training.tokens >= LEAST_TOKENS
    assert spec.explanation is not None and spec.explanation.features.count >= 8


def test_another_measurement_makes_no_other_demo() -> None:
    specs = [full(each).model_dump(mode="json") for each in (None, size(1000), size(1e6))]
    assert specs[0] != specs[2]
    assert all(same_demo(specs[0], spec) for spec in specs)
    other = full(None).model_copy(update={"site": "blocks.3.hook_resid_post"})
    assert not same_demo(specs[0], other.model_dump(mode="json"))
    assert not same_demo(specs[0], SMALL.model_dump(mode="json"))
    labels_only = full(None).model_copy(update={"explanation": None, "scoring": None})
    assert not same_demo(specs[0], labels_only.model_dump(mode="json"))


class Api:
    """Answers of the API by path."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def get(self, path: str, **_: Any) -> Any:
        return self.answers[path.strip("/").replace("/", "_")]


def test_an_earlier_demo_is_known_again() -> None:
    earlier = {"id": "b", "spec": full(size(1e6)).model_dump(mode="json"), "state": "failed"}
    another = {"id": "a", "spec": PipelineRun().model_dump(mode="json"), "state": "succeeded"}
    api = Api(runs={"items": [{"id": "a"}, {"id": "b"}]}, runs_a=another, runs_b=earlier)
    assert earlier_run(api, full(None)) == earlier  # type: ignore[arg-type]
    assert earlier_run(api, SMALL) is None  # type: ignore[arg-type]


def test_features_are_shown_at_the_end_of_the_index_and_only_then() -> None:
    feature = {"index": 7, "label": "token ' king'", "density": 0.01}
    api = Api(
        runs_r={"result": {"sae_id": "s"}},
        saes_s={"id": "s", "name": "demo"},
        saes_s_features={"items": [feature]},
    )
    file = io.StringIO()
    console = Console(file=file, width=100)
    shown = FirstFeatures(api, "r", console, "http://here", 0.0)  # type: ignore[arg-type]
    for kind, state in (("train", "succeeded"), ("index", "running"), ("index", "failed")):
        shown(kind, {"type": "state", "run_id": "s", "data": {"state": state}})
    shown("index", {"type": "progress", "data": {"stage": "index", "done": 1}})
    assert file.getvalue() == ""
    shown("index", {"type": "state", "data": {"state": "succeeded"}})
    text = file.getvalue()
    assert "features are served" in text and "' king'" in text and "http://here/saes/demo" in text


def test_the_machine_is_measured_in_a_process_of_its_own() -> None:
    with Measuring() as measuring:
        measured = measuring.size()
    assert measured is not None and measured.flops > 1e8 and measured.threads >= 1
    assert measured.dtype in ("float32", "bfloat16")


def test_without_a_measurement_the_least_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Measuring() as measuring:
        assert measuring.size() is None
