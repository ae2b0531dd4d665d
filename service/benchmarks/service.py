"""Rows of benchmarks put into what the API answers."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from monosemy.benchmarking.leaderboard import Entry, leaderboard
from monosemy.specs.rest.benchmarks import (
    BenchmarkAbout,
    BenchmarkFigure,
    BenchmarkMetric,
    BenchmarkResult,
    BenchmarkRow,
    BenchmarkUnit,
    BenchmarkView,
    Leaderboard,
    LeaderboardHeader,
    header_of,
)
from service.benchmarks import repository
from service.kit.errors import InvalidRequest


def rows(found: Sequence[repository.Row]) -> list[BenchmarkRow]:
    """Without what their figures are made of."""
    return [
        BenchmarkRow(
            id=row.id,
            sae=name,
            benchmark=row.benchmark,
            model=row.model,
            site=row.site,
            protocol=row.protocol,
            figures=[BenchmarkFigure.model_validate(each) for each in row.figures],
            run=row.run_id,
            created_at=row.created_at,
        )
        for row, name in found
    ]


def view(found: repository.Row) -> BenchmarkView:
    row, name = found
    result = BenchmarkResult.model_validate(row.result)
    return BenchmarkView(
        **dict(result), id=row.id, sae=name, run=row.run_id, created_at=row.created_at
    )


def headers(
    session: Session, benchmark: str | None, model: str | None, site: str | None, limit: int
) -> list[LeaderboardHeader]:
    """Of the protocols by which something was measured."""
    found = repository.list_protocols(session, benchmark, model, site, limit)
    return [header_of(*each) for each in found]


def board(session: Session, reference: str, metric: str | None, against: str | None) -> Leaderboard:
    """``NotFound`` where nothing was measured by the protocol, ``InvalidRequest`` for a metric that
    it has not, and as ``leaderboard``."""
    protocol = repository.find_protocol(session, reference)
    header = header_of(*protocol)
    known = repository.metrics_of(session, header.protocol)
    asked = metric or header.headline
    if asked not in known:
        says = f"there is no metric '{asked}' by this protocol; there are: {', '.join(known)}"
        raise InvalidRequest([("metric", says)])
    entries = [_entry(each) for each in repository.measured_by(session, header.protocol, asked)]
    return leaderboard(header, entries, asked, known, protocol.head.unit, against)


def _entry(measured: repository.Measured) -> Entry:
    return Entry(
        id=measured.row.id,
        sae=measured.sae,
        about=BenchmarkAbout.model_validate(measured.about),
        units=[BenchmarkUnit.model_validate(each) for each in measured.units],
        metrics=[BenchmarkMetric.model_validate(each) for each in measured.metrics],
        notes=measured.notes,
    )
