"""HTTP to a monosemy service: typed answers, errors that say what to do, another try where that is
safe."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from monosemy.address import PREFIX, base_of
from monosemy.client.errors import (
    ApiError,
    InvalidRequest,
    NotFound,
    NotMonosemy,
    ServiceUnreachable,
    error_of,
)
from monosemy.half_written import faults_naming
from monosemy.specs.part import Part

_TIMEOUT = httpx.Timeout(10, read=120)
"""Seconds.  The first activations of an SAE wait for its host model to be loaded."""

_TRANSFER = httpx.Timeout(10, read=600, write=60)
"""Seconds.  What was uploaded is unpacked and checked before the answer comes."""

_EVENTS = httpx.Timeout(10, read=180)
"""Seconds between two events of a stream."""

_REPEATABLE = ("GET", "PUT")
"""Methods that change nothing, or twice the same: they may be sent again."""

T = TypeVar("T")


class Transport:
    """Calls ``/api/v1`` of the service at ``url``, which may end in that or not; every method
    raises ``ApiError``.  ``source``: where the address comes from, for errors.

    Where the service is busy and says when to come back (429, 503 with Retry-After), a call that
    may be repeated waits and is sent again, for ``patience`` seconds in all.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        patience: float = 0.0,
        transport: httpx.BaseTransport | None = None,
        source: str = "",
    ) -> None:
        self.url, self._source = base_of(url), source
        self.patience = patience
        try:
            # trust_env off: a proxy meant for the internet must not see, or lose, local requests.
            self._http = httpx.Client(
                base_url=_checked(f"{self.url}{PREFIX}"),
                headers={} if key is None else {"X-API-Key": key},
                timeout=_TIMEOUT,
                trust_env=False,
                transport=transport,
            )
        except UnicodeEncodeError:
            raise InvalidRequest("An API key is plain ASCII.", status=422) from None
        except (httpx.InvalidURL, ValueError) as error:
            raise InvalidRequest(
                f"'{url}' is not an address: {error}.",
                source or "It comes from Client(url).",
                status=422,
            ) from None

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, /, **parameters: Any) -> Any:
        """The JSON at ``path``; parameters that are None are left out."""
        return self._json(self._exchange("GET", path, params=_given(parameters)))

    def text(self, path: str, /, **parameters: Any) -> str:
        """What is no JSON, such as a page."""
        return self._exchange("GET", path, params=_given(parameters)).text

    def binary(self, path: str, /, **parameters: Any) -> tuple[bytes, Mapping[str, str]]:
        """Bytes that are no JSON, with the answer's headers."""
        response = self._exchange("GET", path, params=_given(parameters))
        return response.content, response.headers

    def post(self, path: str, body: Any, /, **parameters: Any) -> Any:
        return self._json(self._exchange("POST", path, **_sent(body), params=_given(parameters)))

    def put(self, path: str, body: Any) -> Any:
        return self._json(self._exchange("PUT", path, **_sent(body)))

    def patch(self, path: str, body: Any) -> Any:
        return self._json(self._exchange("PATCH", path, **_sent(body)))

    def delete(self, path: str) -> None:
        self._exchange("DELETE", path)

    def call(
        self,
        answer: type[T],
        method: str,
        path: str,
        body: Part | Mapping[str, Any] | None = None,
        /,
        *,
        repeatable: bool | None = None,
        headers: Mapping[str, str] | None = None,
        **parameters: Any,
    ) -> T:
        """The answer as ``answer``.

        ``repeatable``: whether it may be sent again where the service is busy; None goes by the
        method.
        """
        sent = _sent(body)
        response = self._exchange(
            method,
            path,
            content=sent["content"],
            headers={**(headers or {}), **sent["headers"]},
            params=_given(parameters),
            repeatable=repeatable,
        )
        return self.parse(answer, response.content)

    def parse(self, kind: type[T], content: bytes | str) -> T:
        """JSON of the service as ``kind``; fields that are not known here are left out, so that a
        newer service can be read.  Raises ``NotMonosemy``."""
        try:
            answer: T = _adapter(cast(Hashable, kind)).validate_json(content, extra="ignore")
            return answer
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in fault["loc"])
            raise NotMonosemy(
                f"{self.url} answers, but not as monosemy does ({place}: {fault['msg']}).",
                "Is it of the same version as this client?",
            ) from None

    def upload(self, path: str, files: Sequence[tuple[str, Path]]) -> Any:
        """Sends files, each under the name that comes with it, as they are read."""
        with ExitStack() as stack:
            parts = [
                ("files", (name, stack.enter_context(file.open("rb")))) for name, file in files
            ]
            return self._json(
                self._exchange("POST", path, files=parts, timeout=_TRANSFER, repeatable=False)
            )

    def send(self, path: str, file: Path) -> Any:
        """Sends a JSON file as it is."""
        sent: dict[str, Any] = {"content": file.read_bytes(), "headers": {"Content-Type": _JSON}}
        return self._json(self._exchange("POST", path, **sent, timeout=_TRANSFER, repeatable=False))

    def download(self, path: str, destination: Path, /, **parameters: Any) -> int:
        """Writes an answer to a file, which takes its name when it is whole; its bytes."""
        half = destination.with_name(f"{destination.name}.part")
        try:
            with faults_naming(destination, half):
                with (
                    self.stream(
                        "GET", path, params=_given(parameters), timeout=_TRANSFER
                    ) as response,
                    half.open("wb") as out,
                ):
                    for piece in response.iter_bytes():
                        out.write(piece)
                size = half.stat().st_size
                half.rename(destination)
                return size
        finally:
            with suppress(OSError):
                half.unlink(missing_ok=True)

    @contextmanager
    def stream(
        self, method: str, path: str, body: Part | Mapping[str, Any] | None = None, **options: Any
    ) -> Iterator[httpx.Response]:
        """An open answer, to be read bit by bit; a connection that breaks meanwhile is
        ``ServiceUnreachable`` too."""
        if body is not None:
            options |= _sent(body)
        response = self._exchange(method, path, stream=True, **{"timeout": _EVENTS, **options})
        try:
            yield response
        except httpx.HTTPError as error:
            raise self.unreachable(error) from None
        finally:
            response.close()

    def unreachable(self, error: httpx.HTTPError) -> ServiceUnreachable:
        return ServiceUnreachable(
            f"The service at {self.url} does not answer ({type(error).__name__}).",
            f"{self._source} Start it with 'monosemy up', or set MONOSEMY_URL.".lstrip(),
        )

    def _redirected(self, request: httpx.Request, response: httpx.Response) -> NotMonosemy:
        """A key and a body go to the address that was named, and to no other."""
        try:
            place = request.url.join(response.headers["Location"])
            named = str(place.copy_with(query=None, userinfo=b""))[:300]
        except (httpx.InvalidURL, ValueError):
            named = "somewhere else"
        return NotMonosemy(
            f"{self.url} redirects to {named}, which is not followed.",
            "Name the service's own address in Client(url) or MONOSEMY_URL.",
            status=response.status_code,
        )

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError:
            raise NotMonosemy(f"{self.url} answers, but not as monosemy does.") from None

    def _exchange(
        self,
        method: str,
        path: str,
        *,
        stream: bool = False,
        repeatable: bool | None = None,
        **options: Any,
    ) -> httpx.Response:
        """An answer of a status below 400."""
        if self._http.is_closed:
            raise ApiError("This client is closed.", "Make another one.")
        if "?" in path:  # httpx would drop it for the parameters, and answer another question
            raise InvalidRequest(
                f"'{path}' has a query in its path.", "Give it as parameters.", status=422
            )
        until = time.monotonic() + self.patience
        while True:
            try:
                request = self._http.build_request(method, path, **options)
                response = self._http.send(request, stream=stream)
                if response.has_redirect_location:
                    response.close()
                    raise self._redirected(request, response)
                if response.status_code < 400:
                    return response
                response.read()
                response.close()
            except httpx.HTTPError as error:
                raise self.unreachable(error) from None
            refusal = error_of(
                response.status_code, response.content, response.headers.get("Retry-After")
            )
            wait = refusal.retry_after
            again = method in _REPEATABLE if repeatable is None else repeatable
            # A caller over its rate was turned away at the door: nothing has been done yet.
            again = again or (refusal.status == 429 and repeatable is not False)
            if wait is None or not again or time.monotonic() + wait > until:
                raise refusal
            time.sleep(wait)


