"""/graphs"""

from __future__ import annotations

import uuid
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Body, Path, Query, Request, Response

from monosemy.graphs.listing import End
from monosemy.specs import GraphRun, parse_run
from monosemy.specs.graphs import GraphNode
from monosemy.specs.rest.graphs import (
    GraphDrawing,
    GraphEdgeView,
    GraphHeader,
    GraphKind,
    GraphView,
)
from monosemy.specs.rest.page import Page
from monosemy.specs.rest.runs import RunFamily
from service.database.graph_tables import StoredGraph
from service.database.session import transaction
from service.database.storable import storable_text
from service.edge.context import AppContext, ContextDep, SessionDep
from service.edge.routing import ApiRouter, body_limit
from service.graphs import repository, service
from service.graphs.files import MEDIA_TYPES, Form, file_of
from service.graphs.uploading import Quota, check_json, graph_of_file, keep_uploaded
from service.keys.authorize import CallerDep, CanRead, CanRun
from service.keys.ownership import check_owner
from service.kit.errors import Listing, NotFound
from service.kit.pagination import (
    DEFAULT_LIMIT,
    CursorParam,
    Limit,
    Order,
    TimeKey,
    by_time,
    number_of,
    paged,
)
from service.kit.problems import documented
from service.models.repository import check_known
from service.runs.submission import SubmittingDep
from service.sets.repository import members

router = ApiRouter(prefix="/graphs", tags=["graphs"])

GraphReference = Annotated[
    str, Path(alias="graph", max_length=200, description="Id or name of the graph, or `latest`.")
]
NodeKindName = Literal["feature", "error", "token", "position", "bias", "logit"]
Share = Annotated[float | None, Query(gt=0, le=1)]
NodeNumber = Annotated[int, Path(ge=0, lt=2**31, description="Number of the node.")]
KindParam = Annotated[
    GraphKind | None, Query(description="Only those that runs of this kind make.")
]
WHOLE = (StoredGraph.details, StoredGraph.graph, StoredGraph.whole)
_MOST = 2**31
Item = TypeVar("Item")


