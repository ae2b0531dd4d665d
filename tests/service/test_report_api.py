"""The report over an SAE's scores, out of the database."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.database.session import transaction
from service.database.tables import Sae
from tests.support.library_rows import Library, add_explanation, add_library, unit

pytestmark = pytest.mark.integration

URL = "/api/v1/saes/{}/report"


@pytest.fixture(scope="module")
def scored(module_engine: Engine, library: Library) -> Library:
    """Ten scored features, two of which bear the same label; one has an older explanation."""
    with transaction(module_engine) as session:
        for feature in range(10):
            text = "Names of <b>kings</b>." if feature in (3, 4) else f"Subject {feature}."
            add_explanation(
                session,
                library,
                feature,
                f"label {feature}",
                text,
                0.5 + feature / 20,
                unit(3 if feature in (3, 4) else 10 + feature),
            )
        add_library(session, "unscored", 3)
    return library


def test_it_sums_up_what_is_scored(client: TestClient, scored: Library) -> None:
    answer = client.get(URL.format("demo"))
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert (report["name"], report["features"], report["scored_features"]) == ("demo", 10, 10)
    section = report["scorers"]["detection"]
    assert section["series"]["own"]["mean"]["value"] == pytest.approx(0.5 + 4.5 / 20)
    assert [each["feature"] for each in section["best"][:2]] == [9, 8]
    [cluster] = report["duplicates"]["clusters"]
    assert cluster["features"] == [3, 4]


def test_the_page_is_safe_and_whole(client: TestClient, scored: Library) -> None:
    page = client.get(URL.format("demo") + "/page")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<b>kings</b>" not in page.text
    assert "&lt;b&gt;kings" in page.text
    assert "<script" not in page.text


def test_it_is_held_against_another_sae(client: TestClient, scored: Library) -> None:
    same = client.get(URL.format("demo"), params={"reference": "demo"}).json()
    assert same["reference"] == "demo"


def test_without_scores_there_is_nothing_to_report(client: TestClient, scored: Library) -> None:
    answer = client.get(URL.format("unscored"))
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:monosemy:problem:nothing-scored"
    assert client.get(URL.format("nobody")).status_code == 404
    assert client.get(URL.format("demo"), params={"reference": "nobody"}).status_code == 404
    empty = client.get(URL.format("demo"), params={"reference": "unscored"})
    assert empty.status_code == 409 and "'unscored' has no scores yet" in empty.json()["detail"]


def test_the_summary_says_what_the_report_says(client: TestClient, scored: Library) -> None:
    report = client.get("/api/v1/saes/demo/report").json()
    summary = client.get("/api/v1/saes/demo/report/summary").json()
    assert summary["scored_features"] == report["scored_features"] and summary["items"]
    for item in summary["items"]:
        intervals = report["scorers"][item["scorer"]]["intervals"]
        assert item["features"] == intervals["n"]
        assert item["discoveries"] == intervals["discoveries"]["count"]
        assert item["above"]["value"] == intervals["above"]["value"]
    assert client.get("/api/v1/saes/none/report/summary").status_code == 404


def test_the_summary_follows_the_scores(client: TestClient, module_engine: Engine) -> None:
    """It is kept, but not longer than they stay as they are."""
    with transaction(module_engine) as session:
        library = add_library(session, "growing", 4)
        add_explanation(session, library, 1, "one", "One.", 0.9)
    url = "/api/v1/saes/growing/report/summary"
    assert client.get(url).json()["scored_features"] == 1
    with transaction(module_engine) as session:
        add_explanation(session, library, 2, "two", "Two.", 0.9)
    assert client.get(url).json()["scored_features"] == 2
    assert client.get(url).json() == client.get(url).json()


@pytest.fixture(scope="module")
def neurons(module_engine: Engine, scored: Library) -> str:
    """A basis with scores a little lower, beside the SAE."""
    with transaction(module_engine) as session:
        basis = add_library(session, "neurons", 10)
        row = session.get_one(Sae, basis.sae)
        row.architecture, row.config = "neurons", {**row.config, "basis": {"basis": "neurons"}}
        for feature in range(5):
            text = f"Neuron {feature}."
            add_explanation(session, basis, feature, "x", text, 0.4 + feature / 20, unit(feature))
    return "neurons"


def test_it_is_held_against_bases(client: TestClient, neurons: str) -> None:
    url = URL.format("demo") + "/beside"
    answer = client.get(url, params={"other": neurons})
    assert answer.status_code == 200, answer.text
    report = answer.json()
    sae, basis = report["sides"]
    assert (sae["name"], sae["basis"], sae["scored"]) == ("demo", None, 10)
    assert (basis["name"], basis["basis"], basis["scored"]) == ("neurons", "neurons", 5)
    assert 0 < basis["silent"] <= basis["few"] <= 1
    section = report["scorers"]["detection"]
    (difference,) = section["differences"]
    assert difference["value"] == pytest.approx(0.725 - 0.5) and difference["says"]
    by_density = [each["medians"] for each in section["densities"]]
    for name, fires in (("demo", 8), ("neurons", 4)):  # one in five is silent
        assert sum(each[name]["n"] for each in by_density if each[name]) == fires
    page = client.get(url + "/page", params={"other": neurons})
    assert page.status_code == 200 and "Neuron" not in page.text and "<svg" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    listed = client.get("/api/v1/saes/neurons").json()
    assert listed["basis"] == "neurons" and client.get("/api/v1/saes/demo").json()["basis"] is None


def test_what_cannot_be_held_against_it(client: TestClient, neurons: str) -> None:
    url = URL.format("demo") + "/beside"
    for others, status, words in (
        ([], 422, "other"),
        (["demo"], 422, "once"),
        (["neurons", "neurons"], 422, "once"),
        (["nobody"], 404, "nobody"),
        (["unscored"], 409, "No scorer has scored"),
        (["a", "b", "c", "d"], 422, "other"),
    ):
        answer = client.get(url, params={"other": others})
        assert answer.status_code == status and words in answer.text, (others, answer.text)
