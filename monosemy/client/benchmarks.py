"""How good SAEs are, each beside its baselines and chance."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from monosemy.client.library import SaeReference, sae_name
from monosemy.client.listing import listed
from monosemy.client.transport import Transport, segment
from monosemy.specs.rest.benchmarks import (
    BenchmarkRow,
    BenchmarkView,
    Leaderboard,
    LeaderboardHeader,
    Leaderboards,
)

ResultReference = uuid.UUID | str | BenchmarkRow | BenchmarkView
"""Id of a result, or `latest`; or one that was answered before."""


class Benchmarks:
    """``client.benchmarks``; every method raises ``ApiError``.  A run of kind ``benchmark``
    measures SAEs."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def leaderboards(
        self,
        *,
        benchmark: str | None = None,
        model: str | None = None,
        site: str | None = None,
    ) -> list[LeaderboardHeader]:
        """One for each protocol by which SAEs were measured, that of the newest result first."""
        found = self._http.call(
            Leaderboards, "GET", "/leaderboards", benchmark=benchmark, model=model, site=site
        )
        return found.items

    def list(
        self,
        *,
        sae: SaeReference | None = None,
        benchmark: str | None = None,
        protocol: str | None = None,
        run: uuid.UUID | None = None,
        limit: int | None = None,
    ) -> Iterator[BenchmarkRow]:
        """Newest first, each by its headline metric."""
        only = None if sae is None else sae_name(sae)
        asked = {"sae": only, "benchmark": benchmark, "protocol": protocol, "run": run}
        return listed(self._http, BenchmarkRow, "/benchmarks", limit, **asked)

    def get(self, result: ResultReference) -> BenchmarkView:
        """With every metric, by unit."""
        return self._http.call(BenchmarkView, "GET", _path(result))

    def saebench(self, result: ResultReference) -> dict[str, Any]:
        """As SAEBench 0.6.0 writes it, JSON."""
        found: dict[str, Any] = self._http.get(f"{_path(result)}/saebench")
        return found

    def delete(self, result: ResultReference) -> None:
        """Its run and the SAE stay."""
        self._http.delete(_path(result))

    def leaderboard(
        self,
        protocol: str | LeaderboardHeader = "latest",
        *,
        metric: str | None = None,
        against: SaeReference | None = None,
    ) -> Leaderboard:
        """The SAEs of a protocol by one metric, and which can be told apart; ``against``: the one
        that all are held against."""
        named = protocol if isinstance(protocol, str) else protocol.protocol
        held = None if against is None else sae_name(against)
        path = f"/leaderboards/{segment(named)}"
        return self._http.call(Leaderboard, "GET", path, metric=metric, against=held)


def _path(result: ResultReference) -> str:
    identity = result.id if isinstance(result, BenchmarkRow | BenchmarkView) else result
    return f"/benchmarks/{segment(identity)}"
