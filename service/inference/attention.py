"""POST /inference/attention"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from functools import partial

from fastapi import Response
from sqlalchemy.orm import Session

from monosemy.errors import UnknownSite
from monosemy.models import sites
from monosemy.models.sites import Site, parse_site
from monosemy.specs.inference.attention import (
    AttentionAnswer,
    AttentionCall,
    AttentionRequest,
    AttentionResponse,
    FeatureAttention,
    ScoredPartText,
    TracedPart,
)
from service.database.session import transaction
from service.database.tables import Sae
from service.edge.context import AppContext, ContextDep
from service.edge.routing import ApiRouter, reads_only
from service.features.repository import labels_of
from service.inference.service import FoundSae, host_spec, inference_problems, sae_place
from service.inference.turns import answered
from service.keys.authorize import CanInfer, KeyId
from service.kit.errors import InvalidRequest
from service.kit.problems import documented
from service.saes.repository import find_sae
from service.saes.views import sae_summary

router = ApiRouter(prefix="/inference", tags=["inference"], dependencies=[CanInfer])


@router.post(
    "/attention",
    summary="Where attention-output features read from",
    response_model=AttentionResponse,
    responses=documented(404, 413, 422, 502, 503),
)
@reads_only
async def attention(context: ContextDep, key: KeyId, request: AttentionRequest) -> Response:
    """Direct feature attribution of features of an SAE on `attn.hook_z`: what each head and each
    earlier token adds to a feature's pre-activation, with attention where it was. With `depth` each
    source is taken further back, through features of the SAEs named and through attention below;
    every level is the sum of its parts. With `pair` also why a head looks from one token to
    another, by pairs of features. 422 for an SAE on a site without heads, a prompt of one token or
    too many, a token, a head or a feature that is not there, a feature that does not fire at the
    token, and a host model whose attention cannot be taken apart."""
    return await answered(context, key, partial(_attention, context, request))


def _attention(context: AppContext, request: AttentionRequest) -> AttentionResponse:
    with transaction(context.engine) as session:
        saes = _saes(session, request)
    (sae, model), *through = saes
    call = AttentionCall(
        sae=sae_place(sae),
        model=host_spec(model),
        through=[sae_place(each) for each, _ in through],
        **request.question(),
    )
    with inference_problems():
        answer = context.inference.attention(call)
    with transaction(context.engine) as session:
        _add_labels(session, [found for found, _ in saes], answer)
    return AttentionResponse(
        sae=sae_summary(sae, model),
        saes=[sae_summary(*found) for found in saes],
        **{name: getattr(answer, name) for name in AttentionAnswer.model_fields},
    )


def _saes(session: Session, request: AttentionRequest) -> list[FoundSae]:
    """The request's SAEs; 404 for one that is not there, 422 for one that is at the wrong place."""
    named = [("sae", request.sae)]
    if request.residual_sae is not None:
        named.append(("residual_sae", request.residual_sae))
    named += [(f"through.{n}", name) for n, name in enumerate(request.through or ())]
    found = [find_sae(session, name) for _, name in named]
    faults, layer = [], None
    for (field, _), (sae, model) in zip(named, found, strict=True):
        fault = _misplaced(field, sae, layer)
        if field == "sae" and fault is None:
            layer = _place(sae).layer
        if model.id != found[0][1].id:
            fault = f"its host model is '{model.name}', not '{found[0][1].name}'"
        if fault is not None:
            faults.append((field, fault))
    if faults:
        raise InvalidRequest(faults)
    return found


def _misplaced(field: str, sae: Sae, layer: int | None) -> str | None:
    """Why an SAE cannot stand in this field; None where it can.  ``layer``: that of the first."""
    place = _place(sae)
    if field == "sae":
        if place.kind == sites.Z:
            return None
        return f"'{sae.name}' reads {sae.site}, which has no heads; take one on {sites.Z}"
    if layer is None:
        return None
    below = place.layer + 1 if place.kind == sites.RESID_POST else place.layer
    on_stream = place.kind in (sites.RESID_PRE, sites.RESID_POST)
    if field == "residual_sae":
        if on_stream and below == layer:
            return None
        wanted = [str(Site(layer, sites.RESID_PRE))]
        wanted += [str(Site(layer - 1, sites.RESID_POST))] if layer else []
        return f"'{sae.name}' reads {sae.site}; take one on {' or '.join(wanted)}"
    if (on_stream or place.kind == sites.Z) and below < layer:
        return None
    return f"'{sae.name}' reads {sae.site}; take {sites.Z} or the stream of a block below {layer}"


def _place(sae: Sae) -> Site:
    try:
        return parse_site(sae.site)
    except UnknownSite:
        return Site(0, sae.site)


def _add_labels(session: Session, saes: list[Sae], answer: AttentionAnswer) -> None:
    """One statement for each SAE."""
    named = [(0, each.index, each) for each in answer.features]
    features: list[tuple[int, int, FeatureAttention | TracedPart | ScoredPartText]] = [*named]
    for each in answer.features:
        features += _features_of(each.parts or ())
    if answer.pair is not None:
        features += _features_of([*answer.pair.query, *answer.pair.key])
    by_sae: dict[uuid.UUID, dict[int, str]] = {}
    for number, sae in enumerate(saes):
        indices = sorted({index for own, index, _ in features if own == number})
        by_sae[sae.id] = labels_of(session, sae.id, indices)
    for number, index, item in features:
        if number < len(saes):
            item.label = by_sae[saes[number].id].get(index)


def _features_of(
    parts: Iterable[TracedPart | ScoredPartText],
) -> Iterator[tuple[int, int, TracedPart | ScoredPartText]]:
    for part in parts:
        if part.feature is not None and part.sae is not None:
            yield part.sae, part.feature, part
        if isinstance(part, TracedPart):
            yield from _features_of(part.parts or ())
