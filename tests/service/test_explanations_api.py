"""Explanations and scores of one feature: given by people, asked of the judge, voted on."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from service.database.session import transaction
from service.database.tables import Explanation, Run, Score, Vote
from tests.support.library_rows import Library, add_explanation, add_library, unit

pytestmark = pytest.mark.integration

API = "/api/v1"


def of(feature: int, what: str = "explanations", sae: str = "demo") -> str:
    return f"{API}/saes/{sae}/features/{feature}/{what}"


def give(client: TestClient, feature: int, text: str, **more: Any) -> dict[str, Any]:
    answer = client.post(of(feature), json={"text": text, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_persons_explanation_is_stored_once_and_found_by_meaning(
    client: TestClient, library: Library, inference: Any
) -> None:
    inference.axes["kings. Names of kings."] = 5
    inference.axes["royal names"] = 5
    first = give(client, 7, "  Names of kings. ", label="kings")
    again = give(client, 7, "Names of kings.", label="kings")
    assert first["id"] == again["id"]
    assert (first["explainer"], first["judge"], first["feature"]) == ("human", "", 7)
    assert first["votes"] == {"up": 0, "down": 0, "mine": 0}
    hits = client.get(f"{API}/search", params={"q": "royal names", "sae": "demo"}).json()
    assert hits["mode"] == "hybrid"
    assert hits["items"][0]["index"] == 7
    assert "vector" in hits["items"][0]["matched"]


def test_without_a_label_it_is_the_beginning_and_without_an_embedder_it_is_stored_too(
    client: TestClient, library: Library, inference: Any
) -> None:
    inference.away = True
    given = give(client, 8, "one two three four five six seven eight nine ten")
    assert given["label"] == "one two three four five six seven eight..."
    near = client.get(f"{API}/explanations/{given['id']}/nearest")
    assert near.status_code == 409
    assert near.json()["type"] == "urn:monosemy:problem:not-embedded"


def test_an_explanation_can_be_asked_for(
    client: TestClient, library: Library, module_engine: Engine
) -> None:
    answer = client.post(of(9), json={"explanation": {"explainer": "contrastive"}})
    assert answer.status_code == 202, answer.text
    run = answer.json()
    assert answer.headers["location"].endswith(run["id"])
    assert (run["kind"], run["state"], run["queue"]) == ("explain", "queued", "interp")
    assert run["spec"]["explanation"]["features"]["indices"] == [9]
    assert run["spec"]["explanation"]["explainer"] == "contrastive"
    assert run["spec"]["sae"] == str(library.sae)


def test_scores_are_asked_for_of_the_newest_or_of_one(client: TestClient, library: Library) -> None:
    nothing = client.post(of(11, "scores"), json={})
    assert nothing.status_code == 409
    given = give(client, 11, "Whatever")
    run = client.post(of(11, "scores"), json={"scoring": {"scorer": "fuzzing"}}).json()
    assert (run["kind"], run["spec"]["features"], run["spec"]["explanation"]) == (
        "score",
        [11],
        None,
    )
    one = client.post(of(11, "scores"), json={"explanation": given["id"]})
    assert one.status_code == 202
    assert one.json()["spec"]["explanation"] == given["id"]
    # By the host model: then it is a GPU worker's.
    host = client.post(of(11, "scores"), json={"scoring": {"scorer": "surprisal"}}).json()
    assert host["queue"] == "gpu"
    other = client.post(of(12, "scores"), json={"explanation": given["id"]})
    assert other.status_code == 404
    gone = client.post(of(11, "scores"), json={"explanation": str(uuid.uuid4())})
    assert gone.status_code == 404


def test_listings_are_walked_newest_first_with_scores(
    client: TestClient, library: Library, module_engine: Engine, walk_pages: Any
) -> None:
    with transaction(module_engine) as session:
        ids = [
            add_explanation(
                session, library, 13, f"label {i}", f"text {i}", 0.6 + i / 100, key=f"{i}"
            )
            for i in range(5)
        ]
    for limit in (1, 2, 200):
        items = walk_pages(client, of(13), limit=limit)
        assert {item["id"] for item in items} == {str(each) for each in ids}
        assert [item["created_at"] for item in items] == sorted(
            (item["created_at"] for item in items), reverse=True
        )
        assert all(len(item["scores"]) == 1 for item in items)
        scores = walk_pages(client, of(13, "scores"), limit=limit)
        assert {score["explanation_id"] for score in scores} == {str(each) for each in ids}
        assert scores[0]["details"] == {"tp": 8}
    assert client.get(of(13, "scores"), params={"scorer": "fuzzing"}).json()["items"] == []
    shown = client.get(f"{API}/explanations/{ids[0]}").json()
    assert shown["scores"][0]["n"] == 20
    assert shown["provenance"] == {"prompt": 1}


def test_a_vote_counts_once_and_can_be_taken_back(
    client: TestClient, library: Library, module_engine: Engine
) -> None:
    given = give(client, 14, "Voted on")
    url = f"{API}/explanations/{given['id']}/vote"
    for value, wanted in ((1, (1, 0)), (1, (1, 0)), (-1, (0, 1)), (0, (0, 0)), (0, (0, 0))):
        votes = client.put(url, json={"value": value}).json()
        assert (votes["up"], votes["down"]) == wanted
    with transaction(module_engine) as session:
        own = uuid.UUID(given["id"])
        session.add(Vote(sae_id=library.sae, explanation_id=own, voter="another", value=1))
    client.put(url, json={"value": -1})
    wanted = {"up": 1, "down": 1, "mine": -1}
    assert client.get(f"{API}/explanations/{given['id']}").json()["votes"] == wanted
    page = client.get(f"{API}/saes/demo/features/14").json()
    assert [each["votes"] for each in page["explanations"]] == [wanted]
    assert client.put(url, json={"value": 2}).status_code == 422


def test_the_nearest_are_those_of_the_largest_cosine(
    client: TestClient, library: Library, module_engine: Engine
) -> None:
    def vector(**axes: float) -> list[float]:
        values = unit(300)
        values[300] = 0.0
        for name, value in axes.items():
            values[int(name[1:])] = value
        return values

    with transaction(module_engine) as session:
        other = add_library(session, "other", 20)
        asked = add_explanation(session, library, 20, "a", "a", embedding=vector(a100=1.0))
        near = add_explanation(session, library, 21, "b", "b", embedding=vector(a100=0.8, a101=0.6))
        far = add_explanation(session, other, 3, "c", "c", embedding=vector(a100=0.6, a101=0.8))
    items = client.get(f"{API}/explanations/{asked}/nearest", params={"limit": 2}).json()["items"]
    assert [item["id"] for item in items] == [str(near), str(far)]
    assert [item["similarity"] for item in items] == pytest.approx([0.8, 0.6], abs=2e-3)
    assert [(item["sae"], item["feature"]) for item in items] == [("demo", 21), ("other", 3)]
    only = client.get(
        f"{API}/explanations/{asked}/nearest", params={"limit": 1, "sae": "other"}
    ).json()["items"]
    assert [item["id"] for item in only] == [str(far)]


def test_deleting_takes_scores_and_votes_along(
    client: TestClient, library: Library, module_engine: Engine
) -> None:
    with transaction(module_engine) as session:
        gone = add_explanation(session, library, 15, "gone", "gone", 0.7)
    client.put(f"{API}/explanations/{gone}/vote", json={"value": 1})
    assert client.delete(f"{API}/explanations/{gone}").status_code == 204
    assert client.delete(f"{API}/explanations/{gone}").status_code == 404
    with transaction(module_engine) as session:
        assert session.get(Explanation, (library.sae, gone)) is None
        for table in (Score, Vote):
            assert not session.scalars(select(table).where(table.explanation_id == gone)).all()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"text": ""}, 422),
        ({"text": "   "}, 422),
        ({"text": "x" * 2001}, 422),
        ({"text": 5}, 422),
        ({"text": "nul \x00 here"}, 422),
        ({"text": "fine", "label": ""}, 422),
        ({"text": "fine", "labl": "typo"}, 422),
        ({"explanation": {"explainer": "magic"}}, 422),
        ([], 422),
    ],
)
def test_what_is_no_explanation_is_refused(
    client: TestClient, library: Library, body: Any, status: int
) -> None:
    answer = client.post(of(16), json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get(of(16)).json()["items"] == []


def test_unknown_saes_and_features_are_not_found(client: TestClient, library: Library) -> None:
    for path in (of(9999), of(1, sae="nobody"), of(9999, "scores")):
        assert client.get(path).status_code == 404
        assert client.post(path, json={"text": "x"} if "expl" in path else {}).status_code == 404
    assert client.get(f"{API}/explanations/{uuid.uuid4()}").status_code == 404
    assert client.get(f"{API}/explanations/nonsense").status_code == 422


def test_a_score_run_names_an_explanation_of_its_sae(
    client: TestClient, library: Library, module_engine: Engine
) -> None:
    with transaction(module_engine) as session:
        other = add_library(session, "third", 5)
        foreign = add_explanation(session, other, 1, "x", "x")
        before = len(session.scalars(select(Run.id)).all())
    spec = {"kind": "score", "sae": "demo", "explanation": str(foreign)}
    answer = client.post(f"{API}/runs", json=spec)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == "explanation"
    with transaction(module_engine) as session:
        assert len(session.scalars(select(Run.id)).all()) == before
