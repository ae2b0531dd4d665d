"""All SQL on results of benchmarks; nothing here commits."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import String, cast, delete, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH
from sqlalchemy.orm import Session, undefer

from monosemy.benchmarking.leaderboard import figure_of
from monosemy.specs.names import LATEST
from monosemy.specs.rest.benchmarks import BenchmarkHead, BenchmarkResult
from service.database.benchmark_tables import StoredBenchmark
from service.database.storable import storable
from service.database.tables import Run, Sae
from service.kit.errors import Listing, NotFound
from service.kit.pagination import TimeKey, newest_first
from service.kit.references import row_of

Row = tuple[StoredBenchmark, str]
"""A result with the name of its SAE."""


def keep_result(
    session: Session, id: uuid.UUID, run: uuid.UUID, sae: uuid.UUID, result: BenchmarkResult
) -> None:
    """In place of what there is of the SAE by this protocol."""
    about = result.about
    session.execute(
        delete(StoredBenchmark).where(
            StoredBenchmark.sae_id == sae, StoredBenchmark.protocol == about.protocol
        )
    )
    figures = [each for each in result.metrics if each.metric == result.headline]
    figures.sort(key=lambda each: each.subject != "sae")
    session.add(
        StoredBenchmark(
            id=id,
            sae_id=sae,
            protocol=about.protocol,
            sae_digest=about.sae_digest,
            benchmark=result.benchmark,
            model=storable(about.model),
            site=storable(about.site),
            figures=storable([figure_of(each).model_dump(mode="json") for each in figures]),
            result=storable(result.model_dump(mode="json")),
            run_id=run,
            created_by=session.scalar(select(Run.created_by).where(Run.id == run)),
        )
    )
    session.flush()


def kept_result(
    session: Session, sae: uuid.UUID, protocol: str, digest: str
) -> BenchmarkResult | None:
    """What is stored of these weights of the SAE."""
    query = select(StoredBenchmark.result).where(
        StoredBenchmark.sae_id == sae,
        StoredBenchmark.protocol == protocol,
        StoredBenchmark.sae_digest == digest,
    )
    stored = session.scalar(query)
    return None if stored is None else BenchmarkResult.model_validate(stored)


def list_results(
    session: Session,
    sae: uuid.UUID | None,
    benchmark: str | None,
    protocol: str | None,
    run: uuid.UUID | None,
    before: TimeKey | None,
    limit: int,
) -> Sequence[Row]:
    """Newest first."""
    query = _with_names()
    for column, value in (
        (StoredBenchmark.sae_id, sae),
        (StoredBenchmark.benchmark, benchmark),
        (StoredBenchmark.protocol, protocol),
        (StoredBenchmark.run_id, run),
    ):
        if value is not None:
            query = query.where(column == value)
    rows = session.execute(newest_first(query, StoredBenchmark, before, limit))
    return [(row[0], row[1]) for row in rows]


def find_result(session: Session, reference: str, only: bool = False) -> Row:
    """By id or ``latest``; raises as ``row_of``, which says what ``only`` is."""
    what, listing = "result of a benchmark", Listing.BENCHMARKS
    id = row_of(session, StoredBenchmark, reference, what, listing, only=only).id
    row = session.execute(_with_names(StoredBenchmark.result).where(StoredBenchmark.id == id))
    found = row.first()
    if found is None:  # deleted meanwhile
        raise NotFound(what, reference, listing)
    return found[0], found[1]


def delete_result(session: Session, id: uuid.UUID) -> None:
    session.execute(delete(StoredBenchmark).where(StoredBenchmark.id == id))


class Protocol(NamedTuple):
    """What there is by one protocol."""

    head: BenchmarkHead
    """Of the newest of its results."""
    saes: int
    newest: dt.datetime


def list_protocols(
    session: Session, benchmark: str | None, model: str | None, site: str | None, limit: int
) -> list[Protocol]:
    """Those with the newest results first."""
    counted = (
        select(
            StoredBenchmark.protocol,
            func.count().label("saes"),
            func.max(StoredBenchmark.created_at).label("newest"),
        )
        .group_by(StoredBenchmark.protocol)
        .order_by(func.max(StoredBenchmark.created_at).desc(), StoredBenchmark.protocol)
        .limit(limit)
    )
    for column, value in (
        (StoredBenchmark.benchmark, benchmark),
        (StoredBenchmark.model, model),
        (StoredBenchmark.site, site),
    ):
        if value is not None:
            counted = counted.where(column == value)
    found = session.execute(counted).all()
    heads = _heads(session, [row.protocol for row in found])
    return [
        Protocol(heads[row.protocol], row.saes, row.newest)
        for row in found
        if row.protocol in heads  # else its results were deleted meanwhile
    ]


def find_protocol(session: Session, reference: str) -> Protocol:
    """By the protocol itself, or ``latest``; ``NotFound`` where nothing was measured by it."""
    named = reference
    if reference == LATEST:
        newest = select(StoredBenchmark.protocol).order_by(
            StoredBenchmark.created_at.desc(), StoredBenchmark.id.desc()
        )
        named = session.scalar(newest.limit(1)) or reference
    counted = select(func.count(), func.max(StoredBenchmark.created_at)).where(
        StoredBenchmark.protocol == named
    )
    saes, newest_at = session.execute(counted).one()
    heads = _heads(session, [named])
    if not saes or named not in heads:
        raise NotFound("leaderboard", reference, Listing.LEADERBOARDS)
    return Protocol(heads[named], saes, newest_at)


class Measured(NamedTuple):
    """A result as far as a leaderboard of one metric needs it."""

    row: StoredBenchmark
    sae: str
    about: Any
    units: Any
    metrics: Any
    notes: Any


def measured_by(session: Session, protocol: str, metric: str) -> list[Measured]:
    """All results of a protocol that have ``metric``, oldest first."""
    stored = StoredBenchmark.result
    own = func.jsonb_path_query_array(
        stored,
        cast(literal("$.metrics[*] ? (@.metric == $name)"), JSONPATH),
        func.jsonb_build_object("name", cast(literal(metric), String)),
        type_=JSONB,
    )
    query = (
        select(StoredBenchmark, Sae.name, stored["about"], stored["units"], own, stored["notes"])
        .join(Sae, Sae.id == StoredBenchmark.sae_id)
        .where(StoredBenchmark.protocol == protocol)
        .order_by(StoredBenchmark.created_at, StoredBenchmark.id)
    )
    rows = [Measured(*row) for row in session.execute(query).all()]
    return [row for row in rows if any(each["subject"] == "sae" for each in row.metrics)]


def metrics_of(session: Session, protocol: str) -> list[str]:
    """Metrics that SAEs have by a protocol, in the order of the newest result."""
    stored = StoredBenchmark.result
    names = func.jsonb_path_query_array(
        stored,
        cast(literal('$.metrics[*] ? (@.subject == "sae").metric'), JSONPATH),
        type_=JSONB,
    )
    query = select(names).where(StoredBenchmark.protocol == protocol)
    newest = query.order_by(StoredBenchmark.created_at.desc(), StoredBenchmark.id.desc())
    return list(dict.fromkeys(each for row in session.scalars(newest) for each in row))


def _heads(session: Session, protocols: Sequence[str]) -> dict[str, BenchmarkHead]:
    """Of the newest result of each."""
    stored, names = StoredBenchmark.result, [*BenchmarkHead.model_fields]
    query = (
        select(StoredBenchmark.protocol, *(stored[name] for name in names))
        .distinct(StoredBenchmark.protocol)
        .where(StoredBenchmark.protocol.in_(protocols))
        .order_by(
            StoredBenchmark.protocol, StoredBenchmark.created_at.desc(), StoredBenchmark.id.desc()
        )
    )
    return {
        protocol: BenchmarkHead.model_validate(dict(zip(names, values, strict=True)))
        for protocol, *values in session.execute(query).all()
    }


def _with_names(*also: Any) -> Any:
    query = select(StoredBenchmark, Sae.name).join(Sae, Sae.id == StoredBenchmark.sae_id)
    return query.options(*(undefer(column) for column in also))
