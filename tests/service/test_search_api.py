"""Search: by meaning, words and spelling, fused; and without the embedder."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select, text

from service.database.session import transaction
from service.database.tables import Sae
from service.search.fusion import fuse
from tests.support.library_rows import Library, add_explanation, add_library, unit

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", autouse=True)
def explained(module_engine: Engine, library: Library) -> Library:
    """Feature 1: found by meaning alone; 2: by words alone; 3: by both; 4: by neither."""
    with transaction(module_engine) as session:
        add_explanation(session, library, 1, "monarchs", "Rulers of a realm.", 0.9, unit(0))
        add_explanation(session, library, 2, "royal cats", "Cats in palaces.", 0.8, unit(1))
        add_explanation(session, library, 3, "royal families", "Dynasties.", 0.7, near(0, 1))
        add_explanation(session, library, 4, "chemistry", "Photosynthesis.", 0.6, unit(2))
        add_explanation(session, library, 6, "no vector", "Not embedded yet.")
        other = add_library(session, "other", features=8)
        add_explanation(session, other, 1, "royal others", "Elsewhere.", None, unit(0))
    return other


def near(first: int, second: int) -> list[float]:
    vector = unit(first)
    vector[second] = 0.5
    return vector


def found(answer: dict) -> list[tuple[str, int]]:
    return [(item["sae"], item["index"]) for item in answer["items"]]


def test_meaning_and_words_are_fused(client: TestClient, inference) -> None:
    inference.axes = {"royal": 0}
    answer = client.get("/api/v1/search", params={"q": "royal", "sae": "demo"}).json()
    assert answer["mode"] == "hybrid"
    assert answer["reason"] is None
    # 3 is second by meaning and found by words; that beats first place by meaning alone.
    assert found(answer)[0] == ("demo", 3)
    assert set(answer["items"][0]["matched"]) >= {"vector", "words"}
    by_index = {item["index"]: item for item in answer["items"]}
    assert by_index[1]["matched"] == ["vector"]
    assert "words" in by_index[2]["matched"]
    assert by_index[3]["explanation"]["label"] == "royal families"
    assert by_index[3]["score"]["value"] == 0.7
    scores = [item["rank_score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)


def test_an_sae_filter_holds_for_every_list(client: TestClient, inference) -> None:
    inference.axes = {"royal": 0}
    everywhere = client.get("/api/v1/search", params={"q": "royal"}).json()
    assert ("other", 1) in found(everywhere)
    one = client.get("/api/v1/search", params={"q": "royal", "sae": "other"}).json()
    assert found(one) == [("other", 1)]


def test_several_saes_and_a_model(client: TestClient, inference) -> None:
    inference.axes = {"royal": 0}

    def searched(**filters: object) -> set[str]:
        answer = client.get("/api/v1/search", params={"q": "royal", **filters})
        assert answer.status_code == 200, answer.text
        return {sae for sae, _ in found(answer.json())}

    assert searched() == searched(sae=["demo", "other"]) == {"demo", "other"}
    assert searched(model="tiny-other") == searched(model="tiny-other", sae=["demo", "other"])
    assert searched(model="tiny-other") == {"other"}
    assert searched(model="tiny-other", sae="demo") == set()
    for unknown in ({"model": "nothing"}, {"sae": ["demo", "nothing"]}):
        assert client.get("/api/v1/search", params={"q": "x", **unknown}).status_code == 404
    many = client.get("/api/v1/search", params={"q": "x", "sae": ["demo"] * 51})
    assert many.status_code == 422


def test_densities_hold_for_every_list(client: TestClient, inference) -> None:
    """Feature ``i`` of the library has the density ``(i % 5) / 100``."""
    inference.axes = {"royal": 0}
    everything = {"q": "royal", "sae": "demo"}
    both = client.get("/api/v1/search", params={**everything, "min_density": 0.02}).json()
    assert {3, 2, 4} >= {index for _, index in found(both)} >= {2, 3}
    assert {matcher for item in both["items"] for matcher in item["matched"]} >= {"vector", "words"}
    few = client.get("/api/v1/search", params={**everything, "max_density": 0.01}).json()
    assert {index % 5 for _, index in found(few)} <= {0, 1}
    assert ("demo", 1) in found(few)
    labels = {"q": "queen", "sae": "demo", "min_density": 0.03, "limit": 100}
    assert {i % 5 for _, i in found(client.get("/api/v1/search", params=labels).json())} == {3, 4}
    bad = client.get("/api/v1/search", params={"q": "x", "min_density": 0.5, "max_density": 0.1})
    assert bad.status_code == 422


def test_spelling_is_asked_where_words_find_too_few(client: TestClient, inference) -> None:
    inference.away = True
    enough = client.get("/api/v1/search", params={"q": "palaces", "limit": 1}).json()
    assert {matcher for item in enough["items"] for matcher in item["matched"]} == {"words"}
    more = client.get("/api/v1/search", params={"q": "palaces", "limit": 50}).json()
    assert any("similar" in item["matched"] for item in more["items"])


def test_without_the_embedder_the_answer_is_lexical_and_says_so(
    client: TestClient, inference
) -> None:
    inference.away = True
    answer = client.get("/api/v1/search", params={"q": "royal", "sae": "demo"}).json()
    assert answer["mode"] == "lexical"
    assert "cannot be reached" in answer["reason"]
    assert {index for _, index in found(answer)} == {2, 3}


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (500, {"detail": "boom"}, "The inference server failed: boom"),
        (200, {"embeddings": [[1.0, 2.0]]}, "2 numbers"),
        (200, {"embeddings": []}, "not what was agreed"),
        (200, {"embeddings": ["x"]}, "not what was agreed"),
        (200, [1], "not what was agreed"),
    ],
)
def test_a_strange_embedder_is_as_good_as_none(
    client: TestClient, inference, status: int, answer, message: str
) -> None:
    inference.status, inference.answer = status, answer
    result = client.get("/api/v1/search", params={"q": "royal"})
    assert result.status_code == 200
    assert result.json()["mode"] == "lexical"
    assert message in result.json()["reason"]


def test_evidence_labels_are_searched_too(client: TestClient, inference) -> None:
    inference.away = True
    answer = client.get("/api/v1/search", params={"q": "queen", "sae": "demo", "limit": 100}).json()
    assert answer["items"]
    assert {index % 2 for _, index in found(answer)} == {0}


def test_stems_and_small_misspellings_are_found(client: TestClient, inference) -> None:
    inference.away = True
    stem = client.get("/api/v1/search", params={"q": "palace", "sae": "demo"}).json()
    assert found(stem)[0] == ("demo", 2)
    slip = client.get("/api/v1/search", params={"q": "photosyntesis", "sae": "demo"}).json()
    assert found(slip)[0] == ("demo", 4)
    assert slip["items"][0]["matched"] == ["similar"]


@pytest.mark.parametrize("query", ['"', "' OR 1=1 --", "a & | ! (", "%", "\\", "<->", "😀", ":*"])
def test_no_query_breaks_the_search(client: TestClient, query: str) -> None:
    assert client.get("/api/v1/search", params={"q": query}).status_code == 200


def test_limit(client: TestClient, inference) -> None:
    inference.away = True
    answer = client.get("/api/v1/search", params={"q": "king", "limit": 3}).json()
    assert len(answer["items"]) == 3


def test_nearest_vectors_come_through_the_hnsw_index(engine: Engine, library: Library) -> None:
    """The operator, the type and the ordering are those that the index serves."""
    with engine.connect() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = connection.execute(
            text("EXPLAIN SELECT id FROM explanations ORDER BY embedding <=> :v LIMIT 5"),
            {"v": str(unit(0))},
        )
        assert "ix_explanations_embedding" in "\n".join(row[0] for row in plan)


def test_fusion_by_hand() -> None:
    fused = fuse({"a": ["x", "y", "x"], "b": ["y", "z"]}, k=60)
    assert [item.key for item in fused] == ["y", "x", "z"]
    assert fused[0].score == pytest.approx(1 / 62 + 1 / 61)
    assert fused[0].lists == ("a", "b")
    assert fused[1].score == pytest.approx(1 / 61)
    assert fuse({}) == []


def test_hits_bring_their_strongest_example_where_asked(client: TestClient, inference) -> None:
    inference.axes = {"royal": 0}
    asked = {"q": "royal", "examples": "true"}
    answer = client.get("/api/v1/search", params=asked).json()
    assert {item["sae"] for item in answer["items"]} == {"demo", "other"}
    for item in answer["items"]:
        path = f"/api/v1/saes/{item['sae']}/features/{item['index']}"
        examples = client.get(path).json()["examples"]
        assert item["example"] == (examples[0] if examples else None)
    without = client.get("/api/v1/search", params={"q": "royal"}).json()
    assert all(item["example"] is None for item in without["items"])


def test_the_missing_text_of_one_sae_costs_no_search(
    client: TestClient, module_engine: Engine, inference
) -> None:
    inference.axes = {"royal": 0}
    with transaction(module_engine) as session:
        other = session.scalars(select(Sae).where(Sae.name == "other")).one()
        kept, other.index = other.index, {**(other.index or {}), "text_id": "gone"}
    try:
        answer = client.get("/api/v1/search", params={"q": "royal", "examples": "true"})
        assert answer.status_code == 200, answer.text
        items = answer.json()["items"]
        assert {item["sae"] for item in items} == {"demo", "other"}
        for item in items:
            assert (item["example"] is None) or item["sae"] == "demo"
        assert any(item["example"] for item in items)
    finally:
        with transaction(module_engine) as session:
            session.scalars(select(Sae).where(Sae.name == "other")).one().index = kept
