"""What an explain or score run would cost."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from sqlalchemy import Engine

from monosemy.errors import MonosemyError
from monosemy.interp.forecast import (
    SAMPLE,
    Forecast,
    TestCost,
    cost_of_test,
    forecast_explanations,
    forecast_scores,
)
from monosemy.interp.judging.judge import Judge
from monosemy.interp.texts import FeatureTexts, choose_features
from monosemy.interp.tools import Tools
from monosemy.specs import ExplainRun, ScoreRun
from service.database.session import transaction
from service.database.tables import Sae
from workers import interp_rows as rows
from workers.feature_work import FeatureWork
from workers.judge_testing import kept_test, role_of


async def forecast_run(
    engine: Engine,
    sae: Sae,
    texts: FeatureTexts,
    spec: ExplainRun | ScoreRun,
    tools: Tools,
    work: FeatureWork,
    tests: bool,
) -> dict[str, Any]:
    """The run's result: ``sae_id`` and the forecast.  What is done already is not counted.

    ``tests``: the run would test a judge that it does not know.
    """
    if isinstance(spec, ExplainRun):
        forecast = await _explanations(engine, sae, texts, spec, tools, work.key)
    else:
        forecast = await _scores(engine, sae, texts, spec, tools, work.key)
    if tests and tools.judge is not None and forecast.calls:
        forecast = forecast.with_test(await _test(engine, spec, tools.judge))
    return {"sae_id": str(sae.id), "forecast": forecast.as_dict(), "summary": str(forecast)}


async def _test(engine: Engine, spec: ExplainRun | ScoreRun, judge: Judge) -> TestCost | None:
    """What testing the judge comes to; None where that is done."""
    role = role_of(spec)
    if await kept_test(engine, judge, role) is not None:
        return None
    return await cost_of_test(role, judge.spec, judge.ledger.price, judge)


async def _explanations(
    engine: Engine, sae: Sae, texts: FeatureTexts, spec: ExplainRun, tools: Tools, key: str
) -> Forecast:
    def left() -> list[int]:
        with transaction(engine) as session:
            done = rows.explained_features(session, sae.id, key)
        return [
            each for each in choose_features(texts, spec.explanation.features) if each not in done
        ]

    features = await asyncio.to_thread(left)
    if not features:
        raise MonosemyError("There is nothing to explain: all of these have such explanations.")
    price = tools.need_judge().ledger.price
    return await forecast_explanations(texts, features, spec.explanation, price, tools)


async def _scores(
    engine: Engine, sae: Sae, texts: FeatureTexts, spec: ScoreRun, tools: Tools, key: str
) -> Forecast:
    def sample() -> tuple[int, dict[int, str]]:
        with transaction(engine) as session:
            left = rows.unscored(session, sae.id, key, spec.features, spec.explanation)
            places = np.linspace(0, len(left) - 1, min(2 * SAMPLE, len(left))).round().astype(int)
            chosen = [left[place] for place in np.unique(places).tolist()]
            explanations = rows.texts_of(session, sae.id, [id_ for _, id_ in chosen])
        return len(left), {feature: explanations[id_] for feature, id_ in chosen}

    total, explanations = await asyncio.to_thread(sample)
    if not explanations:
        raise MonosemyError("There is nothing to score.", "Submit an explain run.")
    price = tools.judge.ledger.price if tools.judge is not None else None
    return await forecast_scores(texts, explanations, spec.scoring, price, tools, total)
