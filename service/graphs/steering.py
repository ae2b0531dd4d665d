"""POST /graphs/{graph}/steer"""

from __future__ import annotations

from functools import partial

from fastapi import Response

from monosemy.graphs.placed_edits import KnownSae, number_nodes, placed_edits
from monosemy.specs.inference.graph_steering import (
    GraphSteerCall,
    GraphSteered,
    GraphSteering,
    GraphSteerRequest,
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


@router.post(
    "/{graph}/steer",
    summary="Change features of a graph's prompt",
    dependencies=[CanInfer],
    response_model=GraphSteered,
    responses=documented(404, 409, 413, 422, 502, 503),
)
@reads_only
async def steer(
    context: ContextDep, key: KeyId, reference: GraphReference, request: GraphSteerRequest
) -> Response:
    """Runs the prompt again with features ablated, scaled, clamped or added to, all at once: next
    tokens with logits and probabilities before and after; of each goal the change that the graph
    predicts beside the real one; and the other features whose activations change most. 409 where
    the graph's SAEs or host model are not here as it was made with them, for an uploaded graph and
    a feature circuit; 422 for a node that is no feature, a token that is not there, and a feature
    that is to be ablated or scaled where it does not fire."""
    return await answered(context, key, partial(_steered, context, reference, request))


def _steered(context: AppContext, reference: str, request: GraphSteerRequest) -> GraphSteered:
    # No transaction is held open while the model runs.
    with transaction(context.engine) as session:
        opened = opened_graph(session, context, reference)
        known = [KnownSae((sae.name, str(sae.id)), sae.d_sae) for sae in opened.saes]
        call = GraphSteerCall(
            **dict(opened.prompt),
            **{name: getattr(request, name) for name in GraphSteering.model_fields},
            goals=opened.goals,
            edits=placed_edits(request.edits, opened.graph, known),
        )
    with inference_problems():
        answer = context.inference.steer_graph(call)
    with transaction(context.engine) as session:
        give_labels(session, opened.saes, [*answer.edited, *answer.features])
    number_nodes(answer, opened.graph)
    return answer
