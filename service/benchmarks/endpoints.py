"""/benchmarks and /leaderboards"""

from __future__ import annotations

import uuid
from functools import partial
from typing import Annotated, Any

from fastapi import Path, Query, Response

from monosemy.benchmarking.saebench_file import saebench_result
from monosemy.specs.part import NAME, PLACE
from monosemy.specs.rest.benchmarks import (
    BenchmarkRow,
    BenchmarkView,
    Leaderboard,
    Leaderboards,
)
from monosemy.specs.rest.page import Page
from service.benchmarks import repository
from service.benchmarks.service import board, headers, rows, view
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep, SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CallerDep, CanRead, CanRun
from service.keys.ownership import check_owner
from service.kit.pagination import (
    DEFAULT_LIMIT,
    CursorParam,
    Limit,
    Order,
    TimeKey,
    by_time,
    paged,
)
from service.kit.problems import documented
from service.models.repository import check_known
from service.saes.repository import find_sae

router = ApiRouter(tags=["benchmarks"])

MOST_LEADERBOARDS = 200

ResultReference = Annotated[
    str,
    Path(alias="result", max_length=200, description="Id of the result, or `latest`."),
]
ProtocolReference = Annotated[
    str,
    Path(
        alias="protocol",
        max_length=200,
        description="Protocol of the results, or `latest` for that of the newest result.",
    ),
]
BenchmarkParam = Annotated[
    str | None, Query(max_length=NAME, description="Only those of this benchmark.")
]


@router.get(
    "/benchmarks",
    summary="List results of benchmarks",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def list_all(
    session: SessionDep,
    sae: Annotated[
        str | None, Query(max_length=200, description="Only those of this SAE, by id or name.")
    ] = None,
    benchmark: BenchmarkParam = None,
    protocol: Annotated[
        str | None, Query(max_length=200, description="Only those by this protocol.")
    ] = None,
    run: Annotated[
        uuid.UUID | None, Query(description="Only those that this run measured.")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[BenchmarkRow]:
    """Newest first, each by its headline metric.  Runs of kind `benchmark` measure them."""
    only = find_sae(session, sae)[0].id if sae is not None else None
    order: Order[repository.Row, TimeKey] = by_time(lambda row: row[0])
    read = partial(repository.list_results, session, only, benchmark, protocol, run)
    asked = [None if each is None else str(each) for each in (only, benchmark, protocol, run)]
    return paged(("benchmarks", *asked), order, cursor, limit, read, rows)


@router.get(
    "/benchmarks/{result}",
    summary="Show a result of a benchmark",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def show(session: SessionDep, reference: ResultReference) -> BenchmarkView:
    """Every metric of the SAE, of its baselines and of chance, by unit and with intervals; and what
    it belongs to."""
    return view(repository.find_result(session, reference))


@router.get(
    "/benchmarks/{result}/saebench",
    summary="Show a result as SAEBench has it",
    dependencies=[CanRead],
    responses=documented(400, 404, 422),
)
def show_saebench(session: SessionDep, reference: ResultReference) -> dict[str, Any]:
    """The result file of SAEBench 0.6.0, with its names for its formulas; ours, with intervals, n
    and seeds, stand under `eval_result_unstructured`. 400 for a benchmark that it has not."""
    found = view(repository.find_result(session, reference))
    return saebench_result(found, found.sae, found.id, found.created_at)


@router.delete(
    "/benchmarks/{result}",
    summary="Delete a result of a benchmark",
    status_code=204,
    dependencies=[CanRun],
    responses=documented(404, 422),
)
def remove(session: SessionDep, caller: CallerDep, reference: ResultReference) -> Response:
    """Its run and the SAE stay; another run of the benchmark measures the SAE again. Only for the
    API key whose run measured it and for administrators."""
    row, _ = repository.find_result(session, reference, only=True)
    check_owner(caller, row.created_by, "the result")
    repository.delete_result(session, row.id)
    return Response(status_code=204)


@router.get(
    "/leaderboards",
    summary="List leaderboards",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def list_boards(
    session: SessionDep,
    benchmark: BenchmarkParam = None,
    model: Annotated[
        str | None, Query(max_length=1000, description="Only those of this host model.")
    ] = None,
    site: Annotated[
        str | None, Query(max_length=PLACE, description="Only those of this place.")
    ] = None,
) -> Leaderboards:
    """One for each protocol (benchmark, options, seeds, data, host model and place) by which SAEs
    were measured; that of the newest result first, 200 at most."""
    found = headers(session, benchmark, model, site, MOST_LEADERBOARDS)
    if not found:
        check_known(session, model)
    return Leaderboards(items=found)


@router.get(
    "/leaderboards/{protocol}",
    summary="Show a leaderboard",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
async def show_board(
    context: ContextDep,
    reference: ProtocolReference,
    metric: Annotated[
        str | None, Query(max_length=NAME, description="By default the benchmark's headline.")
    ] = None,
    against: Annotated[
        str | None,
        Query(max_length=200, description="SAE that all are held against; by default the best."),
    ] = None,
) -> Leaderboard:
    """SAEs by one metric, each beside its baselines and chance, with the ranks that cannot be
    excluded: differences are of the same units, families of units resampled whole, and the
    intervals of all pairs hold together with 95 %."""
    return await context.lanes.reports.run(
        partial(answered_board, context, reference, metric, against)
    )


def answered_board(
    context: AppContext, reference: str, metric: str | None, against: str | None
) -> Leaderboard:
    with transaction(context.engine) as session:
        return board(session, reference, metric, against)
