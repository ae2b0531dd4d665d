"""Results of benchmarks and leaderboards over REST: listed, shown, refused, deleted."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, delete, select

from service.benchmarks.repository import keep_result
from service.database.benchmark_tables import StoredBenchmark
from service.database.session import transaction
from service.database.tables import Sae
from tests.support.benchmark_rows import PROTOCOL, RESULT, RUN, SITE, add_benchmarks, result
from tests.support.library_rows import Library, add_library

pytestmark = pytest.mark.integration

RESULTS, BOARDS = "/api/v1/benchmarks", "/api/v1/leaderboards"


@pytest.fixture(scope="module")
def other(module_engine: Engine, library: Library) -> Library:
    del library
    with transaction(module_engine) as session:
        return add_library(session, "weaker")


@pytest.fixture(autouse=True)
def kept(module_engine: Engine, library: Library, other: Library) -> Iterator[None]:
    with transaction(module_engine) as session:
        add_benchmarks(session, library.name, other.name)
    yield
    with transaction(module_engine) as session:
        session.execute(delete(StoredBenchmark))


def test_results_are_listed_in_short_and_shown_whole(client: TestClient) -> None:
    (row,) = client.get(RESULTS, params={"sae": "demo"}).json()["items"]
    assert row["id"] == str(RESULT) and row["run"] == str(RUN) and row["site"] == SITE
    assert [each["subject"] for each in row["figures"]] == ["sae", "frozen", "random"]
    assert row["figures"][0]["value"] == pytest.approx(0.7505)
    assert len(client.get(RESULTS, params={"protocol": PROTOCOL}).json()["items"]) == 2
    assert client.get(RESULTS, params={"benchmark": "another"}).json()["items"] == []
    assert client.get(RESULTS, params={"run": str(uuid.uuid4())}).json()["items"] == []
    pages = client.get(RESULTS, params={"limit": 1}).json()
    rest = client.get(RESULTS, params={"limit": 1, "cursor": pages["next_cursor"]}).json()
    assert {pages["items"][0]["sae"], rest["items"][0]["sae"]} == {"demo", "weaker"}
    whole = client.get(f"{RESULTS}/{RESULT}").json()
    expected = result(sae_digest="0" * 16).model_dump(mode="json")
    assert {name: whole[name] for name in expected} == expected
    assert whole["sae"] == "demo"


def test_a_leaderboard_has_the_saes_of_one_protocol(client: TestClient) -> None:
    (header,) = client.get(BOARDS).json()["items"]
    assert (header["protocol"], header["saes"], header["headline"]) == (PROTOCOL, 2, "auc")
    for name in (PROTOCOL, "latest"):
        board = client.get(f"{BOARDS}/{name}").json()
        assert [each["sae"] for each in board["rows"]] == ["demo", "weaker"]
    assert (board["pairs"], board["apart"], board["against"]) == (1, 1, "demo")
    assert [(each["best_rank"], each["worst_rank"]) for each in board["rows"]] == [(1, 1), (2, 2)]
    assert board["rows"][1]["difference"]["value"] == pytest.approx(-0.1)
    assert board["metrics"] == ["auc", "l0"] and board["families"] == 12
    (recipe,) = board["recipes"]
    assert recipe["saes"] == ["demo", "weaker"] and recipe["mean"] == pytest.approx(0.7005)
    by_l0 = client.get(f"{BOARDS}/{PROTOCOL}", params={"metric": "l0"}).json()
    assert by_l0["units"] == 11 and by_l0["apart"] == 0
    held = client.get(f"{BOARDS}/{PROTOCOL}", params={"against": "weaker"}).json()
    assert held["rows"][0]["difference"]["value"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        (f"{RESULTS}?sae=nothing", 404, "There is no SAE 'nothing'"),
        (f"{RESULTS}/{uuid.UUID(int=9)}", 404, "GET /api/v1/benchmarks lists those there are"),
        (f"{RESULTS}/odd", 404, "There is no result of a benchmark 'odd'"),
        (f"{RESULTS}/{RESULT}/saebench", 400, "has no losses"),
        (f"{RESULTS}?run=odd", 422, "run"),
        (f"{BOARDS}/odd", 404, "GET /api/v1/leaderboards lists those there are"),
        (f"{BOARDS}?model=nothing", 404, "nothing"),
        (f"{BOARDS}/{PROTOCOL}?metric=f1", 422, "there are: auc, l0"),
        (f"{BOARDS}/{PROTOCOL}?against=nobody", 422, "there are: demo, weaker"),
        (f"{RESULTS}/%00", 404, ""),
        (f"{RESULTS}?benchmark=%00", 422, ""),
        (f"{RESULTS}?protocol=%00", 422, ""),
        (f"{BOARDS}/%00", 422, ""),
        (f"{BOARDS}/{PROTOCOL}?metric=%00", 422, ""),
        (f"{BOARDS}/{PROTOCOL}?against=%00", 422, ""),
        (f"{BOARDS}?site=%00", 422, ""),
    ],
)
def test_what_there_is_not_is_said(client: TestClient, path: str, status: int, says: str) -> None:
    answer = client.get(path)
    assert answer.status_code == status and says in answer.text


def test_a_result_is_deleted_alone_and_goes_with_its_sae(
    client: TestClient, module_engine: Engine, other: Library
) -> None:
    assert client.delete(f"{RESULTS}/latest").status_code == 404
    assert client.delete(f"{RESULTS}/{RESULT}").status_code == 204
    assert client.get(f"{RESULTS}/{RESULT}").status_code == 404
    (row,) = client.get(RESULTS).json()["items"]
    assert row["sae"] == "weaker"
    with transaction(module_engine) as session:
        gone = add_library(session, "gone")
        keep_result(session, uuid.uuid4(), RUN, gone.sae, result())
        session.flush()
        session.delete(session.scalars(select(Sae).where(Sae.id == gone.sae)).one())
    assert [each["sae"] for each in client.get(RESULTS).json()["items"]] == ["weaker"]


def test_where_nothing_was_measured_there_is_no_leaderboard(
    client: TestClient, module_engine: Engine
) -> None:
    with transaction(module_engine) as session:
        session.execute(delete(StoredBenchmark))
    assert client.get(BOARDS).json() == {"items": []}
    answer = client.get(f"{BOARDS}/latest")
    assert answer.status_code == 404 and "There is no leaderboard 'latest'" in answer.text
