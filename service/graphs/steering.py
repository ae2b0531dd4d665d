"""POST /graphs/{graph}/steer"""

from __future__ import annotations

from functools import partial

from fastapi import Response
from sqlalchemy.orm import Session

from monosemy.graphs.placed_edits import KnownSae, number_nodes, placed_edits, same_goals
from monosemy.specs.inference.graph_steering import (
    FeaturePlace,
    GraphSteerCall,
    GraphSteered,
    GraphSteering,
    GraphSteerRequest,
)
from service.database.session import transaction
from service.database.tables import Sae
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
        row = find_graph(session, reference, *WHOLE)
        graph = context.graphs.of(row).graph
        prompt = graph_prompt(session, row, graph)
        spec = details_of(row).spec
        assert spec is not None  # only graphs without a prompt to run have none
        saes = [sae for sae in served(session, row) if sae is not None]
        call = GraphSteerCall(
            **dict(prompt),
            **{name: getattr(request, name) for name in GraphSteering.model_fields},
            goals=same_goals(graph, spec.goals),
            edits=placed_edits(
                request.edits, graph, [KnownSae((sae.name, str(sae.id)), sae.d_sae) for sae in saes]
            ),
        )
    with inference_problems():
        answer = context.inference.steer_graph(call)
    with transaction(context.engine) as session:
        _name(session, answer, saes)
    number_nodes(answer, graph)
    return answer


def _name(session: Session, answer: GraphSteered, saes: list[Sae]) -> None:
    """One statement for each SAE."""
    features: list[FeaturePlace] = [*answer.edited, *answer.features]
    for coder, sae in enumerate(saes):
        own = [each for each in features if each.coder == coder]
        labels = labels_of(session, sae.id, sorted({each.latent for each in own})) if own else {}
        for each in own:
            each.label = labels.get(each.latent)
