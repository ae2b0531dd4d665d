"""POST /inference/activations"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError

from service.context import ContextDep
from service.database.session import transaction
from service.features.repository import labels_of
from service.inference.client import InferenceAway, InferenceRefused
from service.inference.schemas import (
    ActivationsRequest,
    ActivationsResponse,
    FiringFeature,
    TokenActivations,
)
from service.keys.authorize import CanInfer
from service.problems import Problem, documented, invalid, unavailable
from service.saes.repository import find_sae
from service.saes.schemas import SaeSummary

router = APIRouter(prefix="/inference", tags=["inference"], dependencies=[CanInfer])


@router.post(
    "/activations",
    summary="Top features of every token of a text",
    responses=documented(404, 413, 422, 503),
)
def activations(context: ContextDep, request: ActivationsRequest) -> ActivationsResponse:
    """Runs host model and SAE on the text, on the warm inference server, and adds labels."""
    # No transaction is held open while the model runs.
    with transaction(context.engine) as session:
        sae, model = find_sae(session, request.sae)
    beyond = [index for index in request.features or [] if index >= sae.d_sae]
    if beyond:
        raise invalid([("features", f"'{sae.name}' has features 0 to {sae.d_sae - 1}")])
    try:
        answer = context.inference.activations(
            {"id": str(sae.id), "path": sae.path, "site": sae.site},
            model.spec,
            request.text,
            request.top_k,
            request.features,
        )
        firing = _by_token(answer)
    except InferenceAway as error:
        raise unavailable("The inference server", str(error)) from error
    except InferenceRefused as error:
        raise Problem(
            422, "refused-by-inference", "The inference server refused this", str(error)
        ) from error
    with transaction(context.engine) as session:
        indices = sorted({feature.index for token in firing for feature in token.features})
        labels = labels_of(session, sae.id, indices)
    for token in firing:
        for feature in token.features:
            feature.label = labels.get(feature.index)
    return ActivationsResponse(sae=SaeSummary.of(sae, model), tokens=firing)


def _by_token(answer: dict[str, Any]) -> list[TokenActivations]:
    try:
        return [
            TokenActivations(
                id=token["id"],
                text=token["text"],
                features=[
                    FiringFeature(index=one["index"], activation=one["activation"], label=None)
                    for one in features
                ],
            )
            for token, features in zip(answer["tokens"], answer["features"], strict=True)
        ]
    except (KeyError, TypeError, ValueError, ValidationError):
        raise InferenceAway("The inference server's answer is not what was agreed.") from None
