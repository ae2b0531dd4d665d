"""Texts of one's own on the service's warm host models: read, contrasted, written on."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

import httpx

from monosemy.arguments import several
from monosemy.client.errors import ApiError, kind_of
from monosemy.client.events import server_events
from monosemy.client.library import SaeReference
from monosemy.client.transport import Transport
from monosemy.errors import SpecError
from monosemy.specs import parse_part
from monosemy.specs.inference.activations import (
    ActivationsRequest,
    ActivationsResponse,
    TokenizeRequest,
    TokenizeResponse,
)
from monosemy.specs.inference.attention import AttentionRequest, AttentionResponse
from monosemy.specs.inference.contrast import ContrastRequest, ContrastResponse, Pooling, Statistic
from monosemy.specs.inference.reading import ReadingOrder, ReadRequest, ReadResponse
from monosemy.specs.inference.steering import (
    EndEvent,
    ErrorEvent,
    SteeringBegun,
    SteeringMode,
    SteerRequest,
    SteerResponse,
    TokenEvent,
)
from monosemy.specs.rest.saes import SaeSummary

_FOLLOW = "a list of features for each of saes"
Chat = Sequence[Mapping[str, str]]
"""Messages with ``role`` and ``content``."""

SteerStreamEvent = SteeringBegun | TokenEvent | EndEvent

_EVENTS: dict[str, type[SteeringBegun] | type[TokenEvent] | type[EndEvent] | type[ErrorEvent]] = {
    "prompt": SteeringBegun,
    "token": TokenEvent,
    "end": EndEvent,
    "error": ErrorEvent,
}


class Inference:
    """``client.inference``.

    A body is validated here first: ``SpecError`` names every fault, an unknown key the nearest
    known one.  Every method raises ``ApiError``.
    """

    def __init__(self, http: Transport) -> None:
        self._http = http

    def activations(
        self,
        sae: SaeReference | Sequence[SaeReference],
        text: str | None = None,
        *,
        messages: Chat | None = None,
        generation_prompt: bool = False,
        features: Sequence[int] | None = None,
        top_k: int = 5,
        unexplained: bool = False,
    ) -> ActivationsResponse:
        """The strongest features on every token of a text or chat, by one SAE or several of one
        host model; with ``features`` those alone, and what they do on every token.
        ``unexplained``: also the share of each token that each SAE does not explain."""
        body: dict[str, Any] = {
            "text": text,
            "messages": messages,
            "generation_prompt": generation_prompt,
            "features": features,
            "top_k": top_k,
            "unexplained": unexplained,
        }
        if isinstance(sae, uuid.UUID | str | SaeSummary):
            body["sae"] = _name(sae)
        else:
            body["saes"] = [
                {"sae": _name(each)} for each in several("sae", sae, "an SAE or several")
            ]
        request = parse_part(ActivationsRequest, body)
        return self._ask(ActivationsResponse, "activations", request)

    def read(
        self,
        saes: Sequence[SaeReference],
        text: str | None = None,
        *,
        messages: Chat | None = None,
        generation_prompt: bool = False,
        follow: Sequence[Sequence[int]] = (),
        top_k: int = 5,
        order: ReadingOrder = "activation",
    ) -> ReadResponse:
        """As ``activations``, in a form for long texts: each feature is described once, and the
        beginning is read of a text that is too long.  ``follow``: for each of ``saes`` the features
        whose activations are told on every token."""
        readers: list[dict[str, Any]] = [
            {"sae": _name(each)} for each in several("saes", saes, "a list of SAEs")
        ]
        followed = [several("follow", each, _FOLLOW) for each in several("follow", follow, _FOLLOW)]
        if len(followed) > len(readers):
            raise SpecError([("follow", f"it takes {_FOLLOW}, not {len(followed)}")])
        for reader, features in zip(readers, followed, strict=False):
            reader["follow"] = features or None
        body = {
            "saes": readers,
            "text": text,
            "messages": messages,
            "generation_prompt": generation_prompt,
            "top_k": top_k,
            "order": order,
        }
        return self._ask(ReadResponse, "read", parse_part(ReadRequest, body))

    def tokenize(
        self,
        text: str | None = None,
        *,
        sae: SaeReference | None = None,
        model: str | None = None,
        messages: Chat | None = None,
        generation_prompt: bool = False,
    ) -> TokenizeResponse:
        """Tokens as the host model's own tokenizer cuts them; no model is loaded for it."""
        body = {
            "text": text,
            "messages": messages,
            "generation_prompt": generation_prompt,
            "sae": None if sae is None else _name(sae),
            "model": model,
        }
        return self._ask(TokenizeResponse, "tokenize", parse_part(TokenizeRequest, body))

    def contrast(
        self,
        sae: SaeReference,
        positive: Sequence[str],
        negative: Sequence[str],
        *,
        describe: str | None = None,
        statistic: Statistic = "standardised",
        pooling: Pooling = "mean",
        chat: bool = False,
        top_k: int = 20,
        values: bool = False,
    ) -> ContrastResponse:
        """Features that separate one set of texts from another; ``describe`` says what the positive
        ones have, and reranks by how near explanations are to that; ``values``: with each
        feature's value on every text, the positive ones first."""
        body = {
            "sae": _name(sae),
            "positive": list(positive),
            "negative": list(negative),
            "statistic": statistic,
            "pooling": pooling,
            "chat": chat,
            "top_k": top_k,
            "values": values,
            "rerank": None if describe is None else {"description": describe},
        }
        return self._ask(ContrastResponse, "contrast", parse_part(ContrastRequest, body))

    def attention(
        self,
        sae: SaeReference,
        text: str | None = None,
        *,
        messages: Chat | None = None,
        generation_prompt: bool = False,
        tokens: Sequence[int] | None = None,
        features: Sequence[int] | None = None,
        top_k: int = 5,
        residual_sae: SaeReference | None = None,
        through: Sequence[SaeReference] = (),
        depth: int = 0,
        listed: int = 8,
        pair: Mapping[str, int] | None = None,
    ) -> AttentionResponse:
        """Where features of an attention-output SAE read from: by head, by token, and ``depth``
        steps further back through the other SAEs.  ``tokens``: where features are looked at (the
        last one by default); ``pair``: ``{"head", "token", "source"}``, why that head looks there.
        """
        body = {
            "sae": _name(sae),
            "text": text,
            "messages": messages,
            "generation_prompt": generation_prompt,
            "tokens": tokens,
            "features": features,
            "top_k": top_k,
            "residual_sae": None if residual_sae is None else _name(residual_sae),
            "through": [_name(each) for each in several("through", through, "SAEs")] or None,
            "depth": depth,
            "listed": listed,
            "pair": pair,
        }
        return self._ask(AttentionResponse, "attention", parse_part(AttentionRequest, body))

    def steer(
        self,
        sae: SaeReference,
        prompt: str | None = None,
        *,
        features: Mapping[int, float] | Sequence[Mapping[str, Any]] = (),
        messages: Chat | None = None,
        mode: SteeringMode = "add",
        unit: Literal["max", "activation"] = "max",
        **options: Any,
    ) -> SteerStream:
        """Has the host model write on with features pushed, beside what it writes without: an
        iterator over what is written, token by token.  What cannot be done is raised at once.

        ``features``: strengths by index, of ``mode`` and ``unit``; or pushes as REST takes them.
        ``options``: the other fields of ``SteerRequest``, such as ``new_tokens``, ``temperature``,
        ``seed``, ``where``, ``logprobs``, ``compare``, and ``concepts``: names of concepts, whose
        features are deactivated where the prompt is flagged as holding them.
        """
        request = _steering(sae, prompt, features, messages, mode, unit, options, stream=True)
        return SteerStream(self._http, request)

    def steered(
        self,
        sae: SaeReference,
        prompt: str | None = None,
        *,
        features: Mapping[int, float] | Sequence[Mapping[str, Any]] = (),
        messages: Chat | None = None,
        mode: SteeringMode = "add",
        unit: Literal["max", "activation"] = "max",
        **options: Any,
    ) -> SteerResponse:
        """As ``steer``, whole."""
        request = _steering(sae, prompt, features, messages, mode, unit, options, stream=False)
        return self._ask(SteerResponse, "steer", request)

    def _ask(self, answer: type[Any], what: str, request: Any) -> Any:
        return self._http.call(answer, "POST", f"/inference/{what}", request, repeatable=True)


