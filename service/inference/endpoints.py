"""POST /inference/activations and /inference/tokenize"""

from __future__ import annotations

from functools import partial

from fastapi import Response

from monosemy.specs.inference.activations import (
    ActivationsCall,
    ActivationsRequest,
    ActivationsResponse,
    TokenizeCall,
    TokenizeRequest,
    TokenizeResponse,
)
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.edge.routing import ApiRouter, reads_only
from service.inference.service import (
    add_labels,
    by_token,
    chosen_rows,
    find_saes,
    host_spec,
    inference_problems,
    sae_call,
    sae_place,
)
from service.inference.turns import answered
from service.keys.authorize import CanInfer, KeyId
from service.kit.problems import documented
from service.models.repository import find_model
from service.saes.repository import find_sae
from service.saes.views import model_brief, sae_summary

router = ApiRouter(prefix="/inference", tags=["inference"], dependencies=[CanInfer])


@router.post(
    "/activations",
    summary="Top features of every token of a text",
    response_model=ActivationsResponse,
    responses=documented(404, 413, 422, 502, 503),
)
@reads_only
async def activations(context: ContextDep, key: KeyId, request: ActivationsRequest) -> Response:
    """Runs the host model and one or several of its SAEs on a text or chat, on the warm inference
    server, and adds labels.  Features asked for by index come with their value on every token."""
    return await answered(context, key, partial(_activations, context, request))


def _activations(context: AppContext, request: ActivationsRequest) -> ActivationsResponse:
    choices = request.choices()
    # No transaction is held open while the model runs.
    with transaction(context.engine) as session:
        saes = find_saes(session, choices, several=request.saes is not None)
    call = ActivationsCall(
        model=host_spec(saes[0][1]),
        saes=[
            sae_call(sae, choice.features) for (sae, _), choice in zip(saes, choices, strict=True)
        ],
        top_k=request.top_k,
        unexplained=request.unexplained,
        **request.prompt(),
    )
    with inference_problems():
        answer = context.inference.activations(call)
    tokens, chosen = by_token(answer), chosen_rows(answer, choices)
    with transaction(context.engine) as session:
        add_labels(session, saes, tokens, chosen)
    summaries = [sae_summary(sae, model) for sae, model in saes]
    shares = [each.unexplained for each in answer.saes] if request.unexplained else None
    return ActivationsResponse(
        sae=summaries[0], saes=summaries, tokens=tokens, chosen=chosen, unexplained=shares
    )


@router.post(
    "/tokenize",
    summary="Tokens of a text or chat",
    response_model=TokenizeResponse,
    responses=documented(404, 413, 422, 502, 503),
)
@reads_only
async def tokenize(context: ContextDep, key: KeyId, request: TokenizeRequest) -> Response:
    """Cuts a text as the host model's own tokenizer does, or a chat once its template has written
    it.  No model is loaded for it."""
    return await answered(context, key, partial(_tokenize, context, request))


def _tokenize(context: AppContext, request: TokenizeRequest) -> TokenizeResponse:
    with transaction(context.engine) as session:
        sae, model = None, None
        if request.sae is not None:
            sae, model = find_sae(session, request.sae)
        else:
            model = find_model(session, str(request.model))
    call = TokenizeCall(
        model=host_spec(model), sae=None if sae is None else sae_place(sae), **request.prompt()
    )
    with inference_problems():
        answer = context.inference.tokenize(call)
    return TokenizeResponse(model=model_brief(model), **dict(answer))
