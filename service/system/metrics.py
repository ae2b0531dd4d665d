"""Prometheus metrics: what this process served, and what the database holds."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from service.system.repository import RUN_SECONDS, WorkCounts, count_work

logger = logging.getLogger(__name__)


class HttpMetrics:
    """Requests by method, route template and status; latency to the first byte."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "monosemy_http_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.latency = Histogram(
            "monosemy_http_request_seconds",
            "Seconds from a request to the first byte of its answer.",
            ["method", "route"],
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        self.requests.labels(method, route, str(status)).inc()
        self.latency.labels(method, route).observe(seconds)


class DatabaseCollector(Collector):
    """Counts rows when it is scraped.  An unreachable database is a metric, not an error."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def describe(self) -> list[Metric]:
        """Nothing, so that registering does not touch the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            with self.engine.connect() as connection:
                counts = count_work(connection)
        except SQLAlchemyError:
            logger.warning("metrics without the database", exc_info=True)
            counts = None
        up = GaugeMetricFamily("monosemy_database_up", "1 when the database answered.")
        up.add_metric([], float(counts is not None))
        yield up
        if counts is not None:
            yield from _families(counts)


def _families(counts: WorkCounts) -> Iterator[Metric]:
    runs = GaugeMetricFamily(
        "monosemy_runs", "Runs by queue, kind and state.", labels=["queue", "kind", "state"]
    )
    for queue, kind, state, number in counts.runs:
        runs.add_metric([queue, kind, state], number)
    yield runs
    age = GaugeMetricFamily(
        "monosemy_oldest_queued_seconds",
        "Age of the oldest run that is queued and could start.",
        labels=["queue"],
    )
    for queue, seconds in counts.oldest_queued:
        age.add_metric([queue], seconds)
    yield age
    yield from _runs_under_way(counts)
    yield _durations(counts)
    yield from _judge(counts.judge)
    for name, text, number in (
        ("monosemy_saes", "SAEs.", counts.saes),
        ("monosemy_features", "Indexed features.", counts.features),
        ("monosemy_explanations", "Explanations.", counts.explanations),
        ("monosemy_scores", "Scores.", counts.scores),
    ):
        family = GaugeMetricFamily(name, text)
        family.add_metric([], number)
        yield family


def _runs_under_way(counts: WorkCounts) -> Iterator[Metric]:
    rate = GaugeMetricFamily(
        "monosemy_run_rate",
        "Units (tokens, features) a second of the runs under way.",
        labels=["kind", "stage", "unit"],
    )
    for kind, stage, unit, value in counts.rates:
        rate.add_metric([kind, stage, unit], value)
    yield rate
    leases = GaugeMetricFamily(
        "monosemy_leases",
        "Runs that workers hold, by whether the worker was heard of in time.",
        labels=["queue", "state"],
    )
    for queue, held, lost in counts.leases:
        leases.add_metric([queue, "held"], held)
        leases.add_metric([queue, "lost"], lost)
    yield leases


def _durations(counts: WorkCounts) -> Metric:
    family = HistogramMetricFamily(
        "monosemy_run_seconds",
        "Seconds from a run's first start to its end.",
        labels=["kind", "state"],
    )
    for each in counts.durations:
        bounds = [str(float(bound)) for bound in RUN_SECONDS]
        buckets = [*zip(bounds, each.at_most, strict=True), ("+Inf", each.count)]
        family.add_metric([each.kind, each.state], buckets, each.seconds)
    return family


def _judge(sums: dict[str, float]) -> Iterator[Metric]:
    calls = CounterMetricFamily("monosemy_judge_calls", "Requests to judges.")
    calls.add_metric([], sums["calls"])
    yield calls
    tokens = CounterMetricFamily(
        "monosemy_judge_tokens",
        "Tokens of requests to judges and of their answers; cached ones are prompt tokens too.",
        labels=["kind"],
    )
    for kind in ("prompt", "cached", "completion"):
        tokens.add_metric([kind], sums[f"{kind}_tokens"])
    yield tokens
    cost = CounterMetricFamily("monosemy_judge_cost", "What judges cost, in the prices' currency.")
    cost.add_metric([], sums["cost"])
    yield cost
    owed = GaugeMetricFamily(
        "monosemy_judge_reserved", "The most that calls can cost whose end is not entered."
    )
    owed.add_metric([], sums["reserved"])
    yield owed
