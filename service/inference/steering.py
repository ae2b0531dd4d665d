"""POST /inference/steer"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

from fastapi import Response
from sqlalchemy.orm import Session

from monosemy.specs.inference.steering import (
    PushedFeature,
    SteeredFeature,
    SteerRequest,
    SteerResponse,
    WrittenText,
    WrittenToken,
)
from monosemy.specs.rest.saes import SaeSummary
from service.concurrency.streams import HeldStream, SharedGenerator, each_in
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.edge.routing import Router, reads_only
from service.features.repository import labels_of, max_activations
from service.inference.client import InferenceAway, InferenceRefused, fault_for
from service.inference.service import inference_problems, sae_body
from service.inference.turns import answered
from service.keys.authorize import CanInfer, KeyId
from service.kit.errors import InvalidRequest
from service.kit.problems import documented
from service.saes.repository import find_sae
from service.saes.views import sae_summary

router = Router(prefix="/inference", tags=["inference"], dependencies=[CanInfer])


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
        **documented(404, 413, 422, 502, 503),
    },
)
@reads_only
async def steer(context: ContextDep, key: KeyId, request: SteerRequest) -> Response:
    """Runs on the warm inference server, which serves several requests turn by turn."""
    if not request.stream:
        return await answered(context, key, partial(_written, context, request))
    async with AsyncExitStack() as held:
        await held.enter_async_context(context.lanes.inference.hold(key))
        places = context.lanes.inference
        begun = await places.run(partial(_begin, context, request))
        held.push_async_callback(places.run, begun.events.close)
        stream = _event_stream(begun, each_in(places, chain([begun.first], begun.events)))
        return HeldStream(stream, "text/event-stream", held.pop_all())


@dataclass(frozen=True)
class _Begun:
    """A text that is being written; its first event has come."""

    sae: SaeSummary
    features: list[PushedFeature]
    first: dict[str, Any]
    events: SharedGenerator[dict[str, Any]]
    """Those after the first.  Closing it has the inference server stop."""


def _written(context: AppContext, request: SteerRequest) -> SteerResponse:
    with inference_problems():
        begun = _begin(context, request)
        with closing(begun.events):
            return _collected(begun.sae, begun.features, chain([begun.first], begun.events))


def _begin(context: AppContext, request: SteerRequest) -> _Begun:
    """What cannot be done is raised here, so that the status can say it."""
    with transaction(context.engine) as session:
        sae, model = find_sae(session, request.sae)
        pushed = _pushed(session, sae.id, sae.d_sae, request.features)
        summary = sae_summary(sae, model)
    body = {
        "sae": sae_body(sae),
        "model": model.spec,
        "prompt": request.prompt,
        "messages": [each.model_dump() for each in request.messages] if request.messages else None,
        "pushes": [
            {"latent": each.index, "strength": each.strength, "mode": each.mode} for each in pushed
        ],
        "writing": request.model_dump(
            include={"new_tokens", "temperature", "seed", "where", "special_tokens", "logprobs"}
        ),
        "compare": request.compare,
    }
    with inference_problems():
        events = context.inference.steer(body)
        first = next(events, None)
        if first is None:
            raise ValueError("no events")
    return _Begun(summary, pushed, first, SharedGenerator(events))


def _pushed(
    session: Session, sae_id: uuid.UUID, d_sae: int, asked: list[SteeredFeature]
) -> list[PushedFeature]:
    """The features with strengths as activations; 422 for those that are not there."""
    indices = sorted({each.index for each in asked})
    largest = max_activations(session, sae_id, indices)
    labels = labels_of(session, sae_id, indices)
    faults, pushed = [], []
    for number, each in enumerate(asked):
        strength = each.strength
        if each.index >= d_sae:
            faults.append((f"features.{number}.index", f"the SAE has features 0 to {d_sae - 1}"))
        elif each.unit == "max":
            found = largest.get(each.index)
            if not found:
                why = "it has no maximum, as it is not indexed or never fires: use unit activation"
                faults.append((f"features.{number}.unit", why))
            strength *= found or 0.0
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


@dataclass
class _Text:
    tokens: list[WrittenToken] = field(default_factory=list)

    def ended(self, how: Any) -> WrittenText:
        text = "".join(token.text for token in self.tokens)
        return WrittenText(text=text, tokens=self.tokens, ended=how)


def _collected(
    sae: SaeSummary, features: list[PushedFeature], events: Iterable[dict[str, Any]]
) -> SteerResponse:
    prompt = ""
    rows = {"steered": _Text(), "plain": _Text()}
    for event in events:
        if event["event"] == "prompt":
            prompt = event["text"]
        elif event["event"] == "token":
            kept = {name: event[name] for name in WrittenToken.model_fields}
            rows[event["row"]].tokens.append(WrittenToken(**kept))
        elif event["event"] == "error":
            raise fault_for(int(event.get("status", 503)), str(event["detail"]))
        elif event["event"] == "end":
            plain = rows["plain"].ended(event["plain"]) if "plain" in event else None
            steered = rows["steered"].ended(event["steered"])
            return SteerResponse(
                sae=sae, features=features, prompt=prompt, steered=steered, plain=plain
            )
    raise InferenceAway("The inference server broke off.")


async def _event_stream(begun: _Begun, events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    try:
        async for event in events:
            name = event.pop("event")
            if name == "prompt":
                event |= {
                    "sae": begun.sae.model_dump(mode="json"),
                    "features": [each.model_dump() for each in begun.features],
                }
            yield f"event: {name}\ndata: {json.dumps(event)}\n\n"
    except (InferenceAway, InferenceRefused) as error:
        yield f"event: error\ndata: {json.dumps({'detail': str(error)})}\n\n"
