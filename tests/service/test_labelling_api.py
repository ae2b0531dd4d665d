"""What waits for a person's label: in order, in pages, without what is done."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from service.database.labelling_tables import Sitting
from service.database.session import transaction
from tests.support.gathered_rows import add_list
from tests.support.library_rows import Library, add_explanation

pytestmark = pytest.mark.integration

URL = "/api/v1/labelling"
LISTED = [30, 9, 12, 44, 3]


@pytest.fixture
def said(engine: Engine, library: Library) -> Iterator[dict[int, uuid.UUID]]:
    """Explanations of three features, two of which are in a list of five."""
    with transaction(engine) as session:
        add_list(session, library, "five", LISTED)
        made = {
            feature: add_explanation(session, library, feature, "a", "b", value)
            for feature, value in ((9, 0.8), (44, None), (20, 0.6))
        }
        add_explanation(session, library, 9, "worse", "worse", 0.5, key="k2")
    yield made
    with transaction(engine) as session:
        for table in ("explanations", "feature_lists"):
            session.execute(text(f"DELETE FROM {table}"))


def asked(client: TestClient, **query: Any) -> Any:
    answer = client.get(URL, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def walked(client: TestClient, **query: Any) -> list[int]:
    found: list[int] = []
    page = asked(client, limit=1, **query)
    while page["items"]:
        found += [each["feature"] for each in page["items"]]
        if page["next_cursor"] is None:
            break
        page = asked(client, limit=1, cursor=page["next_cursor"], **query)
    return found


def write(client: TestClient, feature: int) -> str:
    path = f"/api/v1/saes/demo/features/{feature}/explanations"
    return str(client.post(path, json={"text": f"mine on {feature}"}).json()["id"])


@pytest.mark.usefixtures("said")
def test_a_list_is_walked_in_its_order_and_what_is_done_is_left_out(client: TestClient) -> None:
    assert walked(client, list="five") == LISTED
    write(client, 9)
    write(client, 3)
    page = asked(client, list="five")
    assert (page["total"], page["done"]) == (5, 2)
    assert [each["feature"] for each in page["items"] if each["done"]] == [9, 3]
    assert walked(client, list="five", todo=True) == [30, 12, 44]
    assert asked(client, list="five", todo=True)["total"] == 5


def test_only_what_others_explained_is_voted_on_or_judged(
    client: TestClient, said: dict[int, uuid.UUID]
) -> None:
    own = write(client, 12)
    for mode in ("vote", "judge"):
        page = asked(client, list="five", mode=mode)
        assert [each["feature"] for each in page["items"]] == [9, 44]
        assert page["items"][0]["explanation"] == str(said[9])  # the best scored
    assert walked(client, sae="demo", mode="vote") == [9, 20, 44]
    client.put(f"/api/v1/explanations/{said[44]}/vote", json={"value": -1})
    assert walked(client, sae="demo", mode="vote", todo=True) == [9, 20]
    client.put(f"/api/v1/explanations/{said[44]}/vote", json={"value": 0})
    assert walked(client, sae="demo", mode="vote", todo=True) == [9, 20, 44]
    client.delete(f"/api/v1/explanations/{own}")


def test_what_was_judged_is_done_once_it_has_ended(
    client: TestClient, engine: Engine, library: Library, said: dict[int, uuid.UUID]
) -> None:
    def sat(ended: bool, taker: str) -> None:
        with transaction(engine) as session:
            session.add(
                Sitting(
                    sae_id=library.sae,
                    explanation_id=said[9],
                    feature=9,
                    taker=taker,
                    parameters={},
                    questions=[],
                    answers={},
                    context_density=None,
                    score_id=uuid.uuid4() if ended else None,
                )
            )

    sat(False, "local")
    sat(True, str(uuid.uuid4()))
    assert asked(client, list="five", mode="judge")["done"] == 0
    sat(True, "local")
    assert asked(client, list="five", mode="judge")["done"] == 1
    assert walked(client, list="five", mode="judge", todo=True) == [44]


@pytest.mark.usefixtures("said")
def test_an_saes_features_go_by_its_listing(client: TestClient) -> None:
    query = {"sort": "density", "order": "desc", "min_density": 0.03}
    listed = client.get("/api/v1/saes/demo/features", params={**query, "limit": 200}).json()
    wanted = [each["index"] for each in listed["items"]]
    assert walked(client, sae="demo", **query) == wanted
    write(client, wanted[1])
    assert walked(client, sae="demo", todo=True, **query) == [wanted[0], *wanted[2:]]
    page = asked(client, sae="demo", **query)
    assert (page["total"], page["done"]) == (len(wanted), 1)


@pytest.mark.usefixtures("said")
def test_what_is_asked_for_wrongly(client: TestClient) -> None:
    for query, status in (
        ({}, 422),
        ({"sae": "demo", "list": "five"}, 422),
        ({"sae": "none"}, 404),
        ({"list": "none"}, 404),
        ({"sae": "demo", "mode": "guess"}, 422),
    ):
        assert client.get(URL, params=query).status_code == status, query
    cursor = asked(client, list="five", limit=1)["next_cursor"]
    other = client.get(URL, params={"list": "five", "mode": "vote", "cursor": cursor})
    assert other.status_code == 422
