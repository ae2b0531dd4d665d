"""POST /inference/read"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from fastapi import Response
from sqlalchemy.orm import Session

from monosemy.specs.inference.activations import ActivationsAnswer, ActivationsCall, SaeChoice
from monosemy.specs.inference.reading import (
    FeatureColumns,
    FollowedFeature,
    ReadingOrder,
    ReadRequest,
    ReadResponse,
    TokenColumns,
)
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.edge.routing import ApiRouter, reads_only
from service.features.repository import FiringFacts, firing_facts, labels_of
from service.inference.service import (
    FoundSae,
    find_saes,
    host_spec,
    inference_problems,
    sae_call,
)
from service.inference.turns import answered
from service.keys.authorize import CanInfer, KeyId
from service.kit.problems import documented
from service.saes.views import sae_summary

router = ApiRouter(prefix="/inference", tags=["inference"], dependencies=[CanInfer])

_MOST = 100
"""Firing features per token that an order other than the activation's chooses among."""

Firing = list[list[tuple[int, float]]]
"""By token, index and activation of features."""


@router.post(
    "/read",
    summary="Read a text: what fires where, each feature described once",
    response_model=ReadResponse,
    responses=documented(404, 413, 422, 502, 503),
)
@reads_only
async def read(context: ContextDep, key: KeyId, request: ReadRequest) -> Response:
    """As `/inference/activations`, in a form for long texts: each feature is described once, with
    its density and its maximum, and tokens name it by its place. Of a text that the host model's
    context does not hold, the beginning is read; `left_out` says how much was not."""
    return await answered(context, key, partial(_read, context, request))


def _read(context: AppContext, request: ReadRequest) -> ReadResponse:
    choices = [SaeChoice(sae=each.sae, features=each.follow) for each in request.saes]
    with transaction(context.engine) as session:
        saes = find_saes(session, choices, several=True, named="follow")
    call = ActivationsCall(
        model=host_spec(saes[0][1]),
        saes=[
            sae_call(sae, choice.features, only=False)
            for (sae, _), choice in zip(saes, choices, strict=True)
        ],
        top_k=request.top_k if request.order == "activation" else _MOST,
        unexplained=True,
        clip=True,
        **request.prompt(),
    )
    with inference_problems():
        answer = context.inference.activations(call)
    with transaction(context.engine) as session:
        return _response(session, saes, request, answer)


def _response(
    session: Session, saes: Sequence[FoundSae], request: ReadRequest, answer: ActivationsAnswer
) -> ReadResponse:
    firing: Firing = [[] for _ in answer.tokens]
    followed: list[FollowedFeature] = []
    described = FeatureColumns(sae=[], index=[], label=[], density=[], max_activation=[])
    for number, (told, reader, (sae, _)) in enumerate(
        zip(answer.saes, request.saes, saes, strict=True)
    ):
        follow = reader.follow or []
        fires = {index for token in told.features for index, _ in token}
        facts = firing_facts(session, sae.id, sorted(fires.union(follow)))
        chosen = chosen_firing(told.features, facts, request.order, request.top_k)
        listed = list(dict.fromkeys([*follow, *(i for token in chosen for i, _ in token)]))
        place_of = {index: len(described.index) + n for n, index in enumerate(listed)}
        _describe(described, number, listed, facts, labels_of(session, sae.id, listed))
        for place, token in enumerate(chosen):
            firing[place] += [(place_of[index], significant(value)) for index, value in token]
        for index, activations in zip(follow, told.chosen or (), strict=True):
            values = [significant(value) for value in activations]
            followed.append(FollowedFeature(feature=place_of[index], activations=values))
    return ReadResponse(
        saes=[sae_summary(sae, model) for sae, model in saes],
        tokens=TokenColumns(
            id=[token.id for token in answer.tokens], text=[token.text for token in answer.tokens]
        ),
        left_out=answer.left_out,
        features=described,
        firing=firing,
        followed=followed,
        fires=[each.fires for each in answer.saes],
        unexplained=[each.unexplained for each in answer.saes],
    )


def _describe(
    described: FeatureColumns,
    sae: int,
    listed: Sequence[int],
    facts: dict[int, FiringFacts],
    labels: dict[int, str],
) -> None:
    """Adds the features ``listed`` of the SAE of this number."""
    for index in listed:
        known = facts.get(index)
        described.sae.append(sae)
        described.index.append(index)
        described.label.append(labels.get(index))
        described.density.append(known and significant(known.density))
        described.max_activation.append(known and significant(known.max_activation))


def chosen_firing(
    firing: Firing, facts: dict[int, FiringFacts], order: ReadingOrder, top_k: int
) -> Firing:
    """The ``top_k`` features of every token, first by ``order``; what is not indexed comes last,
    ties go by the activation."""
    if order == "activation":
        return [token[:top_k] for token in firing]

    def key(item: tuple[int, float]) -> tuple[float, float, int]:
        index, activation = item
        known = facts.get(index)
        if known is None:
            return math.inf, -activation, index
        if order == "rarity":
            return known.density, -activation, index
        most = known.max_activation
        return (-activation / most if most > 0 else 0.0), -activation, index

    return [sorted(token, key=key)[:top_k] for token in firing]


def significant(value: float, digits: int = 6) -> float:
    """So many significant digits, to keep long answers short."""
    return float(f"{value:.{digits}g}")
