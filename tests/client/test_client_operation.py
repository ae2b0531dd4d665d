"""The client's words for comparisons, tags and operation, against the real API."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from monosemy.client import ApiError, Client, Conflict, InvalidRequest, NotFound
from monosemy.errors import SpecError
from service.app import create_app
from service.database.comparison_tables import Comparison, FeatureLink
from service.database.session import transaction
from service.settings import Settings
from tests.support.library_rows import add_explanation, add_library, unit

pytestmark = pytest.mark.integration

LINKS = [(1, 7, 0.5), (2, 3, 0.9), (4, 5, 0.5), (6, 0, 0.7), (8, 1, 0.9)]


@pytest.fixture(scope="module")
def api(
    database_url: str, module_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    settings = Settings(
        home=tmp_path_factory.mktemp("home"),
        database_url=database_url,
        redis_url=None,
        secret="a secret of more than sixteen letters",
        log_level="ERROR",
    )
    with TestClient(
        create_app(settings), base_url="http://127.0.0.1:8420", client=("127.0.0.1", 50000)
    ) as server:

        def forward(request: httpx.Request) -> httpx.Response:
            sent = {**request.headers, "accept-encoding": "identity"}
            answer = server.request(
                request.method, str(request.url), content=request.read(), headers=sent
            )
            return httpx.Response(
                answer.status_code,
                content=answer.content,
                headers={"Content-Type": answer.headers.get("Content-Type", "")},
            )

        yield Client(transport=httpx.MockTransport(forward))


@pytest.fixture(scope="module")
def comparison(module_engine: Engine) -> uuid.UUID:
    with transaction(module_engine) as session:
        a = add_library(session, "first", features=9)
        b = add_library(session, "second", features=9)
        made = Comparison(
            id=uuid.uuid4(), sae_a=a.sae, sae_b=b.sae, by="decoder", method="mutual", summary={}
        )
        session.add(made)
        session.flush()
        for one, other, value in LINKS:
            session.add(
                FeatureLink(
                    comparison_id=made.id, feature_a=one, feature_b=other, value=value, matched=True
                )
            )
        return made.id


def test_comparisons_and_their_pairs_in_any_order(
    api: Client, comparison: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [each.id for each in api.comparisons.list(sae="second")] == [comparison]
    assert api.comparisons.get(comparison).a.name == "first"
    by = {
        ("value", "desc"): sorted(LINKS, key=lambda link: (-link[2], link[0], link[1])),
        ("a", "asc"): sorted(LINKS),
        ("b", "asc"): sorted(LINKS, key=lambda link: (link[1], link[0])),
    }
    monkeypatch.setattr("monosemy.client.listing.MAX_PAGE", 2)  # ties lie across pages
    for (sort, natural), wanted in by.items():
        for order in (None, "asc", "desc"):
            pairs = api.comparisons.matches(comparison, sort=sort, order=order)
            shown = [(pair.a.index, pair.b.index, round(pair.value, 3)) for pair in pairs]
            assert shown == (wanted if order in (None, natural) else wanted[::-1]), (sort, order)
    assert [p.a.index for p in api.comparisons.matches(comparison, min_value=0.8)] == [2, 8]
    assert list(api.comparisons.matches(comparison, matched=False)) == []


def test_a_comparison_is_deleted_with_its_links(
    api: Client, module_engine: Engine, comparison: uuid.UUID
) -> None:
    with transaction(module_engine) as session:
        old = session.get_one(Comparison, comparison)
        same = Comparison(
            id=uuid.uuid4(),
            sae_a=old.sae_a,
            sae_b=old.sae_b,
            by="tokens",
            method="mutual",
            summary={},
        )
        session.add(same)
        session.flush()
        identity = same.id
    api.comparisons.delete(identity)
    with pytest.raises(NotFound):
        api.comparisons.get(identity)


def test_tags(api: Client, comparison: uuid.UUID) -> None:
    assert api.tags.add("first", 3, ["Two words", "b"]) == ["b", "two-words"]
    assert api.tags.of("first", 3) == ["b", "two-words"]
    assert [(each.tag, each.features) for each in api.tags.list(sae="first")] == [
        ("b", 1),
        ("two-words", 1),
    ]
    assert [each.tag for each in api.tags.list(prefix="tw")] == ["two-words"]
    api.tags.remove("first", 3, "b")
    assert api.tags.of("first", 3) == ["two-words"]
    with pytest.raises(NotFound):
        api.tags.of("first", 99)


@pytest.fixture(scope="module")
def scored(module_engine: Engine) -> None:
    """Two SAEs with nine scored features each, the second's higher by a fifth."""
    with transaction(module_engine) as session:
        for name, shift in (("third", 0.0), ("fourth", 0.2)):
            library = add_library(session, name, features=9)
            for feature in range(9):
                value = 0.5 + shift + feature / 40
                add_explanation(session, library, feature, "x", "words", value, unit(feature))


def test_reports_on_scores_alone_and_beside_others(
    api: Client, scored: None, comparison: uuid.UUID, tmp_path: Path
) -> None:
    report = api.saes.report("third", reference="fourth")
    assert report["name"] == "third" and report["features"] == 9
    beside = api.saes.report_beside("third", [api.saes.get("fourth")])
    assert [each["name"] for each in beside["sides"]] == ["third", "fourth"]
    (difference,) = beside["scorers"]["detection"]["differences"]
    assert difference["value"] == pytest.approx(-0.2)
    for size, words in (
        (api.exports.report("third", tmp_path / "a.html"), "third"),
        (api.exports.report_beside("third", ["fourth"], tmp_path / "b.html"), "fourth"),
    ):
        pages = [
            each.read_text() for each in tmp_path.glob("*.html") if len(each.read_bytes()) == size
        ]
        assert any(words in page and "<script" not in page for page in pages)
    with pytest.raises(SpecError, match="others"):
        api.saes.report_beside("third", "fourth")
    with pytest.raises(InvalidRequest):
        api.saes.report_beside("third", ["third"])
    with pytest.raises(Conflict):
        api.saes.report_beside("third", ["first"])


def test_sessions_and_prompts(api: Client) -> None:
    assert list(api.operation.sessions()) == []
    prompt = api.explanations.prompt("detection")
    assert prompt == api.explanations.prompt("detection", version=prompt.version)


def test_queues_are_paused_limited_and_let_go(api: Client) -> None:
    assert {each.name for each in api.operation.queues()} == {"gpu", "interp"}
    assert api.operation.change_queue("gpu", paused=True, max_running=2).max_running == 2
    changed = api.operation.change_queue("gpu", paused=False, max_running=0)
    assert (changed.paused, changed.max_running) == (False, None)


def test_keys_spend_and_audit(api: Client) -> None:
    made = api.operation.make_key("notebook", ["read", "run"], requests_per_minute=60)
    assert made.key.startswith("mnsy_")
    listed = list(api.operation.keys())
    assert [each.id for each in listed] == [made.id] and not hasattr(listed[0], "key")
    api.operation.revoke_key(listed[0])
    assert next(api.operation.keys()).revoked_at is not None
    routes = [each.route for each in api.operation.audit(limit=3)]
    assert "/api/v1/keys/{key}" in routes
    assert list(api.operation.audit(key=made.id)) == []
    now = dt.datetime.now(dt.UTC)
    assert api.operation.spend("day", since=now).total.calls == 0
    with pytest.raises(ApiError):
        api.operation.spend(since=now.replace(tzinfo=None))
