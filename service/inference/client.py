"""The API's side of the warm inference server."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

import httpx
from pydantic import SecretStr, ValidationError

from monosemy.errors import MonosemyError
from monosemy.specs.inference.activations import (
    ActivationsAnswer,
    ActivationsCall,
    TokenizeAnswer,
    TokenizeCall,
)
from monosemy.specs.inference.answer import Answer, parse_answer
from monosemy.specs.inference.attention import AttentionAnswer, AttentionCall
from monosemy.specs.inference.contrast import ContrastAnswer, ContrastCall
from monosemy.specs.inference.embedding import EmbedAnswer, EmbedCall, ServerHealth
from monosemy.specs.inference.graph_heads import (
    GraphHeads,
    GraphHeadsCall,
    GraphScore,
    GraphScoreCall,
)
from monosemy.specs.inference.graph_steering import GraphSteerCall, GraphSteered
from monosemy.specs.inference.steering import (
    STEER_EVENT,
    EndEvent,
    ErrorEvent,
    SteerCall,
    SteerEvent,
)
from monosemy.specs.part import Part
from service.observability import logs, tracing
from service.settings import Settings

CONNECT_SECONDS = 2.0
ACTIVATIONS_SECONDS = 120.0
"""A first request may have to load a host model and an SAE."""
CONTRAST_SECONDS = 300.0
"""Many texts, which others' requests come between."""
GRAPH_SECONDS = 300.0
"""All SAEs of a graph may have to be loaded, and its host model proved to be linear."""
EMBED_SECONDS = 10.0
HEALTH_SECONDS = 2.0

A = TypeVar("A", bound=Answer)
R = TypeVar("R")


class InferenceAway(MonosemyError):
    """The inference server cannot be reached, is too slow or busy, or broke off."""


class InferenceFailed(InferenceAway):
    """The inference server came upon an error that it did not foresee, and says which."""


class InferenceMalformed(InferenceAway):
    """The inference server's answer is not what was agreed: it is of another version, or no
    inference server."""

    def __init__(self, fault: str) -> None:
        super().__init__(
            f"The inference server's answer is not what was agreed ({fault}).",
            "Is it of the same version as the API?",
        )


class InferenceRefused(MonosemyError):
    """The inference server says that the request itself is at fault."""


