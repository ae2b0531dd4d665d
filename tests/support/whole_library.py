"""A pipeline of some seconds with a scripted judge, and what must be there after it, once."""

from __future__ import annotations

import json
import uuid
import zlib
from collections import Counter
from typing import Any

from sqlalchemy import Engine, select

from monosemy.data.store import TokenStore
from monosemy.specs import Part, parse_spec
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.database.tables import Explanation, Feature, Run, Sae, Score
from service.settings import Settings
from tests.support.stub_server import Answer, Request, asked_about, good, texts_asked
from tests.support.worker_process import LONGER

FEATURES = 6
DELAY = 0.3


def judge(request: Request) -> Answer:
    """Explains every feature differently, judges texts by a hash, and takes its time."""
    texts = texts_asked(request)
    if texts:
        claim = asked_about(request)
        answer = good(**{k: zlib.crc32((claim + v).encode()) % 3 > 0 for k, v in texts.items()})
        answer.delay = DELAY
        return answer
    number = zlib.crc32(json.dumps(request["messages"]).encode()) % 10_000
    answer = good(
        label=f"topic {number}",
        explanation=f"Sentences which concern subject number {number} and its surroundings.",
        confidence="medium",
    )
    answer.delay = DELAY
    return answer


def pipeline_of(spec: dict[str, Any]) -> Part:
    features = {"count": FEATURES, "min_postings": 20, "max_density": 1.0}
    return parse_spec(
        {
            **spec,
            "kind": "pipeline",
            "evaluation": {"tokens": 512, "reconstruction_tokens": 1024},
            "indexing": {"top_examples": 4, "quantile_examples": 2, "window": 8},
            "explanation": {"features": features, "examples": 4},
            "scoring": {"positives": 4, "negatives": 4, "texts_per_call": 4},
        }
    )


def rows(engine: Engine, table: Any) -> list[Any]:
    with transaction(engine) as session:
        return list(session.scalars(select(table)))


def of_sae(engine: Engine, table: Any, sae: uuid.UUID) -> list[Any]:
    return [row for row in rows(engine, table) if row.sae_id == sae]


def check_library(engine: Engine, settings: Settings, pipeline: Run) -> None:
    """The pipeline's SAE with everything it is to bring, nothing of it twice."""
    assert pipeline.result is not None
    (sae,) = [row for row in rows(engine, Sae) if row.name == pipeline.spec["name"]]
    assert pipeline.result["sae_id"] == str(sae.id)
    assert 0 < sae.metrics["fvu"] < 1 and 0 < sae.metrics["evaluation"]["fvu"] < 1
    assert sae.metrics["tokens"] >= LONGER
    assert len(of_sae(engine, Feature, sae.id)) == sae.d_sae == 64
    explained = of_sae(engine, Explanation, sae.id)
    wanted = pipeline.result["explain"]["features"]
    assert len(wanted) == FEATURES
    assert sorted(row.feature for row in explained) == sorted(wanted)
    ids = {row.id for row in explained}
    scores = [row for row in rows(engine, Score) if row.explanation_id in ids]
    assert Counter(s.explanation_id for s in scores) == Counter(row.id for row in explained)
    for score in scores:
        assert score.n == 8 and score.n_failed == 0
        assert score.value is not None and score.low is not None and score.high is not None
        assert score.low <= score.value <= score.high
        assert score.baseline is not None and score.details["baseline"]["n"] == 8
    assert sae.index is not None
    store = TokenStore.open(Workspace(settings.artifacts).locate(f"text/{sae.index['text_id']}"))
    shown = {
        int(store.row_document[example["row"]])
        for row in explained
        for example in row.provenance["examples"]
    }
    judged = {j["document"] for score in scores for j in score.details["judgements"]}
    assert shown and judged and not shown & judged