def _checked(url: str) -> httpx.URL:
    """``url`` as an address of HTTP; ``httpx.InvalidURL`` where it is none."""
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise httpx.InvalidURL("it is written http://host:port")
    return parsed


def segment(name: object) -> str:
    """``name`` as one part of a path, whatever characters it has.

    Raises ``ApiError`` for what no path holds: nothing, dots alone, bytes that are no text.
    """
    text = str(name)
    if not text.strip(".") and len(text) < 3:
        raise NotFound(f"'{text}' names nothing.", status=404)
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise InvalidRequest(f"{text!a} is not text in UTF-8.", status=422) from None


_JSON = "application/json"


@lru_cache(maxsize=256)
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast(Any, kind))


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _sent(body: Any) -> dict[str, Any]:
    """Content and headers of a request; ``InvalidRequest`` for what is no JSON, NaN and infinity
    included: pydantic would send them as null, which many fields take for "left out"."""
    if body is None:
        return {"content": None, "headers": {}}
    try:
        plain = body.model_dump(mode="json") if isinstance(body, Part) else to_jsonable_python(body)
        if (place := _not_finite(plain)) is not None:
            raise InvalidRequest(f"{place}: a finite number is expected.", status=422)
        content = json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "An argument or a text holds bytes that are no UTF-8.", status=422
        ) from None
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"The body is not JSON: {error}.", status=422) from None
    return {"content": content, "headers": {"Content-Type": _JSON}}


def _not_finite(value: Any, place: str = "") -> str | None:
    """Where NaN or infinity stands in a body, such as ``features.0.strength``."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place or "body"
    if isinstance(value, dict):
        parts: Iterable[tuple[Any, Any]] = value.items()
    else:
        parts = enumerate(value) if isinstance(value, list) else ()
    within = (_not_finite(part, f"{place}.{name}" if place else str(name)) for name, part in parts)
    return next((each for each in within if each is not None), None)
