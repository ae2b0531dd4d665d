"""POST /inference/steer"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from functools import partial

from fastapi import Response
from sqlalchemy.orm import Session

from monosemy.specs.inference.steering import (
    Ended,
    EndEvent,
    ErrorEvent,
    PromptEvent,
    Push,
    PushedFeature,
    SteerCall,
    SteeredFeature,
    SteerEvent,
    SteeringBegun,
    SteerRequest,
    SteerResponse,
    TokenEvent,
    WrittenText,
    WrittenToken,
    event_json,
)
from monosemy.specs.rest.saes import SaeSummary
from service.concepts.service import fitted
from service.concurrency.streams import HeldStream, SharedGenerator, each_in
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.edge.routing import ApiRouter, reads_only
from service.features.repository import labels_of, max_activations
from service.inference.client import InferenceAway, InferenceMalformed, InferenceRefused
from service.inference.service import domain_error, host_spec, inference_problems, sae_place
from service.inference.turns import answered
from service.keys.authorize import CanInfer, KeyId
from service.kit.errors import InvalidRequest
from service.kit.problems import documented, from_exception
from service.saes.repository import find_sae
from service.saes.views import no_generation, sae_summary

router = ApiRouter(prefix="/inference", tags=["inference"], dependencies=[CanInfer])


@router.post(
    "/steer",
    summary="Write on with features pushed, beside without",
    response_model=SteerResponse,
    responses={
        200: {
            "description": "What was written; with `stream` server-sent events: `prompt`, a `token`"
            " for each new one (`row` says of which text), `end`, or `error`.",
            "content": {"text/event-stream": {}},
        },
        **documented(404, 409, 413, 422, 502, 503),
    },
)
@reads_only
async def steer(context: ContextDep, key: KeyId, request: SteerRequest) -> Response:
    """Runs on the warm inference server, which serves several requests turn by turn."""
    if not request.stream:
        return await answered(context, key, partial(_written, context, request))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(context.lanes.inference.hold(key))
        places = context.lanes.inference
        begun = await places.run(partial(_begin, context, request))
        stack.push_async_callback(places.run, begun.events.close)
        stream = _event_stream(begun, each_in(places, begun.events))
        return HeldStream(stream, "text/event-stream", stack.pop_all())


@dataclass(frozen=True)
class _Begun:
    """A text that is being written; its first event has come."""

    sae: SaeSummary
    features: list[PushedFeature]
    first: PromptEvent
    events: SharedGenerator[SteerEvent]
    """Those after the first.  Closing it has the inference server stop."""


def _written(context: AppContext, request: SteerRequest) -> SteerResponse:
    with inference_problems():
        begun = _begin(context, request)
        with closing(begun.events):
            return _collected(begun.sae, begun.features, begun.first, begun.events)


def _begin(context: AppContext, request: SteerRequest) -> _Begun:
    """What cannot be done is raised here, so that the status can say it."""
    with transaction(context.engine) as session:
        sae, model = find_sae(session, request.sae)
        silent = no_generation(model.info)
        if silent is not None:
            why = f"'{sae.name}' is of {model.name}, which writes no text: {silent}"
            raise InvalidRequest([("sae", why)])
        pushed = _pushed(session, sae.id, sae.d_sae, request.features)
        concepts = fitted(session, sae, request.concepts)
        summary = sae_summary(sae, model)
    call = SteerCall(
        sae=sae_place(sae),
        model=host_spec(model),
        prompt=request.prompt,
        messages=request.messages,
        pushes=[Push(latent=each.index, strength=each.strength, mode=each.mode) for each in pushed],
        concepts=concepts,
        writing=request.options(),
        compare=request.compare,
    )
    with inference_problems():
        events = context.inference.steer(call)
        first = next(events)
        if not isinstance(first, PromptEvent):
            raise InferenceMalformed(f"event: '{first.event}' comes first")
    return _Begun(summary, pushed, first, SharedGenerator(events))


def _pushed(
    session: Session, sae_id: uuid.UUID, d_sae: int, features: list[SteeredFeature]
) -> list[PushedFeature]:
    """The features with strengths as activations; 422 for those that are not there."""
    indices = sorted({each.index for each in features})
    largest = max_activations(session, sae_id, indices)
    labels = labels_of(session, sae_id, indices)
    faults, pushed = [], []
    for number, each in enumerate(features):
        strength = each.strength
        if each.index >= d_sae:
            faults.append((f"features.{number}.index", f"the SAE has features 0 to {d_sae - 1}"))
        elif each.mode == "ablate":
            strength = 0.0
        elif each.unit == "max":
            activation = largest.get(each.index)
            if not activation:
                why = "it has no maximum, as it is not indexed or never fires: use unit activation"
                faults.append((f"features.{number}.unit", why))
            strength *= activation or 0.0
        pushed.append(
            PushedFeature(
                index=each.index,
                label=labels.get(each.index),
                strength=strength,
                mode=each.mode,
            )
        )
    if faults:
        raise InvalidRequest(faults)
    return pushed


def _collected(
    sae: SaeSummary,
    features: list[PushedFeature],
    prompt: PromptEvent,
    events: Iterable[SteerEvent],
) -> SteerResponse:
    rows: dict[str, list[WrittenToken]] = {"steered": [], "plain": []}
    for event in events:
        if isinstance(event, TokenEvent):
            fields = event.model_dump(include=set(WrittenToken.model_fields))
            rows[event.row].append(WrittenToken(**fields))
        elif isinstance(event, EndEvent):
            plain = None if event.plain is None else _text(rows["plain"], event.plain)
            return SteerResponse(
                sae=sae,
                features=features,
                prompt=prompt.text,
                pushed=prompt.pushed,
                concepts=prompt.concepts,
                steered=_text(rows["steered"], event.steered),
                plain=plain,
            )
    raise InferenceAway("The inference server broke off.")


def _text(tokens: list[WrittenToken], ended: Ended) -> WrittenText:
    return WrittenText(text="".join(token.text for token in tokens), tokens=tokens, ended=ended)


async def _event_stream(begun: _Begun, events: AsyncIterator[SteerEvent]) -> AsyncIterator[str]:
    first = SteeringBegun(sae=begun.sae, features=begun.features, **dict(begun.first))
    yield _block(first)
    try:
        async for event in events:
            yield _block(event)
    except (InferenceAway, InferenceRefused) as error:
        yield _block(
            ErrorEvent(detail=str(error), status=from_exception(domain_error(error)).status_code)
        )


def _block(event: SteerEvent) -> str:
    """One server-sent event."""
    data = event_json(event, exclude={"event"})
    return f"event: {event.event}\ndata: {data}\n\n"
