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
from service.runs.sources import is_own_judge, judge_refused
from service.settings import Settings
from workers.ledger import PostgresLedger
from workers.pace import RedisPace

_PATIENCE = {False: 300.0, True: 26 * 3600.0}
"""Seconds to wait for a budget that calls under way hold, live or in batches; those of dead workers
never end."""

_ANY = 1_000_000
"""Calls at a time where the settings name no limit."""


def open_judge(
    settings: Settings, engine: Engine, run_id: uuid.UUID, spec: JudgeSpec
) -> Judge | None:
    """A judge that enters its calls for this run; None where neither the settings nor the spec name
    one.

    Raises ``DataError`` for a budget without prices, and for an address that is not allowed.
    """
    address, key, model = _endpoint(settings, spec)
    if address is None:
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
    return Judge(
        address,
        key,
        model,
        spec,
        Limits(timeout=settings.judge_timeout),
        PostgresLedger(engine, run_id, price, spec.budget, _PATIENCE[spec.batch]),
        _pace(settings, spec, address, model),
    )


def _endpoint(settings: Settings, spec: JudgeSpec) -> tuple[str | None, str | None, str | None]:
    """(address, key, model by default); the configured key and model are for that judge alone."""
    if is_own_judge(settings, spec.url):
        key = settings.judge_api_key
        return settings.judge_url, key.get_secret_value() if key else None, settings.judge_model
    # The run was submitted to an API whose settings may have been others.
    refused = judge_refused(settings, spec.url)
    if refused is not None:
        raise DataError(f"judge.url: {refused}.")
    return spec.url, None, None


def _pace(settings: Settings, spec: JudgeSpec, address: str, model: str | None) -> Pace:
    rates = Rates(settings.judge_requests_per_minute, settings.judge_tokens_per_minute)
    places = settings.judge_concurrency
    if not settings.redis_url:
        return LocalPace(min(spec.concurrency, places or _ANY), rates)
    own, alone = LocalPace(spec.concurrency), LocalPace(places or _ANY, rates)
    endpoint = f"{address_of(address)} {spec.model or model}"
    return RedisPace(settings.redis_url, endpoint, rates, places, own, alone)
