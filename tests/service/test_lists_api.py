"""Lists of features over REST, on a real database."""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from service.app import create_app
from service.database.list_tables import FeatureList
from service.database.session import transaction
from service.database.tables import Sae
from service.settings import Settings
from tests.support.bad_names import BAD_NAMES, GOOD_NAMES
from tests.support.keys import fresh_key
from tests.support.library_rows import Library, add_explanation, add_library

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("library")]

LISTS = "/api/v1/lists"


@pytest.fixture(autouse=True)
def no_lists(engine: Engine) -> Iterator[None]:
    yield
    with transaction(engine) as session:
        session.execute(text("DELETE FROM feature_lists"))


def named(*features: int, sae: str = "demo") -> list[dict[str, Any]]:
    return [{"sae": sae, "feature": feature} for feature in features]


def begin(client: TestClient, name: str, *features: int) -> str:
    made = client.post(LISTS, json={"name": name})
    assert made.status_code == 201, made.text
    if features:
        change(client, name, "", named(*features))
    return str(made.json()["id"])


def change(client: TestClient, name: str, how: str, entries: Any, **more: Any) -> Any:
    answer = client.post(f"{LISTS}/{name}/entries{how}", json={"entries": entries, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def order(client: TestClient, name: str) -> list[int]:
    entries = client.get(f"{LISTS}/{name}", params={"limit": 200}).json()["entries"]["items"]
    positions = [entry["position"] for entry in entries]
    assert positions == sorted(set(positions))
    return [entry["feature"] for entry in entries]


def test_a_list_is_made_shown_changed_and_deleted(client: TestClient) -> None:
    made = client.post(LISTS, json={"name": "Names of kings", "description": "they rule"})
    body = made.json()
    assert made.headers["location"] == f"{LISTS}/{body['id']}"
    assert (body["name"], body["owner"], body["size"], body["revision"]) == (
        "Names of kings",
        "local",
        0,
        1,
    )
    for reference in (body["id"], "Names of kings"):
        shown = client.get(f"{LISTS}/{reference}").json()
        assert shown["description"] == "they rule" and shown["entries"]["items"] == []
    changed = client.patch(f"{LISTS}/{body['id']}", json={"name": "kings", "revision": 1}).json()
    assert (changed["name"], changed["description"]) == ("kings", "they rule")
    assert changed["revision"] == 2 and changed["changed_at"] > body["changed_at"]
    stale = client.patch(f"{LISTS}/kings", json={"description": "", "revision": 1})
    assert stale.status_code == 409 and "revision 2" in stale.json()["detail"]
    same = client.post(LISTS, json={"name": "kings"})
    assert same.status_code == 409
    begin(client, "queens")
    assert client.patch(f"{LISTS}/queens", json={"name": "kings"}).status_code == 409
    assert client.get(f"{LISTS}/queens").status_code == 200
    assert client.delete(f"{LISTS}/kings").status_code == 204
    assert client.get(f"{LISTS}/kings").status_code == 404


def test_lists_are_paged_and_filtered(client: TestClient, walk_pages: Any) -> None:
    names = [f"list {number}" for number in range(5)]
    for number, name in enumerate(names):
        begin(client, name, *range(number))
    assert [each["name"] for each in walk_pages(client, LISTS, limit=2)] == names[::-1]
    filled = walk_pages(client, LISTS, sae="demo", limit=3)
    assert [each["size"] for each in filled] == [4, 3, 2, 1]
    assert walk_pages(client, LISTS, owner=str(uuid.uuid4())) == []
    assert len(walk_pages(client, LISTS, owner="local")) == 5
    assert client.get(LISTS, params={"sae": "nothing"}).status_code == 404


def test_entries_tell_of_their_features(
    client: TestClient, engine: Engine, library: Library
) -> None:
    with transaction(engine) as session:
        add_explanation(session, library, 8, "crowns", "What kings wear.", 0.9)
    begin(client, "shown")
    change(client, "shown", "", [{"sae": str(library.sae), "feature": 8, "note": "worn"}])
    (entry,) = client.get(f"{LISTS}/shown").json()["entries"]["items"]
    feature = client.get("/api/v1/saes/demo/features/8").json()
    for name in ("label", "density", "max_activation"):
        assert entry[name] == feature[name]
    assert entry["explanation"] == "crowns"
    assert (entry["sae"], entry["sae_id"], entry["note"]) == ("demo", str(library.sae), "worn")


def test_adding_is_idempotent_and_keeps_order(client: TestClient) -> None:
    begin(client, "once")
    first = change(client, "once", "", named(5, 3, 3, 9))
    assert first == {"changed": 3, "size": 3, "revision": 2}
    assert change(client, "once", "", named(9, 3)) == {"changed": 0, "size": 3, "revision": 2}
    assert change(client, "once", "", named(3, 1))["changed"] == 1
    assert order(client, "once") == [5, 3, 9, 1]
    noted = [{"sae": "demo", "feature": 3, "note": "why"}, *named(3)]
    assert change(client, "once", "", noted)["changed"] == 0
    notes = {
        e["feature"]: e["note"] for e in client.get(f"{LISTS}/once").json()["entries"]["items"]
    }
    assert notes == {5: "", 3: "why", 9: "", 1: ""}
    assert change(client, "once", "/remove", [*named(3, 40), *named(1, sae="no")])["changed"] == 1
    assert order(client, "once") == [5, 9, 1]


@pytest.mark.parametrize(
    ("moved", "to", "expected"),
    [
        ([4], 0, [4, 0, 1, 2, 3, 5]),
        ([0], 3, [1, 2, 3, 0, 4, 5]),
        ([5, 0, 2], 1, [1, 5, 0, 2, 3, 4]),
        ([1, 0], 99, [2, 3, 4, 5, 1, 0]),
        ([0, 1, 2], 0, [0, 1, 2, 3, 4, 5]),
        ([5, 4, 3, 2, 1, 0], 2, [5, 4, 3, 2, 1, 0]),
    ],
)
def test_moving(client: TestClient, moved: list[int], to: int, expected: list[int]) -> None:
    begin(client, "moved", *range(6))
    change(client, "moved", "/remove", named(3))
    change(client, "moved", "", named(3))
    change(client, "moved", "/move", named(3), to=3)
    assert order(client, "moved") == [0, 1, 2, 3, 4, 5]
    assert change(client, "moved", "/move", named(*moved), to=to)["changed"] == len(moved)
    assert order(client, "moved") == expected


def test_pages_of_entries(client: TestClient) -> None:
    wanted = [(7 * step) % 60 for step in range(60)]
    begin(client, "long", *wanted)
    seen: list[int] = []
    cursor = None
    while True:
        parameters = {"limit": 7, **({"cursor": cursor} if cursor else {})}
        page = client.get(f"{LISTS}/long", params=parameters).json()["entries"]
        seen += [entry["feature"] for entry in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == wanted


def test_export(client: TestClient) -> None:
    begin(client, "out", 4, 2)
    note = 'a "quoted", noted\nline — with a dash'
    change(client, "out", "", [{"sae": "demo", "feature": 2, "note": note}])
    entries = client.get(f"{LISTS}/out").json()["entries"]["items"]
    lines = client.get(f"{LISTS}/out/export", params={"format": "jsonl"})
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    objects = [json.loads(line) for line in lines.text.splitlines()]
    assert [(each["feature"], each["note"]) for each in objects] == [(4, ""), (2, note)]
    assert objects == [{name: entry[name] for name in objects[0]} for entry in entries]
    table = client.get(f"{LISTS}/out/export")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
    assert [(int(row["feature"]), row["note"]) for row in rows] == [(4, ""), (2, note)]
    assert float(rows[0]["density"]) == entries[0]["density"]
    begin(client, "empty")
    assert client.get(f"{LISTS}/empty/export").text.count("\n") == 1
    assert client.get(f"{LISTS}/empty/export", params={"format": "jsonl"}).text == ""


def test_an_export_of_more_than_one_piece_is_whole(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.lists.service._EXPORTED_AT_ONCE", 7)
    begin(client, "pieces", *reversed(range(30)))
    lines = client.get(f"{LISTS}/pieces/export", params={"format": "jsonl"}).text.splitlines()
    assert [json.loads(line)["feature"] for line in lines] == list(reversed(range(30)))


def test_features_of_an_sae_without_index_are_refused(client: TestClient, engine: Engine) -> None:
    with transaction(engine) as session:
        library = add_library(session, "bare", features=4)
        session.execute(text("DELETE FROM features WHERE sae_id = :sae"), {"sae": library.sae})
        session.execute(text("UPDATE saes SET index = NULL WHERE id = :sae"), {"sae": library.sae})
    begin(client, "mixed", 3)
    mixed = [*named(4), *named(1, sae="bare"), *named(2, sae=str(library.sae))]
    answer = client.post(f"{LISTS}/mixed/entries", json={"entries": mixed})
    assert answer.status_code == 422
    assert [each["path"] for each in answer.json()["errors"]] == ["entries.1.sae", "entries.2.sae"]
    assert "submit an index run" in answer.json()["errors"][0]["message"]
    assert order(client, "mixed") == [3]
    # What is in a list already, from a time when that was taken, can still be moved and removed.
    with transaction(engine) as session:
        session.execute(text("UPDATE saes SET index = '{}' WHERE id = :sae"), {"sae": library.sae})
    change(client, "mixed", "", named(1, sae="bare"))
    with transaction(engine) as session:
        session.execute(text("UPDATE saes SET index = NULL WHERE id = :sae"), {"sae": library.sae})
    change(client, "mixed", "/move", named(1, sae="bare"), to=0)
    assert order(client, "mixed") == [1, 3]
    change(client, "mixed", "/remove", named(1, sae="bare"))
    with transaction(engine) as session:
        session.execute(text("DELETE FROM saes WHERE id = :sae"), {"sae": library.sae})


def test_a_deleted_sae_leaves_every_list(client: TestClient, engine: Engine) -> None:
    with transaction(engine) as session:
        other = add_library(session, "passing", features=4)
    begin(client, "both", 1, 2)
    change(client, "both", "", named(0, 3, sae="passing"))
    change(client, "both", "", named(5))
    with transaction(engine) as session:
        session.execute(text("DELETE FROM saes WHERE id = :id"), {"id": other.sae})
    assert order(client, "both") == [1, 2, 5]
    change(client, "both", "/move", named(5), to=1)
    assert order(client, "both") == [1, 5, 2]


@pytest.mark.parametrize(
    ("how", "body"),
    [
        ("", {"entries": []}),
        ("", {"entries": named(60)}),
        ("", {"entries": named(-1)}),
        ("", {"entries": named(2**31)}),
        ("", {"entries": named(1, sae="nothing")}),
        ("", {"entries": named(1, sae="a\x00b")}),
        ("", {"entries": [{"sae": "demo", "feature": 1, "note": "\x00"}]}),
        ("", {"entries": [{"sae": "demo", "feature": 1, "note": "x" * 2001}]}),
        ("", {"entries": [{"sae": "demo", "feature": True}]}),
        ("", {"entries": named(1) * 1001}),
        ("", {"entries": named(1), "to": 0}),
        ("/remove", {"entries": []}),
        ("/remove", {}),
        ("/move", {"entries": named(1)}),
        ("/move", {"entries": named(1), "to": -1}),
        ("/move", {"entries": named(1), "to": 2**31}),
        ("/move", {"entries": named(1, 1), "to": 0}),
        ("/move", {"entries": named(7), "to": 0}),
        ("/move", {"entries": named(1, sae="nothing"), "to": 0}),
    ],
)
def test_bad_entries_change_nothing(client: TestClient, how: str, body: Any) -> None:
    begin(client, "kept", 1, 2)
    answer = client.post(f"{LISTS}/kept/entries{how}", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"]
    assert order(client, "kept") == [1, 2]


def test_names_that_no_list_can_have(client: TestClient) -> None:
    # By hand: half a surrogate pair has an escape in JSON, and no form in UTF-8.
    headers = {"Content-Type": "application/json"}
    for name in [*BAD_NAMES, 7, None]:
        refused = client.post(LISTS, content=json.dumps({"name": name}), headers=headers)
        assert refused.status_code == 422, ascii(name)
        assert [each["path"] for each in refused.json()["errors"]] == ["name"]


def test_every_name_is_an_address(client: TestClient) -> None:
    for name in GOOD_NAMES:
        begin(client, name)
        assert client.get(f"{LISTS}/{quote(name, safe='')}").json()["name"] == name
        assert client.delete(f"{LISTS}/{quote(name, safe='')}").status_code == 204


def test_another_spelling_is_the_same_name(client: TestClient) -> None:
    begin(client, "cafe\u0301")
    assert client.post(LISTS, json={"name": "caf\u00e9"}).status_code == 409
    for spelling in ("cafe\u0301", "caf\u00e9"):
        assert client.get(f"{LISTS}/{quote(spelling)}").json()["name"] == "caf\u00e9"


def test_names_of_old_are_found_by_id(client: TestClient, engine: Engine, library: Library) -> None:
    """Stored before there was a rule: a path, and the id of something else."""
    begin(client, "of old")
    (items,) = [each for each in client.get(LISTS).json()["items"] if each["name"] == "of old"]
    with transaction(engine) as session:
        row = session.get_one(FeatureList, uuid.UUID(items["id"]))
        row.name = "../a b/"
        sae = session.get_one(Sae, library.sae)
        sae.name = " a/b"
    try:
        shown = client.get(f"{LISTS}/{items['id']}").json()
        assert shown["name"] == "../a b/"
        assert client.get(f"/api/v1/saes/{library.sae}").json()["name"] == " a/b"
        # Both spellings of one id, in one request.
        same = [{"sae": str(library.sae), "feature": 1}, {"sae": library.sae.hex, "feature": 2}]
        added = client.post(f"{LISTS}/{items['id']}/entries", json={"entries": same})
        assert added.json()["changed"] == 2
        renamed = client.patch(f"{LISTS}/{items['id']}", json={"name": "of now"})
        assert renamed.json()["name"] == "of now"
    finally:
        with transaction(engine) as session:
            session.get_one(Sae, library.sae).name = library.name


def test_an_id_goes_before_a_name_that_looks_like_it(
    client: TestClient, engine: Engine, library: Library
) -> None:
    begin(client, "first")
    begin(client, "second")
    ids = {each["name"]: each["id"] for each in client.get(LISTS).json()["items"]}
    with transaction(engine) as session:
        session.get_one(FeatureList, uuid.UUID(ids["second"])).name = ids["first"]
    assert client.get(f"{LISTS}/{ids['first']}").json()["name"] == "first"


def test_what_is_not_there_and_what_is_wrong(client: TestClient) -> None:
    begin(client, "there")
    for method, path in (
        ("GET", "nothing"),
        ("PATCH", "nothing"),
        ("DELETE", "nothing"),
        ("GET", "nothing/export"),
    ):
        assert client.request(method, f"{LISTS}/{path}", json={}).status_code == 404
    assert client.post(f"{LISTS}/x/entries", json={"entries": named(1)}).status_code == 404
    for query in ("cursor=W10", "limit=0", "cursor=%00", "limits=3"):
        assert client.get(f"{LISTS}/there?{query}").status_code == 422
        assert client.get(f"{LISTS}?{query}").status_code == 422
    for wrong in ({"revision": 0}, {"description": "\x00"}, {"owner": "x"}, {"name": "a/b"}):
        assert client.patch(f"{LISTS}/there", json=wrong).status_code == 422
    assert client.get(f"{LISTS}/there/export?format=xlsx").status_code == 422
    assert client.get(f"{LISTS}/%00").status_code == 422


def test_a_list_does_not_grow_without_end(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.lists.service.MOST_OF_A_LIST", 3)
    begin(client, "short", 1, 2)
    answer = client.post(f"{LISTS}/short/entries", json={"entries": named(3, 4)})
    assert answer.status_code == 422
    assert order(client, "short") == [1, 2]


def test_adding_at_once_gives_every_entry_a_place_of_its_own(client: TestClient) -> None:
    begin(client, "crowd")
    with ThreadPoolExecutor(6) as pool:
        done = list(
            pool.map(
                lambda start: change(client, "crowd", "", named(*range(start, start + 15))),
                range(0, 36, 6),
            )
        )
    assert sum(each["changed"] for each in done) == 45
    assert sorted(order(client, "crowd")) == list(range(45))


def test_only_the_owner_and_administrators_change_a_list(
    settings: Settings, engine: Engine
) -> None:
    secret = "a-secret-of-thirty-two-characters"
    closed = settings.model_copy(update={"require_keys": True, "secret": secret})
    with transaction(engine) as session:
        keys = {
            name: {"X-API-Key": fresh_key(session, name, [scope], secret)}
            for name, scope in (("o", "run"), ("x", "run"), ("r", "read"), ("a", "admin"))
        }
    with TestClient(create_app(closed), base_url="http://127.0.0.1:8420") as client:
        assert client.post(LISTS, json={"name": "mine"}, headers=keys["r"]).status_code == 403
        made = client.post(LISTS, json={"name": "mine"}, headers=keys["o"]).json()
        uuid.UUID(made["owner"])
        entries = {"entries": named(1)}
        for who, status in (("x", 403), ("r", 403), ("o", 200), ("a", 200)):
            patched = client.patch(f"{LISTS}/mine", json={"description": who}, headers=keys[who])
            assert patched.status_code == status
            for how, more in (("", {}), ("/move", {"to": 0}), ("/remove", {})):
                answer = client.post(
                    f"{LISTS}/mine/entries{how}", json={**entries, **more}, headers=keys[who]
                )
                assert answer.status_code == status, answer.text
        shown = client.get(f"{LISTS}/mine", headers=keys["r"])
        assert shown.json()["owner"] == made["owner"]
        refused = client.delete(f"{LISTS}/mine", headers=keys["x"])
        assert refused.json()["type"] == "urn:monosemy:problem:not-the-owner"
        assert client.delete(f"{LISTS}/mine", headers=keys["o"]).status_code == 204


def test_an_entry_knows_how_many_stand_before_it(client: TestClient, engine: Engine) -> None:
    begin(client, "placed", *range(6))
    with transaction(engine) as session:  # as an SAE that is deleted leaves it
        session.execute(text("DELETE FROM feature_list_entries WHERE feature = 2"))
    seen: list[tuple[int, int]] = []
    cursor: str | None = None
    for _ in range(3):
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = client.get(f"{LISTS}/placed", params=query).json()["entries"]
        seen += [(each["feature"], each["place"]) for each in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [(0, 0), (1, 1), (3, 2), (4, 3), (5, 4)]
    change(client, "placed", "/move", named(5), to=seen[2][1])
    assert order(client, "placed") == [0, 1, 5, 3, 4]


def test_lists_of_a_feature_and_its_neighbours_in_one(client: TestClient) -> None:
    begin(client, "first", 5, 3, 9)
    begin(client, "second", 3)
    names = client.get(LISTS, params={"sae": "demo", "feature": 3}).json()["items"]
    assert {each["name"] for each in names} == {"first", "second"}
    assert not client.get(LISTS, params={"sae": "demo", "feature": 4}).json()["items"]
    assert client.get(LISTS, params={"feature": 4}).status_code == 422
    around = "/api/v1/saes/demo/features/{}/around"
    for feature, wanted in ((5, [None, 3]), (3, [5, 9]), (9, [3, None]), (4, [None, None])):
        neighbours = client.get(around.format(feature), params={"list": "first"}).json()
        assert [each and each["feature"] for each in neighbours.values()] == wanted
