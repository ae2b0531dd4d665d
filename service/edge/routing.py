"""Routes that say who may call them, and what surrounds them decides by what they say.

Nothing is decided by the looks of an address: every route of the API is a ``GuardedRoute``, asks
for a scope (``service.keys.authorize``) or says that it is for anybody, and whatever else sets it
apart is noted on its endpoint by the decorators below.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.params import Depends
from fastapi.routing import APIRoute
from python_multipart.exceptions import FormParserError
from starlette.responses import StreamingResponse
from starlette.types import Scope

from monosemy.address import PREFIX
from service.edge.bodies import bounded, check_declared
from service.edge.context import AppContext
from service.edge.origin import READING_METHODS, check_own_page
from service.keys import watch
from service.keys.authorize import CSRF_FIELD, CSRF_HEADER, Anybody, admit, check_token
from service.keys.authorize import Scope as KeyScope
from service.kit.errors import InvalidRequest
from service.kit.problems import documented
from service.kit.query_names import KnownQueryNames
from service.settings import Settings

MAX_BODY_BYTES = 2 * 1024 * 1024

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_READS, _QUIET, _LIMIT, _FORM = "reads_only", "quiet", "body_limit", "form_post"


def reads_only(endpoint: Endpoint) -> Endpoint:
    """Sent with a body, but changes nothing: the audit log leaves it out."""
    return _noted(endpoint, _READS, True)


def quiet(endpoint: Endpoint) -> Endpoint:
    """Asked every few seconds by machines: logged at the level DEBUG."""
    return _noted(endpoint, _QUIET, True)


def body_limit(limit: Callable[[Settings], int]) -> Callable[[Endpoint], Endpoint]:
    """Takes bodies of as many bytes as ``limit`` says, in place of ``MAX_BODY_BYTES``."""
    return lambda endpoint: _noted(endpoint, _LIMIT, limit)


def form_post(endpoint: Endpoint) -> Endpoint:
    """Sent by HTML forms: the token of a session is taken from the form's field ``csrf``, which
    needs no script; a route for anybody (a login) takes forms from our own pages alone.

    Without this a form is refused: a session's token is then asked for in a header.
    """
    return _noted(endpoint, _FORM, True)


def changes_something(scope: Scope) -> bool:
    """Whether the request reached a route that may change what is stored; without a word from
    the route it may."""
    if scope["method"] in READING_METHODS or scope.get("route") is None:
        return False
    return not _note_of(scope, _READS)


def is_quiet(scope: Scope) -> bool:
    """Whether the request reached a route that is asked all the time."""
    return bool(_note_of(scope, _QUIET))


class GuardedRoute(APIRoute):
    """Asks for the key before a byte of the body is read or anything of the request validated;
    bounds the body; looks for the token of a session where a form has it; ends answers that outlive
    the key or the session.

    Raises ``TypeError`` for an endpoint that does not say who may call it.
    """

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        scopes = scopes_of(self)
        limit: Callable[[Settings], int] = getattr(self.endpoint, _LIMIT, lambda _: MAX_BODY_BYTES)
        is_form = getattr(self.endpoint, _FORM, False)

        async def guarded(request: Request) -> Response:
            context: AppContext = request.app.state.context
            takes_form = is_form and request.method not in READING_METHODS
            if scopes:
                await admit(request, context, scopes, token_in_form=takes_form)
            elif takes_form:
                check_own_page(context.settings, request.scope)
            most = limit(context.settings)
            check_declared(request.headers, most)
            pace = (context.settings.body_idle_seconds, context.settings.body_least_rate)
            body = bounded(request.receive, most, *pace)
            inner = Request(request.scope, body)
            if takes_form and getattr(request.state, "session", None) is not None:
                check_token(request, await _shown_token(inner))
            response = await handle(inner)
            key = getattr(request.state, "key_id", None)
            if key is not None and isinstance(response, StreamingResponse):
                current = getattr(request.state, "session", None)
                watch.end_with_key(response, context, key, current and current.id)
            return response

        return guarded


class Router(APIRouter):
    """A router of guarded routes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"route_class": GuardedRoute, **options})


class ApiRouter(Router):
    """A router of the API.  Its routes lie below ``/api/v1`` and know the query's names from the
    start: routers around routers would have FastAPI analyse every endpoint a second time, and
    again for every app."""

    def __init__(
        self, prefix: str = "", *, dependencies: Sequence[Depends] = (), **options: Any
    ) -> None:
        super().__init__(
            prefix=PREFIX + prefix,
            dependencies=[KnownQueryNames, *dependencies],
            responses=documented(401, 403, 500),
            generate_unique_id_function=operation_id,
            **options,
        )


def operation_id(route: APIRoute) -> str:
    """``runs_submit`` for ``submit`` in ``service/runs``: what generated clients call it."""
    domain = route.endpoint.__module__.split(".")[1]
    return domain if domain == route.name else f"{domain}_{route.name}"


def scopes_of(route: APIRoute) -> list[str]:
    """The scopes that a route asks for; none where it is for anybody.

    Raises ``TypeError`` where it says neither.
    """
    calls = [each.call for each in _flat(route.dependant)]
    scopes = [call.needed for call in calls if isinstance(call, KeyScope)]
    if not scopes and not any(isinstance(call, Anybody) for call in calls):
        raise TypeError(
            f"{route.path} does not say who may call it: give it the dependency CanRead, CanInfer,"
            " CanRun, CanAdminister or ForAnybody"
        )
    return scopes


async def _shown_token(request: Request) -> str | None:
    """From the header, else from the form, which is read and kept for the endpoint."""
    shown = request.headers.get(CSRF_HEADER)
    if shown is None:
        try:
            field = (await request.form()).get(CSRF_FIELD)
        except FormParserError:
            raise InvalidRequest([("", "the form cannot be read")]) from None
        shown = field if isinstance(field, str) else None
    return shown


def _flat(dependant: Dependant) -> list[Dependant]:
    return [dependant, *(each for inner in dependant.dependencies for each in _flat(inner))]


def _noted(endpoint: Endpoint, name: str, value: Any) -> Endpoint:
    setattr(endpoint, name, value)
    return endpoint


def _note_of(scope: Scope, name: str) -> Any:
    return getattr(scope.get("endpoint"), name, None)
