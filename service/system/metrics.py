"""Prometheus metrics: what this process served, and what the database holds."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from service.system.repository import WorkCounts, count_work

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

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing, so that registering does not touch the database."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
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


def _families(counts: WorkCounts) -> Iterator[GaugeMetricFamily]:
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
    for name, text, number in (
        ("monosemy_saes", "SAEs.", counts.saes),
        ("monosemy_features", "Indexed features.", counts.features),
        ("monosemy_explanations", "Explanations.", counts.explanations),
        ("monosemy_scores", "Scores.", counts.scores),
    ):
        family = GaugeMetricFamily(name, text)
        family.add_metric([], number)
        yield family
