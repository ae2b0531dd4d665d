"""POST /graphs/{graph}/heads and /graphs/{graph}/score"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fastapi import Response
from sqlalchemy.orm import Session

from monosemy.graphs.node_places import asked_places, number_sources
from monosemy.graphs.placed_edits import same_goals
from monosemy.specs.inference.graph_heads import (
    GraphHeads,
    GraphHeadsCall,
    GraphHeadsRequest,
    GraphScore,
    GraphScoreCall,
    GraphScoreRequest,
    ScoredSource,
)
from service.database.graph_tables import StoredGraph
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.edge.routing import ApiRouter, reads_only
from service.features.repository import labels_of
from service.graphs.endpoints import WHOLE, GraphReference
from service.graphs.prompts import graph_prompt
from service.graphs.repository import find_graph
from service.graphs.service import served
from service.graphs.storing import details_of
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
    with them, and for an uploaded graph; 422 for nodes and tokens that there are not."""
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
        row = find_graph(session, reference, *WHOLE)
        graph = context.graphs.of(row).graph
        prompt = graph_prompt(session, row, graph)
        spec = details_of(row).spec
        assert spec is not None  # only an uploaded graph has none, and no prompt to run
        call = GraphHeadsCall(
            **dict(prompt),
            **asked_places(graph, request),
            goals=same_goals(graph, spec.goals),
            token=request.token,
            top=request.top,
        )
    with inference_problems():
        return context.inference.graph_heads(call)


def score_of(context: AppContext, reference: str, request: GraphScoreRequest) -> GraphScore:
    with transaction(context.engine) as session:
        row = find_graph(session, reference, *WHOLE)
        graph = context.graphs.of(row).graph
        prompt = graph_prompt(session, row, graph)
        call = GraphScoreCall(**dict(prompt), **dict(request))
    with inference_problems():
        answer = context.inference.graph_score(call)
    sources = [*answer.query, *answer.key]
    with transaction(context.engine) as session:
        _name(session, row, sources)
    number_sources(sources, graph)
    return answer


def _name(session: Session, row: StoredGraph, sources: Sequence[ScoredSource]) -> None:
    """One statement for each SAE."""
    for coder, sae in enumerate(served(session, row)):
        own = [(each, each.latent) for each in sources if each.coder == coder]
        latents = {latent for _, latent in own if latent is not None}
        labels = labels_of(session, sae.id, sorted(latents)) if sae and latents else {}
        for each, latent in own:
            each.label = None if latent is None else labels.get(latent)