def _json_body(schema: dict[str, str]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.get("", summary="List graphs", dependencies=[CanRead], responses=documented(404, 422))
def list_all(
    session: SessionDep,
    kind: KindParam = None,
    model: Annotated[
        str | None, Query(max_length=1000, description="Only those of this host model.")
    ] = None,
    in_set: Annotated[
        str | None,
        Query(alias="set", max_length=200, description="Only those made with this set of SAEs."),
    ] = None,
    search: Annotated[
        str, Query(max_length=1000, description="Only those whose prompts have all these words.")
    ] = "",
    run: Annotated[uuid.UUID | None, Query(description="Only those that this run traced.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[GraphHeader]:
    """Newest first.  Runs of kind `graph` and `feature_circuit` make them; others are uploaded.
    404 for a host model and a set that nothing here is of."""
    order: Order[StoredGraph, TimeKey] = by_time(lambda row: row)
    words = storable_text(search).split()
    read = partial(repository.list_graphs, session, kind, model, in_set, run, words)
    listing = ("graphs", kind, model, in_set, None if run is None else str(run), words)
    page = paged(listing, order, cursor, limit, read, partial(service.headers, session))
    if not page.items and not search:
        check_known(session, model)
        if in_set is not None and in_set not in members(session, name=in_set):
            raise NotFound("set", in_set, Listing.SETS)
    return page


@router.post(
    "",
    status_code=201,
    summary="Trace a graph",
    dependencies=[CanRun],
    openapi_extra=_json_body({"$ref": "#/components/schemas/GraphRun"}),
    responses=documented(409, 413, 422),
)
def trace(submitting: SubmittingDep, spec: Annotated[Any, Body()]) -> RunFamily:
    """Submits a run of kind `graph`, which may be left out of the body; answers as `POST /runs`
    does. The graph has the run's id; of several prompts each graph has one of its own, and
    `GET /graphs?run=` lists them."""
    return submitting.take(parse_run(GraphRun, spec))


@router.post(
    "/upload",
    status_code=201,
    summary="Upload a graph",
    dependencies=[CanRun],
    openapi_extra=_json_body({"type": "object"}),
    responses=documented(409, 413, 415, 422, 503),
)
@body_limit(lambda settings: settings.graph_max_bytes)
async def upload(
    request: Request, response: Response, context: ContextDep, caller: CallerDep
) -> GraphHeader:
    """An attribution graph as circuit-tracer's and Neuronpedia's viewers have it, JSON. It is
    listed and drawn like one that was traced here; what does not fit is refused at its place."""
    settings = context.settings
    check_json(request)
    quota = Quota()
    if settings.require_keys:
        quota = Quota(settings.graph_key_count, settings.graph_key_bytes)
    places = context.lanes.graphs
    async with places.hold(caller.key):
        body = await request.body()
        header = await places.run(partial(_uploaded, context, body, caller.key, quota))
    response.headers["Location"] = f"{settings.path_prefix}/api/v1/graphs/{header.id}"
    return header


def _uploaded(context: AppContext, body: bytes, key: uuid.UUID | None, quota: Quota) -> GraphHeader:
    new = graph_of_file(body)
    with transaction(context.engine) as session:
        row = keep_uploaded(session, new, key, quota)
        return service.header(session, row)


@router.get(
    "/{graph}", summary="Show a graph", dependencies=[CanRead], responses=documented(404, 422)
)
def show(session: SessionDep, context: ContextDep, reference: GraphReference) -> GraphView:
    """What it explains, how much of that reaches the prompt, what was left out, and how far it is
    to be believed."""
    row = repository.find_graph(session, reference, *WHOLE)
    return service.view(session, row, context.graphs.of(row))


@router.get(
    "/{graph}/nodes",
    summary="List the nodes of a graph",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def list_nodes(
    session: SessionDep,
    context: ContextDep,
    reference: GraphReference,
    kind: Annotated[NodeKindName | None, Query(description="Only those of this kind.")] = None,
    layer: Annotated[
        int | None, Query(ge=-1, lt=_MOST, description="Only those of this layer.")
    ] = None,
    position: Annotated[
        int | None, Query(ge=-1, lt=_MOST, description="Only those at this token, from 0.")
    ] = None,
    search: Annotated[
        str,
        Query(
            max_length=200, description="A piece of their label, or of the token at their place."
        ),
    ] = "",
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[GraphNode]:
    """Those through which most influence flows first."""
    row = repository.find_graph(session, reference, *WHOLE)
    loaded = context.graphs.of(row)
    service.check_places(loaded.graph, layer, position)
    wanted = service.NodeFilter(kind, layer, position, search)
    read = partial(service.nodes, session, row, loaded, wanted)
    listing = ("nodes", str(row.id), kind, layer, position, search)
    order: Order[tuple[int, GraphNode], int] = _by_place(len(loaded.graph.nodes))
    return paged(listing, order, cursor, limit, read, lambda rows: [node for _, node in rows])


@router.get(
    "/{graph}/nodes/{node}",
    summary="Show a node of a graph",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def show_node(
    session: SessionDep, context: ContextDep, reference: GraphReference, node: NodeNumber
) -> GraphNode:
    """What it is, its activation or probability, what flows through it and what feeds it."""
    row = repository.find_graph(session, reference, *WHOLE)
    return service.node(session, row, context.graphs.of(row), node)


@router.get(
    "/{graph}/nodes/{node}/edges",
    summary="List the edges of a node",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def list_edges(
    session: SessionDep,
    context: ContextDep,
    reference: GraphReference,
    node: NodeNumber,
    end: Annotated[
        End, Query(description="`in`: the edges that lead to it; `out`: those from it.")
    ] = "in",
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[GraphEdgeView]:
    """The largest weights first, whatever their signs."""
    row = repository.find_graph(session, reference, *WHOLE)
    loaded = context.graphs.of(row)
    read = partial(service.edges, session, row, loaded, node, end)
    order: Order[tuple[int, GraphEdgeView], int] = _by_place(len(loaded.graph.rows.source))
    listing = ("edges", str(row.id), node, end)
    return paged(listing, order, cursor, limit, read, lambda rows: [edge for _, edge in rows])


def _by_place(most: int) -> Order[tuple[int, Item], int]:
    """Of (place in the listing, item); the key is the next place."""
    return Order((int,), lambda row: (row[0] + 1,), number_of(most + 1))


@router.get(
    "/{graph}/drawing",
    summary="Draw a graph",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
async def draw(
    context: ContextDep,
    reference: GraphReference,
    nodes: Share = None,
    edges: Share = None,
) -> GraphDrawing:
    """All nodes that are kept, as columns, and the strongest edges. `nodes`: features and errors
    are kept through which this share of the stored graph's influence flows; `edges`: of their edges
    those along which this share flows. Both are left out for the graph as it is stored."""
    return await context.lanes.reports.run(partial(_drawn, context, reference, nodes, edges))


def _drawn(
    context: AppContext, reference: str, nodes: float | None, edges: float | None
) -> GraphDrawing:
    with transaction(context.engine) as session:
        row = repository.find_graph(session, reference, *WHOLE)
        return service.drawing(session, row, context.graphs.of(row), nodes, edges)


@router.get(
    "/{graph}/file",
    summary="Download a graph",
    dependencies=[CanRead],
    response_class=Response,
    responses={
        200: {
            "description": "The file.",
            "content": {
                each: {"schema": {"type": "string", "format": "binary"}}
                for each in MEDIA_TYPES.values()
            },
        },
        **documented(404, 422),
    },
)
async def download(
    context: ContextDep,
    reference: GraphReference,
    form: Annotated[
        Form,
        Query(
            description="`attribution-graph`: JSON that circuit-tracer's and Neuronpedia's viewers"
            " read; `npz`: arrays without pickle."
        ),
    ] = "attribution-graph",
) -> Response:
    """The pruned graph, as it is stored."""
    return await context.lanes.exports.run(partial(_file, context, reference, form))


def _file(context: AppContext, reference: str, form: Form) -> Response:
    with transaction(context.engine) as session:
        row = repository.find_graph(session, reference, *WHOLE)
        name, data = file_of(session, row, context.graphs.of(row), form)
    disposition = f'attachment; filename="{name}"'
    return Response(
        data, media_type=MEDIA_TYPES[form], headers={"Content-Disposition": disposition}
    )


@router.delete(
    "/{graph}",
    summary="Delete a graph",
    status_code=204,
    dependencies=[CanRun],
    responses=documented(404, 422),
)
def remove(session: SessionDep, caller: CallerDep, reference: GraphReference) -> Response:
    """Its run stays. Only for the API key whose run traced it, or which uploaded it, and for
    administrators."""
    row = repository.find_graph(session, reference, only=True)
    check_owner(caller, row.created_by, f"the graph '{row.name}'")
    repository.delete_graph(session, row.id)
    return Response(status_code=204)