class InferenceClient:
    """Thread-safe; one per process.  Every method raises ``InferenceAway`` when nothing answers."""

    def __init__(
        self,
        url: str | None,
        transport: httpx.BaseTransport | None = None,
        token: SecretStr | None = None,
    ) -> None:
        """``token``: what the inference server lets its callers in by."""
        self.url = url
        headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
        # How many calls there are at a time is decided before; here none waits for another.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        # trust_env off: a proxy meant for the internet must not see, or lose, local requests.
        self._http = httpx.Client(
            transport=transport, trust_env=False, headers=headers, limits=limits
        )

    @classmethod
    def of(
        cls, settings: Settings, transport: httpx.BaseTransport | None = None
    ) -> InferenceClient:
        """That of the settings."""
        return cls(settings.inference_url, transport, settings.parts_token)

    def close(self) -> None:
        self._http.close()

    def activations(self, call: ActivationsCall) -> ActivationsAnswer:
        answer = self._post("/activations", call, ActivationsAnswer, ACTIVATIONS_SECONDS)
        if not answer.answers(call):
            raise InferenceMalformed("saes: not those that were asked for")
        return answer

    def tokenize(self, call: TokenizeCall) -> TokenizeAnswer:
        return self._post("/tokenize", call, TokenizeAnswer, ACTIVATIONS_SECONDS)

    def contrast(self, call: ContrastCall) -> ContrastAnswer:
        return self._post("/contrast", call, ContrastAnswer, CONTRAST_SECONDS)

    def attention(self, call: AttentionCall) -> AttentionAnswer:
        return self._post("/attention", call, AttentionAnswer, ACTIVATIONS_SECONDS)

    def steer_graph(self, call: GraphSteerCall) -> GraphSteered:
        return self._post("/graph-steering", call, GraphSteered, GRAPH_SECONDS)

    def graph_heads(self, call: GraphHeadsCall) -> GraphHeads:
        return self._post("/graph-heads", call, GraphHeads, GRAPH_SECONDS)

    def graph_score(self, call: GraphScoreCall) -> GraphScore:
        return self._post("/graph-score", call, GraphScore, GRAPH_SECONDS)

    def steer(self, call: SteerCall) -> Generator[SteerEvent]:
        """Events as they come; an ``ErrorEvent`` is raised as the error that it tells of.

        What the request lacks is raised before the first one.  Close the iterator to have the
        server stop.
        """
        timeout = httpx.Timeout(ACTIVATIONS_SECONDS, connect=CONNECT_SECONDS)
        with ExitStack() as stack:
            try:
                address = self._address("/steer")
                opened = self._http.stream(
                    "POST", address, content=_json(call), timeout=timeout, headers=_headers()
                )
                response = stack.enter_context(opened)
                if response.status_code >= 400:
                    response.read()
                    _raise_for(response)
                for line in response.iter_lines():
                    event = _agreed(partial(STEER_EVENT.validate_json, line, strict=True))
                    if isinstance(event, ErrorEvent):
                        raise fault_for(event.status, event.detail)
                    yield event
                    if isinstance(event, EndEvent):
                        return
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise _not_answered(error, "has fallen silent") from None
        raise InferenceAway("The inference server broke off.")

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One unit vector per text."""
        try:
            call = EmbedCall(texts=list(texts))
        except ValidationError as error:
            raise InferenceRefused(f"The texts cannot be embedded: {_first(error)}.") from None
        vectors = self._post("/embed", call, EmbedAnswer, EMBED_SECONDS).embeddings
        if len(vectors) != len(texts):
            raise InferenceMalformed(f"embeddings: {len(vectors)} for {len(texts)} texts")
        return vectors

    def check(self) -> None:
        """Raises ``InferenceAway`` unless the server says that it is well."""
        response = self._send("GET", "/healthz", None, HEALTH_SECONDS)
        _agreed(partial(parse_answer, ServerHealth, response.content))

    def _post(self, path: str, call: Part, answer: type[A], seconds: float) -> A:
        response = self._send("POST", path, call, seconds)
        return _agreed(partial(parse_answer, answer, response.content))

    def _send(self, method: str, path: str, call: Part | None, seconds: float) -> httpx.Response:
        address = self._address(path)
        try:
            response = self._http.request(
                method,
                address,
                content=None if call is None else _json(call),
                timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
                headers=_headers(),
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            silent = f"did not answer within {seconds:.0f} seconds"
            raise _not_answered(error, silent) from None
        _raise_for(response)
        return response

    def _address(self, path: str) -> str:
        if not self.url:
            raise InferenceAway(
                "No inference server is configured.",
                "Set MONOSEMY_INFERENCE_URL, or start the embedded stack with 'monosemy up'.",
            )
        return self.url.rstrip("/") + path


def _headers() -> dict[str, str]:
    """With the id of the request that is being served, so that both logs have it."""
    identity = logs.request_id.get()
    named = {} if identity is None else {"X-Request-ID": identity}
    return tracing.outgoing() | named | {"Content-Type": "application/json"}


def _json(call: Part) -> str:
    """Raises ``InferenceRefused`` for text that is none."""
    try:
        return call.model_dump_json()
    except ValueError:  # pydantic's: half of a surrogate pair
        raise InferenceRefused(
            "The request holds half of a surrogate pair, which is no character."
        ) from None


def _agreed(read: Callable[[], R]) -> R:
    """What ``read`` makes of an answer; raises ``InferenceMalformed`` where it cannot."""
    try:
        return read()
    except ValidationError as error:
        raise InferenceMalformed(_first(error)) from None


def _first(error: ValidationError) -> str:
    """The first fault, by its place."""
    fault = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    return f"{place}: {fault['msg']}" if place else fault["msg"]


def _not_answered(error: Exception, silent: str) -> MonosemyError:
    """What an exchange that came to no answer was; ``silent`` is what a timeout means."""
    if isinstance(error, httpx.ConnectTimeout):
        return InferenceAway(
            f"The inference server cannot be reached: no connection in {CONNECT_SECONDS:.0f} s."
        )
    if isinstance(error, httpx.TimeoutException):
        return InferenceAway(f"The inference server {silent}.")
    if isinstance(error, (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)):
        return InferenceAway(
            "The inference server broke off before its answer was whole: it crashed, or was killed "
            f"or restarted ({error or type(error).__name__}).",
            "Try again; if it happens again, its log says why, or it needs more memory.",
        )
    return InferenceAway(f"The inference server cannot be reached: {error}.")


def fault_for(status: int, explanation: str) -> MonosemyError:
    """The error that an answer of this status, 400 or above, is."""
    if status in (400, 404, 409, 413, 422):
        return InferenceRefused(explanation)
    if status == 503:
        return InferenceAway(explanation)
    if status == 500:
        return InferenceFailed(f"The inference server failed: {explanation}")
    return InferenceAway(f"The inference server failed with status {status}: {explanation}")


def _raise_for(response: httpx.Response) -> None:
    if response.status_code >= 400:
        raise fault_for(response.status_code, _explanation(response))


def _explanation(response: httpx.Response) -> str:
    """The ``detail`` of its error, whatever form it has."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:300] or response.reason_phrase
    detail = body.get("detail", body) if isinstance(body, dict) else body
    return str(detail)[:1000]
