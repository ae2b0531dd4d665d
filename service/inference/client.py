"""The API's side of the warm inference server."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from typing import Any

import httpx
from pydantic import SecretStr

from monosemy.errors import MonosemyError
from service.observability import logs, tracing
from service.settings import Settings

CONNECT_SECONDS = 2.0
ACTIVATIONS_SECONDS = 120.0
"""A first request may have to load a host model and an SAE."""
CONTRAST_SECONDS = 300.0
"""Many texts, which others' requests come between."""
EMBED_SECONDS = 10.0
HEALTH_SECONDS = 2.0


class InferenceAway(MonosemyError):
    """The inference server cannot be reached, is too slow or busy, or broke off."""


class InferenceFailed(InferenceAway):
    """The inference server came upon an error that it did not foresee, and says which."""


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

    def activations(self, body: dict[str, Any]) -> dict[str, Any]:
        """``{"tokens": [{"id", "text"}], "saes": [{"features", "chosen"}]}``: ``features`` are
        pairs of index and activation by token, ``chosen`` rows of activations or null."""
        return self._post("/activations", body, ACTIVATIONS_SECONDS)

    def tokenize(self, body: dict[str, Any]) -> dict[str, Any]:
        """``{"tokens": [{"id", "text"}], "bos": one or null}``"""
        return self._post("/tokenize", body, ACTIVATIONS_SECONDS)

    def contrast(self, body: dict[str, Any]) -> dict[str, Any]:
        """``{"positive", "negative", "tokens", "relabellings", "exact"}``: features with figures,
        best first."""
        return self._post("/contrast", body, CONTRAST_SECONDS)

    def steer(self, body: dict[str, Any]) -> Generator[dict[str, Any]]:
        """Events as they come: ``prompt``, ``token``, ``end``, or ``error``.

        What the request lacks is raised before the first one.  Close the iterator to have the
        server stop.
        """
        timeout = httpx.Timeout(ACTIVATIONS_SECONDS, connect=CONNECT_SECONDS)
        with ExitStack() as stack:
            try:
                address = self._address("/steer")
                opened = self._http.stream(
                    "POST", address, json=body, timeout=timeout, headers=_told()
                )
                response = stack.enter_context(opened)
                if response.status_code >= 400:
                    response.read()
                    _raise_for(response)
                for line in response.iter_lines():
                    event = json.loads(line)
                    if not isinstance(event, dict) or "event" not in event:
                        raise ValueError("not an event")
                    yield event
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:
                raise _not_answered(error, "has fallen silent") from None
            except ValueError:
                raise InferenceAway("The inference server's answer is not JSON.") from None

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One unit vector per text."""
        answer = self._post("/embed", {"texts": list(texts)}, EMBED_SECONDS)
        embeddings = answer.get("embeddings")
        try:
            vectors = [[float(number) for number in vector] for vector in embeddings or []]
        except (TypeError, ValueError):
            vectors = []
        if len(vectors) != len(texts):
            raise InferenceAway("The inference server's answer holds no embeddings.")
        return vectors

    def check(self) -> None:
        """Raises ``InferenceAway`` unless the server says that it is well."""
        self._send("GET", "/healthz", None, HEALTH_SECONDS)

    def _post(self, path: str, body: dict[str, Any], seconds: float) -> dict[str, Any]:
        response = self._send("POST", path, body, seconds)
        try:
            answer = response.json()
        except ValueError:
            raise InferenceAway("The inference server's answer is not JSON.") from None
        if not isinstance(answer, dict):
            raise InferenceAway("The inference server's answer is not an object.")
        return answer

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None, seconds: float
    ) -> httpx.Response:
        address = self._address(path)
        try:
            response = self._http.request(
                method,
                address,
                json=body,
                timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
                headers=_told(),
            )
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:
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


def _told() -> dict[str, str]:
    """The id of the request that is being served, so that both logs have it."""
    identity = logs.request_id.get()
    return tracing.outgoing() | ({} if identity is None else {"X-Request-ID": identity})


def _not_answered(error: Exception, silent: str) -> MonosemyError:
    """What an exchange that came to no answer was; ``silent`` is what a timeout means."""
    if isinstance(error, UnicodeEncodeError):
        return InferenceRefused(
            "The request holds half of a surrogate pair, which is no character."
        )
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
