"""The audit log says what was done, and to what."""

from __future__ import annotations

import datetime as dt
from typing import Any

from fastapi.routing import APIRoute, iter_route_contexts

from monosemy.address import PREFIX
from service.app import create_app
from service.audit.endpoints import AuditView
from service.edge.origin import READING_METHODS
from service.edge.routing import changes_something
from service.pages.audit_words import DEEDS, deeds_of
from service.settings import Settings
from tests.service.conftest import FakeInference

ANSWER = f"{PREFIX}/sittings/{{sitting}}/answers/{{number}}"
TAG = f"{PREFIX}/saes/{{sae}}/features/{{index}}/tags"
RUN = "1ece7a70-6614-470d-9316-fec7d3a9c010"


def entry(method: str, path: str, route: str, status: int = 200, **more: Any) -> AuditView:
    return AuditView(
        id=1,
        created_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        key_id=None,
        key_prefix=None,
        client=more.get("client", "127.0.0.1"),
        method=method,
        path=path,
        route=route,
        status=status,
        request_id="r",
    )


def test_every_request_that_changes_something_has_words(
    page_settings: Settings, inference: FakeInference
) -> None:
    app = create_app(page_settings, inference.transport())
    changing = set()
    for context in iter_route_contexts(app.routes):
        route, path = context.original_route, context.path or ""
        assert isinstance(route, APIRoute)
        for method in (route.methods or set()) - set(READING_METHODS):
            scope = {"method": method, "route": route, "endpoint": route.endpoint}
            if changes_something(scope):
                changing.add((method, path.removeprefix(PREFIX)))
    assert changing - set(DEEDS) == set()
    assert set(DEEDS) - changing == set(), "no such request"


def test_like_requests_are_one_line() -> None:
    answers = [
        entry(
            "PUT",
            f"{PREFIX}/sittings/5/answers/{n}",
            f"{PREFIX}/sittings/{{sitting}}/answers/{{number}}",
        )
        for n in range(3)
    ]
    refused = entry("POST", f"{PREFIX}/runs", f"{PREFIX}/runs", 422)
    first, second = deeds_of([*answers, refused])
    assert first.words == "answered a detection test" and len(first.entries) == 3
    assert second.newest.status == 422 and second.page is None
    elsewhere = [answers[0], answers[1].model_copy(update={"client": "10.0.0.1"})]
    assert len(deeds_of(elsewhere)) == 2


def test_what_was_deleted_since_is_named_without_a_link() -> None:
    cancelled = entry("POST", f"/runs/{RUN}/cancel", "/runs/{run_id}/cancel", 303)
    deleted = entry("DELETE", f"{PREFIX}/runs/{RUN}", f"{PREFIX}/runs/{{run_id}}", 204)
    assert deeds_of([cancelled])[0].page == f"/runs/{RUN}"
    assert [(each.page, each.what) for each in deeds_of([deleted, cancelled])] == [
        (None, RUN[:8]),
        (None, RUN[:8]),
    ]
    tagged = entry(
        "POST", f"{PREFIX}/saes/a/features/7/tags", f"{PREFIX}/saes/{{sae}}/features/{{index}}/tags"
    )
    assert deeds_of([tagged])[0].what == "feature 7 of a"


def test_an_unknown_request_is_shown_as_it_was() -> None:
    (deed,) = deeds_of([entry("POST", "/odd", "/odd")])
    assert deed.words == "POST /odd" and deed.page is None
