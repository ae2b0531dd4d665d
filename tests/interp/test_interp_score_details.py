"""The details of every scorer's scores are as the API's schema types them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, TypeAdapter

from monosemy.interp.embedding import ThreadedEmbed
from monosemy.interp.judging.rehearsal import RehearsalJudge
from monosemy.interp.registry import create_scorer
from monosemy.interp.scorers.base import ScoringExamples
from monosemy.interp.scoring import judged
from monosemy.interp.tiers import MIS_MARKED, NEAREST_EXPLANATIONS, RANDOM
from monosemy.interp.tools import Tools
from monosemy.specs import SCORERS, DetailsOfScore, JudgeSpec, ScoringSpec
from monosemy.specs.score_details import ScoreDetails, YesNoDetails
from tests.support.interp_examples import negatives, positives
from tests.support.planted_hosted_sae import long_host, planted_hosted_sae


def vectors(texts: Sequence[str]) -> np.ndarray:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(len(texts), 6)).astype(np.float32)
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def tools(tiny_tokenizer: Any) -> Tools:
    hosted = planted_hosted_sae(long_host(tiny_tokenizer), 300)
    judge = RehearsalJudge(JudgeSpec()).as_judge()
    return Tools(judge=judge, embed=ThreadedEmbed(vectors, "vectors"), hosted=hosted)


def unknown_keys(part: Any, path: str = "") -> Iterator[str]:
    """Paths of what the classes do not name."""
    if isinstance(part, BaseModel):
        yield from (f"{path}.{name}" for name in part.model_extra or {})
        for name in type(part).model_fields:
            yield from unknown_keys(getattr(part, name), f"{path}.{name}")
    elif isinstance(part, dict):
        for name, value in part.items():
            yield from unknown_keys(value, f"{path}.{name}")
    elif isinstance(part, list):
        for value in part:
            yield from unknown_keys(value, path)


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("name", list(SCORERS))
def test_details_are_as_declared(name: str, sequential: bool, tools: Tools) -> None:
    options: dict[str, Any] = {"scorer": name, "texts_per_call": 3}
    if sequential and name != "intervention":
        options |= {"half_width": 0.05, "looks": 2}
    spec = ScoringSpec(**options)
    scorer = create_scorer(spec, tools)
    tier = {"fuzzing": MIS_MARKED, "discrimination": NEAREST_EXPLANATIONS}.get(name, RANDOM)
    examples = ScoringExamples(0, tuple(positives(20)), {tier: tuple(negatives(20))}, 0.01)

    async def score(explanation: str) -> Any:
        return await judged(scorer, explanation, examples, spec)

    result = asyncio.run(score("Names of cities."))
    result = result.with_baseline(asyncio.run(score("Recipes and bread.")))
    stored = json.loads(json.dumps(result.as_details()))
    kind = SCORERS[name].details
    assert kind is not ScoreDetails
    details = kind.model_validate(stored)
    assert list(unknown_keys(details)) == []
    assert details.judgements and details.parameters
    assert details.baseline is not None and kind.model_validate(details.baseline)
    assert details.looks is None or details.looks.declared == 2
    assert TypeAdapter(DetailsOfScore).validate_python(stored) == stored


def test_the_schema_is_a_union_of_every_scorers_details() -> None:
    schema = TypeAdapter(DetailsOfScore).json_schema()
    named = {each["$ref"].rpartition("/")[2] for each in schema["anyOf"]}
    assert named == {spec.details.__name__ for spec in SCORERS.values()}
    assert {YesNoDetails.__name__, "InterventionDetails"} <= named
    assert "tiers" in schema["$defs"]["SurprisalDetails"]["required"]
