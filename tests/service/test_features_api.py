"""Listing features, a feature's page, its examples."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event, text

from monosemy.specs.rest.features import FeaturePage, FeatureSummary
from service.database.session import transaction
from service.database.tables import Explanation, Feature, Score
from service.features.columns import FACTS, STORED
from service.features.size import measure_size
from tests.support.library_rows import ROW_LENGTH, Library, add_explanation

pytestmark = pytest.mark.integration

URL = "/api/v1/saes/demo/features"
EXPLAINED = {3: 0.9, 4: 0.7, 5: 0.7, 6: 0.7, 10: None, 11: 0.2}


@pytest.fixture(scope="module", autouse=True)
def explained(module_engine: Engine, library: Library) -> None:
    with transaction(module_engine) as session:
        for feature, value in EXPLAINED.items():
            add_explanation(
                session, library, feature, f"label {feature}", f"It is about case {feature}.", value
            )
        add_explanation(session, library, 3, "worse", "A second try.", 0.4, key="second")


def test_what_is_shown_and_what_an_index_writes_are_columns_of_the_table() -> None:
    stored = [column.name for column in STORED]
    assert set(FACTS) < set(stored) < set(Feature.__table__.columns.keys())
    assert FeatureSummary.model_fields.keys() >= set(FACTS) <= FeaturePage.model_fields.keys()


def expected_order(features: int, sort: str, order: str) -> list[int]:
    """What the listing should be, worked out in Python from how the rows were made."""

    def key(index: int) -> tuple[float, int]:
        if sort == "density":
            return (index % 5) / 100, index
        if sort == "max_activation":
            return float(index % 7), index
        if sort == "score":
            value = EXPLAINED.get(index)
            missing = math.inf if order == "asc" else -math.inf
            return missing if value is None else value, index
        return 0.0, index

    return sorted(range(features), key=key, reverse=order == "desc")


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["index", "density", "max_activation", "score"])
@pytest.mark.parametrize("limit", [1, 7, 60, 200])
def test_pages_together_are_the_sorted_whole(
    client: TestClient, library: Library, walk_pages: Any, sort: str, order: str, limit: int
) -> None:
    items = walk_pages(client, URL, sort=sort, order=order, limit=limit)
    assert [item["index"] for item in items] == expected_order(library.features, sort, order)


def test_a_row_added_while_paging_moves_no_other(
    client: TestClient, library: Library, engine: Engine
) -> None:
    first = client.get(URL, params={"sort": "density", "limit": 30}).json()
    with transaction(engine) as session:
        row = session.get(Feature, (library.sae, 0))
        session.add(
            Feature(
                sae_id=library.sae,
                index=1000,
                density=0.0,
                max_activation=0.0,
                postings=0,
                label="new",
                evidence=row.evidence,
                examples=row.examples,
            )
        )
    try:
        rest = client.get(
            URL, params={"sort": "density", "limit": 200, "cursor": first["next_cursor"]}
        ).json()
        seen = [item["index"] for item in first["items"] + rest["items"]]
        assert sorted(seen) == list(range(library.features))
    finally:
        with transaction(engine) as session:
            session.delete(session.get(Feature, (library.sae, 1000)))


def test_items_carry_the_best_explanation_and_its_score(client: TestClient) -> None:
    items = {item["index"]: item for item in client.get(URL, params={"limit": 20}).json()["items"]}
    assert items[3]["explanation"]["label"] == "label 3"
    assert items[3]["score"]["value"] == 0.9
    assert items[3]["score"]["n"] == 20
    assert items[3]["score"]["baseline"] == 0.5
    assert items[10]["explanation"]["label"] == "label 10"
    assert items[10]["score"] is None
    assert items[0]["explanation"] is None
    assert items[1]["label"] == 'token " king" (90 %)'


@pytest.mark.parametrize(
    ("filters", "keep"),
    [
        ({"min_density": 0.02}, lambda i: i % 5 >= 2),
        ({"max_density": 0.02}, lambda i: i % 5 <= 2),
        ({"min_density": 0.01, "max_density": 0.03}, lambda i: 1 <= i % 5 <= 3),
        ({"has_explanation": True}, lambda i: i in EXPLAINED),
        ({"has_explanation": False}, lambda i: i not in EXPLAINED),
        ({"q": "queen"}, lambda i: i % 2 == 0 and i % 5 > 0),
        ({"q": "cases"}, lambda i: i in EXPLAINED),
        ({"q": "label 10"}, lambda i: i == 10),
        ({"q": "90 %"}, lambda i: i % 5 > 0),
        ({"q": "_"}, lambda i: False),
        ({"q": "never fired", "has_explanation": True}, lambda i: i in (5, 10)),
    ],
)
def test_filters(
    client: TestClient, library: Library, walk_pages: Any, filters: dict[str, Any], keep: Any
) -> None:
    indices = {item["index"] for item in walk_pages(client, URL, limit=9, **filters)}
    assert indices == {index for index in range(library.features) if keep(index)}


def test_a_cursor_serves_its_own_listing_only(client: TestClient) -> None:
    cursor = client.get(URL, params={"sort": "density", "limit": 5}).json()["next_cursor"]
    for other in ({"sort": "max_activation"}, {"sort": "density", "order": "desc"}, {"q": "king"}):
        answer = client.get(URL, params={"cursor": cursor, **other})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["path"] == "cursor"


def test_without_a_scorer_those_who_scored_are_listed_by(
    client: TestClient, module_engine: Engine, library: Library
) -> None:
    """Best first, the unscored last; a cursor goes on by the scorer that it began with."""
    asked = {"sort": "score", "order": "desc"}
    best = client.get(URL, params=asked).json()["items"]
    assert [item["index"] for item in best[:5]] == [3, 6, 5, 4, 11]

    def scored_by(old: str, new: str) -> None:
        with transaction(module_engine) as session:
            change = text("UPDATE scores SET scorer = :new WHERE scorer = :old")
            session.execute(change, {"old": old, "new": new})

    before = client.get(URL, params={**asked, "scorer": "detection", "limit": 2}).json()
    scored_by("detection", "embedding")
    try:
        for order, first in (("desc", [3, 6, 5, 4, 11]), ("asc", [11, 4, 5, 6, 3])):
            items = client.get(URL, params={"sort": "score", "order": order}).json()["items"]
            assert [item["index"] for item in items[:5]] == first
            assert {item["score"]["scorer"] for item in items[:5]} == {"embedding"}
        page = client.get(URL, params={**asked, "limit": 2}).json()
        more = client.get(URL, params={**asked, "limit": 2, "cursor": page["next_cursor"]})
        assert [item["index"] for item in more.json()["items"]] == [5, 4]
        old = client.get(URL, params={**asked, "limit": 2, "cursor": before["next_cursor"]})
        assert old.status_code == 200, "one that was given out while detection was the default"
        around = client.get(f"{URL}/5/around", params=asked).json()
        assert around["previous"]["feature"] == 6 and around["next"]["feature"] == 4
    finally:
        scored_by("embedding", "detection")


def test_feature_page_has_everything(client: TestClient, library: Library) -> None:
    page = client.get(f"{URL}/3").json()
    assert page["sae"]["name"] == "demo"
    assert page["sae"]["model"]["n_layers"] == 4
    assert page["evidence"]["top_tokens"][0]["text"] == " king"
    labels = [explanation["label"] for explanation in page["explanations"]]
    assert labels == ["label 3", "worse"]
    assert [len(explanation["scores"]) for explanation in page["explanations"]] == [1, 1]
    assert page["explanations"][0]["scores"][0]["details"] == {"tp": 8}
    assert page["neighbours"]["cosine"] == [
        {
            "feature": 4,
            "value": 0.9,
            "label": 'token " queen" (90 %)',
            "heading": "label 4",
            "explanation": "label 4",
        },
        {
            "feature": 5,
            "value": 0.8,
            "label": "never fired",
            "heading": "label 5",
            "explanation": "label 5",
        },
    ]
    assert page["neighbours"]["coactive"][0]["feature"] == 6


def test_examples_have_text_and_activations_beside(client: TestClient) -> None:
    examples = client.get(f"{URL}/3").json()["examples"]
    assert [example["group"] for example in examples] == ["top"] * 3 + ["q0"] * 2 + ["q1"] * 2
    for number, example in enumerate(examples):
        assert len(example["tokens"]) == len(example["activations"]) == 8
        assert example["focus"] == 1
        assert example["activation"] == example["activations"][1]
        assert example["activation"] == pytest.approx(8.0 - number, rel=1e-3)
        assert example["activations"][4] == pytest.approx(0.5, rel=1e-3)
        assert sum(value > 0 for value in example["activations"]) == 2
        assert example["document_name"] == f"Article {example['document']}"
        assert example["position"] // ROW_LENGTH == example["row"]


def test_a_character_cut_by_the_window_does_not_turn_to_rubbish(client: TestClient) -> None:
    first, second = client.get(f"{URL}/3").json()["examples"][:2]
    # The first window begins in the middle of the character: it belongs to the token before.
    assert first["tokens"][:2] == ["", " king"]
    assert second["tokens"][:4] == [" the", " 世", "", " king"]
    assert "\ufffd" not in "".join(second["tokens"])


def test_a_page_takes_three_statements(client: TestClient, library: Library) -> None:
    statements: list[str] = []
    engine = client.app.state.context.engine  # type: ignore[attr-defined]
    client.get(f"{URL}/3")  # the first one reads the token table, too

    def note(*args: Any) -> None:
        statements.append(args[2])

    event.listen(engine, "before_cursor_execute", note)
    assert client.get(f"{URL}/7").status_code == 200
    event.remove(engine, "before_cursor_execute", note)
    assert len(statements) == 3


def test_of_neighbours_no_judgement_is_loaded(client: TestClient) -> None:
    """Features 4 and 5 have scores; what their judges answered is not read for their labels."""
    loaded: list[Any] = []

    def note(row: Any, _context: Any) -> None:
        loaded.append(row)

    for table in (Explanation, Score):
        event.listen(table, "load", note)
    page = client.get(f"{URL}/3").json()
    for table in (Explanation, Score):
        event.remove(table, "load", note)
    assert {near["explanation"] for near in page["neighbours"]["cosine"]} == {"label 4", "label 5"}
    assert len(loaded) == 4  # two explanations of feature 3, and their scores
    assert {row.feature for row in loaded if isinstance(row, Explanation)} == {3}


def test_a_dead_feature_has_a_page_without_examples(client: TestClient) -> None:
    page = client.get(f"{URL}/0").json()
    assert page["label"] == "never fired"
    assert page["examples"] == []
    examples = client.get(f"{URL}/0/examples").json()
    assert examples == {"items": [], "next_cursor": None, "groups": {}}


def test_examples_by_group_and_page(client: TestClient, walk_pages: Any) -> None:
    url = f"{URL}/3/examples"
    whole = client.get(f"{URL}/3").json()["examples"]
    assert client.get(url).json()["groups"] == {"top": 3, "q0": 2, "q1": 2}
    assert walk_pages(client, url, limit=2) == whole
    assert walk_pages(client, url, limit=1, group="q1") == whole[5:]
    answer = client.get(url, params={"group": "q9"})
    assert answer.status_code == 422
    assert "top, q0, q1" in answer.json()["detail"]


def test_by_id_as_by_name(client: TestClient, library: Library) -> None:
    by_name = client.get(f"{URL}/3").json()
    assert client.get(f"/api/v1/saes/{library.sae}/features/3").json() == by_name


def test_what_is_not_there(client: TestClient, library: Library) -> None:
    for path, message in (
        ("/api/v1/saes/none/features", "no SAE 'none'"),
        ("/api/v1/saes/none/features/1", "no SAE 'none'"),
        (f"{URL}/60", "features 0 to 59"),
        (f"{URL}/60/examples", "features 0 to 59"),
    ):
        answer = client.get(path)
        assert answer.status_code == 404
        assert message in answer.json()["detail"]


def test_bytes_per_feature_are_measured_on_the_rows(
    engine: Engine, library: Library, client: TestClient
) -> None:
    with transaction(engine) as session:
        size = measure_size(session, library.sae)
        stored = session.get(Feature, (library.sae, 3))
    assert size.features == library.features
    assert 0 < size.examples < len(stored.examples) + 5
    assert size.examples + size.evidence < size.row < 4096
    assert size.total == pytest.approx(size.row + size.context + size.index_entries)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["index", "density", "max_activation", "score"])
def test_around_walks_the_listing_both_ways(client: TestClient, sort: str, order: str) -> None:
    wanted = [i for i in expected_order(60, sort, order) if 0.01 <= (i % 5) / 100 <= 0.03]
    params = {"sort": sort, "order": order, "min_density": 0.01, "max_density": 0.03}
    for place in (0, 1, 20, len(wanted) - 1):
        around = client.get(f"{URL}/{wanted[place]}/around", params=params).json()
        before = wanted[place - 1] if place else None
        after = wanted[place + 1] if place + 1 < len(wanted) else None
        assert [each and each["feature"] for each in (around["previous"], around["next"])] == [
            before,
            after,
        ]


def test_around_a_feature_that_the_filter_leaves_out(client: TestClient) -> None:
    around = client.get(f"{URL}/10/around", params={"min_density": 0.04}).json()
    assert around == {
        "previous": {"sae": "demo", "feature": 9},
        "next": {"sae": "demo", "feature": 14},
    }
    assert client.get(f"{URL}/60/around").status_code == 404
    assert client.get(f"{URL}/3/around", params={"list": "none"}).status_code == 404


def test_more_context_is_of_the_same_row(client: TestClient) -> None:
    for width in (0, 5, 10, 1000):
        plain = client.get(f"{URL}/1/examples").json()["items"]
        wide = client.get(f"{URL}/1/examples", params={"context": width}).json()["items"]
        for narrow, more in zip(plain, wide, strict=True):
            assert narrow["before"] == narrow["after"] == []
            same = {"before": [], "after": []}
            assert {**more, **same} == narrow
            left = narrow["position"] - narrow["row"] * ROW_LENGTH
            assert len(more["before"]) + more["focus"] == max(more["focus"], min(left, width))
            right = len(more["tokens"]) - more["focus"] - 1 + len(more["after"])
            own = len(more["tokens"]) - more["focus"] - 1
            assert right == max(own, min(ROW_LENGTH - left - 1, width))


def test_features_are_listed_by_their_indices(client: TestClient) -> None:
    asked = {"index": [11, 3, 3, 59], "scorer": "detection"}
    found = client.get(URL, params=asked).json()
    assert [each["index"] for each in found["items"]] == [3, 11, 59]
    assert found["next_cursor"] is None and found["items"][0]["score"]["value"] == 0.9
    first = client.get(URL, params={**asked, "limit": 1}).json()
    rest = client.get(URL, params={**asked, "cursor": first["next_cursor"]}).json()
    assert [each["index"] for each in first["items"] + rest["items"]] == [3, 11, 59]
    assert client.get(URL, params={"index": -1}).status_code == 422
    assert client.get(URL, params={"index": list(range(201))}).status_code == 422
