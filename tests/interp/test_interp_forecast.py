"""A forecast from a sample, held against the ledger of the real thing."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import numpy as np
import pytest

from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import DataError
from monosemy.interp.forecast import forecast_explanations, forecast_scores
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.rehearsal import RehearsalJudge
from monosemy.interp.texts import FeatureTexts
from monosemy.interp.tools import Tools
from monosemy.labels import JudgeAddress, explain_with, score_with
from monosemy.progress import SILENT
from monosemy.specs import (
    ExplanationSpec,
    FeatureSelection,
    IndexingSpec,
    JudgeSpec,
    PriceSpec,
    ScoringSpec,
)
from tests.support.planted_index import PlantedStore, plant
from tests.support.stub_server import Answer, Request, StubServer, error

FEATURES = 60
PRICE = PriceSpec(input=1.0, output=4.0)
JUDGE = JudgeSpec(price=PRICE, concurrency=8)
WORDS = [
    " the",
    " a",
    " extraordinary",
    "ly",
    " king",
    " of",
    " seven",
    ",",
    ".",
    " photosynthesis",
]


class Store(PlantedStore):
    def token_bytes(self) -> TokenBytes:
        return TokenBytes([(WORDS[i % len(WORDS)] + str(i)).encode() for i in range(50)])


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> FeatureTexts:
    """Every feature fires about as often; windows are as long as the rows let them be."""
    documents, row = 400, 24
    n = documents * row
    tokens = np.random.default_rng(1).integers(0, 50, n)
    store: Any = Store(tokens, [row] * documents, list(range(documents)))
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((n, FEATURES)) < 0.02, rng.gamma(2.0, 3.0, (n, FEATURES)), -1.0)
    planted = plant(dense, [row] * documents, list(range(documents)))._replace(store=store)
    planted.source.store = store
    store.folder = tmp_path_factory.mktemp("store")
    spec = IndexingSpec(window=16, top_examples=4, quantile_examples=2)
    return FeatureTexts(planted.build(tmp_path_factory.mktemp("cost") / "index", spec), store)


class Counting:
    """An endpoint that counts its own way: 3.1 bytes a token, 11 more per message, some noise."""

    def __init__(self) -> None:
        self.rng = random.Random(5)
        self.prompt = self.answer = self.calls = 0

    def __call__(self, request: Request) -> Answer:
        prompt = sum(len(m["content"].encode()) / 3.1 + 11 for m in request["messages"])
        prompt = int(prompt * self.rng.uniform(0.98, 1.02))
        text = json.dumps(self._answer(request["response_format"]["json_schema"]["schema"]))
        answer = int(len(text) / 3.1)
        cut = request["max_tokens"] < answer
        if not cut:
            self.prompt, self.answer, self.calls = (
                self.prompt + prompt,
                self.answer + answer,
                self.calls + 1,
            )
        body = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "stub",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "length" if cut else "stop",
                    "message": {"role": "assistant", "content": "{" if cut else text},
                }
            ],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": 1 if cut else answer,
                "total_tokens": prompt + answer,
            },
        }
        return Answer(body=json.dumps(body))

    def _answer(self, schema: dict[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, part in schema["properties"].items():
            if "enum" in part:
                fields[name] = part["enum"][0]
            elif part["type"] == "boolean":
                fields[name] = self.rng.random() < 0.4
            elif part["type"] == "integer":
                fields[name] = self.rng.randint(part.get("minimum", 0), part.get("maximum", 9))
            elif name == "explanation":
                letters = ["".join(self.rng.choices("aeioustrn", k=6)) for _ in range(18)]
                fields[name] = "Sentences about " + " ".join(letters)
            else:
                fields[name] = f"topic {self.rng.randint(0, 10**6)}"
        return fields


def within_ten_percent(wanted: Any, made: Judge, counting: Counting) -> None:
    spent = PRICE.input * counting.prompt + PRICE.output * counting.answer
    assert wanted.calibrated
    assert wanted.calls == pytest.approx(counting.calls, rel=0.1)
    assert wanted.prompt_tokens == pytest.approx(counting.prompt, rel=0.1)
    assert wanted.cost == pytest.approx(spent / 1e6, rel=0.1)
    del made


def explaining() -> ExplanationSpec:
    chosen = FeatureSelection(indices=list(range(FEATURES)))
    return ExplanationSpec(features=chosen, judge=JUDGE)


def test_explaining_costs_what_was_forecast(texts: FeatureTexts) -> None:
    spec = explaining()
    with StubServer(respond=Counting()) as stub:

        async def predict() -> Any:
            async with Judge(stub.url, None, "stub", JUDGE) as judge:
                tools = Tools(judge=judge)
                return await forecast_explanations(texts, range(FEATURES), spec, tools=tools), judge

        wanted, judge = asyncio.run(predict())
        assert len(stub.requests) == 3, "a forecast sends three questions"
    counting = Counting()
    with StubServer(respond=counting) as stub:
        address = JudgeAddress(stub.url, model="stub")
        result = asyncio.run(explain_with(texts, range(FEATURES), spec, address, SILENT))
    assert len(result) == FEATURES
    assert wanted.features == FEATURES and wanted.sampled == 20
    within_ten_percent(wanted, judge, counting)


@pytest.mark.parametrize("scorer", ["detection", "fuzzing", "intruder", "simulation"])
def test_scoring_costs_what_was_forecast(texts: FeatureTexts, scorer: str) -> None:
    few = 24 if scorer == "simulation" else FEATURES
    explanations = {
        i: f"Sentences about the subject number {i} and what it touches" for i in range(few)
    }
    spec = ScoringSpec(scorer=scorer, positives=6, negatives=6, judge=JUDGE)
    with StubServer(respond=Counting()) as stub:

        async def predict() -> Any:
            async with Judge(stub.url, None, "stub", JUDGE) as judge:
                return await forecast_scores(
                    texts, explanations, spec, tools=Tools(judge=judge)
                ), judge

        wanted, judge = asyncio.run(predict())
    counting = Counting()
    with StubServer(respond=counting) as stub:
        address = JudgeAddress(stub.url, model="stub")
        result = asyncio.run(score_with(texts, explanations, spec, address, SILENT))
    assert len(result) == few
    within_ten_percent(wanted, judge, counting)
    assert wanted.low <= wanted.cost <= wanted.high
    assert not wanted.at_most


def test_without_an_endpoint_tokens_are_guessed_and_that_is_said(texts: FeatureTexts) -> None:
    wanted = asyncio.run(forecast_explanations(texts, range(FEATURES), explaining()))
    assert not wanted.calibrated
    assert "guessed" in str(wanted)
    assert wanted.calls == FEATURES
    assert wanted.as_dict()["cost"] > 0
    spec = ScoringSpec(half_width=0.1, judge=JUDGE)
    early = asyncio.run(forecast_scores(texts, dict.fromkeys(range(5), "x" * 30), spec))
    assert early.at_most and "at most" in str(early)


def test_an_endpoint_that_is_away_is_no_hindrance(texts: FeatureTexts) -> None:
    with StubServer(respond=lambda request: error(400, "no")) as stub:

        async def predict() -> Any:
            async with Judge(stub.url, None, "stub", JUDGE) as judge:
                return await forecast_explanations(
                    texts, range(FEATURES), explaining(), tools=Tools(judge=judge)
                )

        assert not asyncio.run(predict()).calibrated


def test_no_feature_no_forecast(texts: FeatureTexts) -> None:
    with pytest.raises(DataError, match="No question"):
        asyncio.run(forecast_scores(texts, {}, ScoringSpec()))


def test_a_rehearsal_takes_equal_questions_down_once() -> None:
    rehearsal = RehearsalJudge(JudgeSpec())
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    for content in ("x", "x", "y"):
        asyncio.run(rehearsal.complete_json([{"role": "user", "content": content}], schema))
    assert [question.prompt_bytes for question in rehearsal.questions] == [1, 1]
