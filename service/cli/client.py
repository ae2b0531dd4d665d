"""The CLI's side of the REST API: one readable line for whatever goes wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from monosemy.errors import MonosemyError

FAILED, USAGE, UNREACHABLE, NOT_FOUND = 1, 2, 3, 4

_TIMEOUT = httpx.Timeout(10, read=120)
"""Seconds.  The first activations of an SAE wait for its host model to be loaded."""


_TRANSFER = httpx.Timeout(10, read=600, write=60)
"""Seconds.  What was uploaded is unpacked and checked before the answer comes."""


class ApiError(MonosemyError):
    """The API said no, or nothing; ``exit_code`` is what the CLI ends with."""

    def __init__(self, message: str, exit_code: int, advice: str | None = None) -> None:
        super().__init__(message, advice)
        self.exit_code = exit_code


class Client:
    """Calls ``/api/v1`` of the service at ``url``; every method raises ``ApiError``."""

    def __init__(self, url: str, api_key: SecretStr | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"X-API-Key": api_key.get_secret_value()} if api_key else {}
        try:
            # trust_env off: a proxy meant for the internet must not see, or lose, local requests.
            self._http = httpx.Client(
                base_url=f"{self.url}/api/v1", headers=headers, timeout=_TIMEOUT, trust_env=False
            )
        except httpx.InvalidURL as error:
            raise ApiError(f"MONOSEMY_URL is not an address: {error}.", USAGE) from None

    def get(self, path: str, **parameters: Any) -> Any:
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._call("GET", path, params=given)

    def text(self, path: str, **parameters: Any) -> str:
        """What is no JSON, such as a page."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._send("GET", path, params=given).text

    def post(self, path: str, body: Any, **parameters: Any) -> Any:
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._call("POST", path, json=body, params=given)

    def upload(self, path: str, files: Sequence[tuple[str, Path]]) -> Any:
        """Sends files, each under the name that comes with it, as they are read."""
        with ExitStack() as stack:
            parts = [
                ("files", (name, stack.enter_context(file.open("rb")))) for name, file in files
            ]
            return self._call("POST", path, files=parts, timeout=_TRANSFER)

    def download(self, path: str, destination: Path, **parameters: Any) -> int:
        """Writes an answer to a file, which takes its name when it is whole; its bytes."""
        given = {name: value for name, value in parameters.items() if value is not None}
        half = destination.with_name(f"{destination.name}.part")
        try:
            with (
                self._http.stream("GET", path, params=given, timeout=_TRANSFER) as response,
                half.open("wb") as out,
            ):
                if response.status_code >= 400:
                    response.read()
                    raise _refused(response)
                for piece in response.iter_bytes():
                    out.write(piece)
            size = half.stat().st_size
            half.rename(destination)
            return size
        except httpx.HTTPError as error:
            raise self.unreachable(error) from None
        finally:
            half.unlink(missing_ok=True)

    def put(self, path: str, body: Any) -> Any:
        return self._call("PUT", path, json=body)

    def patch(self, path: str, body: Any) -> Any:
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> None:
        self._send("DELETE", path)

    @contextmanager
    def stream(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """An open response, to be read line by line; connection faults are httpx's own."""
        timeout = httpx.Timeout(10, read=60)
        with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            if response.status_code >= 400:
                response.read()
                raise _refused(response)
            yield response

    @contextmanager
    def stream_post(self, path: str, body: Any) -> Iterator[httpx.Response]:
        """An answer that comes bit by bit, to be read line by line."""
        timeout = httpx.Timeout(10, read=180)
        try:
            with self._http.stream("POST", path, json=body, timeout=timeout) as response:
                if response.status_code >= 400:
                    response.read()
                    raise _refused(response)
                yield response
        except httpx.HTTPError as error:
            raise self.unreachable(error) from None

    def unreachable(self, error: httpx.HTTPError) -> ApiError:
        return ApiError(
            f"The service at {self.url} does not answer ({type(error).__name__}).",
            UNREACHABLE,
            "Start it with 'monosemy up', or set MONOSEMY_URL.",
        )

    def _call(self, method: str, path: str, **options: Any) -> Any:
        response = self._send(method, path, **options)
        try:
            return response.json()
        except ValueError:
            raise ApiError(f"{self.url} answers, but not as monosemy does.", FAILED) from None

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise self.unreachable(error) from None
        if response.status_code >= 400:
            raise _refused(response)
        return response


def segment(name: str) -> str:
    """``name`` as one part of a path, whatever characters it has.

    Raises ``ApiError`` for what no path holds: nothing, dots alone, bytes that are no text.
    """
    if not name.strip(".") and len(name) < 3:
        raise ApiError(f"'{name}' names nothing.", NOT_FOUND)
    try:
        return quote(name, safe="")
    except UnicodeEncodeError:
        raise ApiError(f"{name!a} is not text in UTF-8.", USAGE) from None


def _refused(response: httpx.Response) -> ApiError:
    """A problem detail as text: a line for each fault of a request that does not validate."""
    code = {404: NOT_FOUND, 422: USAGE, 503: UNREACHABLE}.get(response.status_code, FAILED)
    try:
        problem = response.json()
        faults = problem.get("errors") or []
        lines = [f"{e['path']}: {e['message']}" if e["path"] else e["message"] for e in faults]
        return ApiError("\n".join(lines) or str(problem["detail"]), code)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(f"The service answered {response.status_code}.", code)
