"""POST /graphs/{graph}/heads and /graphs/{graph}/score"""

from __future__ import annotations

from functools import partial

from fastapi import Response

from monosemy.graphs.node_places import asked_places, number_sources
from monosemy.specs.inference.graph_heads import (
    GraphHeads,
    GraphHeadsCall,
    GraphHeadsRequest,
    GraphScore,
    GraphScoreCall,
    GraphScoreRequest,
)
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.edge.routing import ApiRouter, reads_only
from service.graphs.endpoints import GraphReference
from service.graphs.prompts import give_labels, opened_graph
from service.inference.service import inference_problems
from service.inference.turns import answered
from service.keys.authorize import CanInfer, KeyId
from service.kit.problems import documented

router = ApiRouter(prefix="/graphs", tags=["graphs"])
_STATUSES = documented(404, 409, 413, 422, 502, 503)


@router.post(
    "/{graph}/heads",
    summary="Find the heads that carry an edge of a graph",
    dependencies=[CanInfer],
    response_model=GraphHeads,
    responses=_STATUSES,
)
@reads_only
async def heads(
    context: ContextDep, key: KeyId, reference: GraphReference, request: GraphHeadsRequest
) -> Response:
    """Reads the prompt again: at every layer of attention an edge is the sum of what goes through
    each head and past them. With `token` in place of `source`: what heads bring to the target from
    the stream at that token. 409 where the graph's SAEs or host model are not here as it was made
    with them, and for an uploaded graph; 422 for nodes and tokens that there are not, and between
    which no edge can lead."""
    return await answered(context, key, partial(heads_of, context, reference, request))


@router.post(
    "/{graph}/score",
    summary="Say why a head looks where it looks",
    dependencies=[CanInfer],
    response_model=GraphScore,
    responses=_STATUSES,
)
@reads_only
async def score(
    context: ContextDep, key: KeyId, reference: GraphReference, request: GraphScoreRequest
) -> Response:
    """The score of a head between two tokens of the prompt as a sum over pairs of the graph's
    sources, one of the query and one of the key each; `relative` leaves out what a softmax ignores.
    Statuses are those of `heads`; 422 also for a layer or a head that there is not."""
    return await answered(context, key, partial(score_of, context, reference, request))


def heads_of(context: AppContext, reference: str, request: GraphHeadsRequest) -> GraphHeads:
    # No transaction is held open while the model runs.
    with transaction(context.engine) as session:
        opened = opened_graph(session, context, reference)
    call = GraphHeadsCall(
        **dict(opened.prompt),
        **asked_places(opened.graph, request),
        goals=opened.goals,
        token=request.token,
        top=request.top,
    )
    with inference_problems():
        return context.inference.graph_heads(call)


def score_of(context: AppContext, reference: str, request: GraphScoreRequest) -> GraphScore:
    with transaction(context.engine) as session:
        opened = opened_graph(session, context, reference)
    call = GraphScoreCall(**dict(opened.prompt), **dict(request))
    with inference_problems():
        answer = context.inference.graph_score(call)
    sources = [*answer.query, *answer.key]
    with transaction(context.engine) as session:
        give_labels(session, opened.saes, sources)
    number_sources(sources, opened.graph)
    return answer
