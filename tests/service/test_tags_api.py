"""Tags of features over REST, on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from monosemy.specs.tags import normalised
from service.database.session import transaction
from tests.support.library_rows import add_library

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("library")]

SAE = "/api/v1/saes/demo"
TAGS = "/api/v1/tags"


@pytest.fixture(autouse=True)
def no_tags(engine: Engine) -> Iterator[None]:
    yield
    with transaction(engine) as session:
        session.execute(text("DELETE FROM feature_tags"))


def tag(client: TestClient, index: int, *tags: str, sae: str = SAE) -> list[str]:
    answer = client.post(f"{sae}/features/{index}/tags", json={"tags": tags})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Royal Family", "royal-family"),
        ("  to_do ", "to-do"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("ﬁnance", "finance"),
        ("E\u0301tat", "état"),
        ("layer:9.mlp", "layer:9.mlp"),
        ("世界", "世界"),
    ],
)
def test_a_tag_is_written_one_way(given: str, expected: str) -> None:
    assert normalised(given) == expected


def test_a_features_page_shows_its_tags(client: TestClient) -> None:
    assert client.get(f"{SAE}/features/3").json()["tags"] == []
    tag(client, 3, "world", "Étude", "a-z")
    tag(client, 4, "neighbour")
    assert client.get(f"{SAE}/features/3").json()["tags"] == ["a-z", "world", "étude"]


@given(st.text(max_size=50))
def test_normalising_twice_changes_nothing(given: str) -> None:
    try:
        once = normalised(given)
    except ValueError:
        return
    assert normalised(once) == once
    assert 1 <= len(once) <= 40 and not set(once) & set("/?#%& \t\n_\x00")


def test_features_are_tagged_and_untagged(client: TestClient) -> None:
    assert tag(client, 3, "Royal Family", "people", "royal_family") == ["people", "royal-family"]
    assert tag(client, 3, "people", "a") == ["a", "people", "royal-family"]
    url = f"{SAE}/features/3/tags"
    for _ in range(2):
        assert client.delete(f"{url}/Royal Family").status_code == 204
    assert client.get(url).json()["items"] == ["a", "people"]
    assert client.get(f"{SAE}/features/4/tags").json()["items"] == []


def test_the_listing_is_filtered_by_tag(client: TestClient, walk_pages: Any) -> None:
    for index in range(0, 60, 6):
        tag(client, index, "sixth")
    indices = walk_pages(client, f"{SAE}/features", tag="SIXTH", limit=3)
    assert [each["index"] for each in indices] == list(range(0, 60, 6))
    dense = walk_pages(
        client, f"{SAE}/features", tag="sixth", min_density=0.03, sort="density", order="desc"
    )
    assert {each["index"] for each in dense} == {i for i in range(0, 60, 6) if i % 5 >= 3}
    assert walk_pages(client, f"{SAE}/features", tag="seventh") == []
    first = client.get(f"{SAE}/features", params={"tag": "sixth", "limit": 2}).json()
    other = client.get(f"{SAE}/features", params={"cursor": first["next_cursor"]})
    assert other.status_code == 422


def test_tags_are_counted(client: TestClient, engine: Engine, walk_pages: Any) -> None:
    with transaction(engine) as session:
        other = add_library(session, "tagged", features=4)
    words = ["b", "B2", "ä", "a-b", "ab", "a.b", "aa"]
    for index, word in enumerate(words):
        for feature in range(index + 1):
            tag(client, feature, word)
    tag(client, 3, "ab", "only-there", sae="/api/v1/saes/tagged")
    counts = {each["tag"]: each["features"] for each in walk_pages(client, TAGS, limit=2)}
    assert counts == {
        "b": 1,
        "b2": 2,
        "ä": 3,
        "a-b": 4,
        "ab": 6,
        "a.b": 6,
        "aa": 7,
        "only-there": 1,
    }
    assert list(counts) == sorted(counts)
    there = walk_pages(client, TAGS, sae="tagged")
    assert [(each["tag"], each["features"]) for each in there] == [("ab", 1), ("only-there", 1)]
    begun = walk_pages(client, TAGS, prefix="A", sae="demo", limit=1)
    assert [each["tag"] for each in begun] == ["a-b", "a.b", "aa", "ab"]
    with transaction(engine) as session:
        session.execute(text("DELETE FROM saes WHERE id = :id"), {"id": other.sae})
    assert "only-there" not in {each["tag"] for each in walk_pages(client, TAGS)}
    assert client.get(TAGS, params={"sae": "tagged"}).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"tags": []},
        {"tags": [""]},
        {"tags": [" "]},
        {"tags": ["a/b"]},
        {"tags": ["-a"]},
        {"tags": ["a\x00"]},
        {"tags": ["x" * 41]},
        {"tags": ["ﷺ" * 40]},
        {"tags": ["🙂"]},
        {"tags": [3]},
        {"tags": ["a"] * 51},
        {"tags": ["a"], "note": "b"},
    ],
)
def test_bad_tags(client: TestClient, body: Any) -> None:
    answer = client.post(f"{SAE}/features/1/tags", json=body)
    assert answer.status_code == 422, answer.text
    assert client.get(f"{SAE}/features/1/tags").json()["items"] == []


def test_a_feature_has_at_most_fifty(client: TestClient) -> None:
    assert len(tag(client, 2, *(f"t{number}" for number in range(50)))) == 50
    assert client.post(f"{SAE}/features/2/tags", json={"tags": ["more"]}).status_code == 422
    assert len(tag(client, 2, "t7")) == 50


def test_what_is_not_there_and_what_is_wrong(client: TestClient) -> None:
    for url in (f"{SAE}/features/60/tags", "/api/v1/saes/no/features/1/tags"):
        assert client.get(url).status_code == 404
        assert client.post(url, json={"tags": ["a"]}).status_code == 404
        assert client.delete(f"{url}/a").status_code == 404
    tag(client, 1, "a", "b")
    for url in (
        f"{TAGS}?cursor=W10",
        f"{TAGS}?limit=0",
        f"{TAGS}?prefix=",
        f"{TAGS}?sae=%00",
        f"{SAE}/features?tag=a/b",
        f"{SAE}/features?tag=%00",
        f"{SAE}/features/{2**31}/tags",
    ):
        assert client.get(url).status_code == 422, url
    assert client.delete(f"{SAE}/features/1/tags/a%00").status_code == 422


def test_a_tag_says_of_which_saes_it_is(client: TestClient, engine: Engine) -> None:
    with transaction(engine) as session:
        add_library(session, "second", features=8)
    tag(client, 3, "shared", "alone")
    for index in (1, 2):
        tag(client, index, "shared", sae="/api/v1/saes/second")
    items = {each["tag"]: each for each in client.get(TAGS).json()["items"]}
    assert items["shared"]["features"] == 3
    assert items["shared"]["saes"] == [
        {"sae": "second", "features": 2},
        {"sae": "demo", "features": 1},
    ]
    assert items["alone"]["saes"] == [{"sae": "demo", "features": 1}]
    (only,) = client.get(TAGS, params={"sae": "second"}).json()["items"]
    assert only["saes"] == [{"sae": "second", "features": 2}]
