"""The configured judge for one run: its prices, its ledger, and its pace shared by all workers."""

from __future__ import annotations

import uuid

from sqlalchemy import Engine

from monosemy.errors import DataError
from monosemy.interp.judging.endpoint import Limits
from monosemy.interp.judging.failures import address_of
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.pace import LocalPace, Pace, Rates
from monosemy.specs import JudgeSpec, PriceSpec
from service.settings import Settings
from workers.books import PostgresBooks
from workers.pace import RedisPace

_PATIENCE = {False: 300.0, True: 26 * 3600.0}
"""Seconds to wait for a budget that calls under way hold, live or in batches; those of dead workers
never end."""

_ANY = 1_000_000
"""Calls at a time where the settings name no limit."""


def open_judge(
    settings: Settings, engine: Engine, run_id: uuid.UUID, spec: JudgeSpec
) -> Judge | None:
    """A judge that enters its calls for this run; None where no judge is configured.

    Raises ``DataError`` for a budget without prices.
    """
    if not settings.judge_url:
        return None
    price = spec.price or PriceSpec(
        input=settings.judge_price_input,
        cached=settings.judge_price_cached,
        output=settings.judge_price_output,
    )
    if spec.batch:
        price = price.of_batches()
    if spec.budget is not None and not (price.input or price.output):
        raise DataError(
            "A budget needs prices.",
            "Set judge.price in the spec, or MONOSEMY_JUDGE_PRICE_INPUT and _OUTPUT.",
        )
    key = settings.judge_api_key
    return Judge(
        settings.judge_url,
        key.get_secret_value() if key else None,
        settings.judge_model,
        spec,
        Limits(timeout=settings.judge_timeout),
        PostgresBooks(engine, run_id, price, spec.budget, _PATIENCE[spec.batch]),
        _pace(settings, spec),
    )


def _pace(settings: Settings, spec: JudgeSpec) -> Pace:
    rates = Rates(settings.judge_requests_per_minute, settings.judge_tokens_per_minute)
    places = settings.judge_concurrency
    if not settings.redis_url:
        return LocalPace(min(spec.concurrency, places or _ANY), rates)
    own, alone = LocalPace(spec.concurrency), LocalPace(places or _ANY, rates)
    endpoint = f"{address_of(str(settings.judge_url))} {spec.model or settings.judge_model}"
    return RedisPace(settings.redis_url, endpoint, rates, places, own, alone)