class SteerStream(Iterator[SteerStreamEvent]):
    """What is written while it is written: ``SteeringBegun``, a ``TokenEvent`` for each new token,
    ``EndEvent``.  Close it, or leave its ``with`` block, to have the service stop."""

    def __init__(self, http: Transport, request: SteerRequest) -> None:
        self._http = http
        self._open = http.stream("POST", "/inference/steer", request, repeatable=True)
        self._response: httpx.Response | None = self._open.__enter__()
        self._events = server_events(self._response.iter_lines())

    def __next__(self) -> SteerStreamEvent:
        if self._response is None:
            raise StopIteration
        try:
            for event in self._events:
                if event.name not in _EVENTS:
                    continue
                read = self._http.parse(_EVENTS[event.name], event.data)
                if isinstance(read, ErrorEvent):
                    raise kind_of(read.status)(read.detail, status=read.status)
                if isinstance(read, EndEvent):
                    self.close()
                return read
        except httpx.HTTPError as error:
            self.close()
            raise self._http.unreachable(error) from None
        except BaseException:
            self.close()
            raise
        self.close()
        raise ApiError("The service broke off before the text was whole.", "Try again.")

    def close(self) -> None:
        if self._response is not None:
            self._response = None
            self._open.__exit__(None, None, None)

    def __enter__(self) -> SteerStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _steering(
    sae: SaeReference,
    prompt: str | None,
    features: Mapping[int, float] | Sequence[Mapping[str, Any]],
    messages: Chat | None,
    mode: str,
    unit: str,
    options: Mapping[str, Any],
    stream: bool,
) -> SteerRequest:
    pushes: list[Mapping[str, Any]]
    if isinstance(features, Mapping):
        pushes = [
            {"index": index, "strength": strength, "mode": mode, "unit": unit}
            for index, strength in features.items()
        ]
    else:
        pushes = several("features", features, "strengths by feature, or a list of interventions")
    body = {"sae": _name(sae), "prompt": prompt, "messages": messages, "features": pushes}
    return parse_part(SteerRequest, {**options, **body, "stream": stream})


def _name(sae: SaeReference) -> str:
    return str(sae.id if isinstance(sae, SaeSummary) else sae)
