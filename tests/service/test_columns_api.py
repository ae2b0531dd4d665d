"""Numbers of all features at once: the same as one by one, NaN for what is not known."""

from __future__ import annotations

from urllib.parse import unquote

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, delete

from monosemy.client import Client
from monosemy.client.errors import NotMonosemy
from monosemy.index.evidence_label import LABEL_KINDS
from service.database.list_tables import FeatureTag
from service.database.session import transaction
from service.database.tables import Feature, Sae
from tests.support.gathered_rows import add_tag
from tests.support.library_rows import Library, add_explanation, add_library
from tests.support.loopback import typed_client

pytestmark = pytest.mark.integration

ADDRESS = "/api/v1/saes/demo/columns"
EVERY = ["density", "maximum", "mean", "score", "top_token_share", "distinct_tokens"]
EVERY += ["logit_kurtosis", "explained"]


@pytest.fixture(scope="module", autouse=True)
def scored(module_engine: Engine, library: Library) -> None:
    """Feature 3 has two scored explanations, 4 one without a score; 5 knows its logits; 59 is not
    indexed."""
    with transaction(module_engine) as session:
        add_explanation(session, library, 3, "kings", "About kings.", 0.75, key="a")
        add_explanation(session, library, 3, "queens", "About queens.", 0.5, key="b")
        add_explanation(session, library, 4, "crowns", "About crowns.")
        row = session.get_one(Feature, (library.sae, 5))
        known = {"logit_std": 0.5, "logit_kurtosis": 12.5, "distinct_tokens": 7}
        row.evidence = {**row.evidence, **known}
        session.delete(session.get_one(Feature, (library.sae, 59)))


def table(answer: httpx.Response) -> dict[str, np.ndarray]:
    names = answer.headers["X-Columns"].split(",")
    rows = int(answer.headers["X-Rows"])
    values = np.frombuffer(answer.content, "<f4").reshape(len(names), rows)
    return dict(zip(names, values, strict=True))


def test_columns_are_what_features_say_one_by_one(client: TestClient) -> None:
    found = table(client.get(ADDRESS, params={"column": EVERY}))
    assert list(found) == EVERY
    items = client.get("/api/v1/saes/demo/features?limit=200").json()["items"]
    assert len(items) == 59
    for item in items:
        index = item["index"]
        assert found["density"][index] == pytest.approx(item["density"])
        assert found["maximum"][index] == pytest.approx(item["max_activation"])
        evidence = client.get(f"/api/v1/saes/demo/features/{index}").json()["evidence"]
        assert found["mean"][index] == pytest.approx(evidence["mean_activation"])
        assert found["top_token_share"][index] == pytest.approx(evidence["top_tokens"][0]["share"])


def test_what_is_not_known_is_nan(client: TestClient) -> None:
    found = table(client.get(ADDRESS, params={"column": EVERY}))
    known = {name: np.flatnonzero(~np.isnan(values)).tolist() for name, values in found.items()}
    assert known["density"] == list(range(59)) == known["explained"]
    assert known["score"] == [3] and found["score"][3] == 0.75  # the better one
    assert known["logit_kurtosis"] == [5] and found["logit_kurtosis"][5] == 12.5
    assert known["distinct_tokens"] == [5]
    assert np.flatnonzero(found["explained"] == 1).tolist() == [3, 4]
    other = table(client.get(ADDRESS, params={"column": "score", "scorer": "fuzzing"}))
    assert np.isnan(other["score"]).all()


@pytest.mark.parametrize(
    "filters",
    [{"min_density": 0.01, "max_density": 0.02}, {"q": "crowns"}, {"has_explanation": True}, {}],
)
def test_matches_are_those_of_the_listing(
    client: TestClient, filters: dict[str, str | float]
) -> None:
    found = table(client.get(ADDRESS, params={"column": "matches", **filters}))["matches"]
    listed = client.get("/api/v1/saes/demo/features", params={"limit": 200, **filters}).json()
    expected = [item["index"] for item in listed["items"]]
    assert np.flatnonzero(found == 1).tolist() == expected and expected


def test_an_etag_says_that_nothing_has_changed(client: TestClient) -> None:
    first = client.get(ADDRESS)
    assert list(table(first)) == ["density", "maximum"]
    again = client.get(ADDRESS, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get(ADDRESS + "?column=maximum")
    assert other.headers["ETag"] != first.headers["ETag"]


def test_what_is_refused(client: TestClient, module_engine: Engine) -> None:
    assert client.get(ADDRESS + "?column=examples").status_code == 422
    assert client.get(ADDRESS + "?min_density=0.5&max_density=0.1").status_code == 422
    assert client.get("/api/v1/saes/none/columns").status_code == 404
    with transaction(module_engine) as session:
        row = session.get_one(Sae, add_library(session, "raw", features=1).sae)
        row.index = None
    answer = client.get("/api/v1/saes/raw/columns")
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:monosemy:problem:not-indexed"


def test_kinds_are_those_of_rows(
    client: TestClient, module_engine: Engine, library: Library
) -> None:
    found = table(client.get(ADDRESS, params={"column": ["heading", "evidence_kind"]}))
    assert [found["heading"][i] for i in (3, 4, 6)] == [2, 1, 0]
    items = client.get("/api/v1/saes/demo/features?limit=200").json()["items"]
    for item in items:
        kind = next(
            place
            for place, (_, begins) in enumerate(LABEL_KINDS)
            if item["label"].startswith(begins)
        )
        assert found["evidence_kind"][item["index"]] == kind
        told_apart = item["heading"]["source"] == "explanation"
        assert (found["heading"][item["index"]] == 2) == told_apart
    assert {LABEL_KINDS[int(k)][0] for k in found["evidence_kind"] if not np.isnan(k)} == {
        "never fires",
        "one or few tokens",
    }


def test_tags_are_numbered_by_how_common_they_are(
    client: TestClient, module_engine: Engine, library: Library
) -> None:
    assert client.get(ADDRESS, params={"column": "tag"}).headers["X-Tags"] == ""
    with transaction(module_engine) as session:
        for count, tag in enumerate("abcdefgh", start=2):
            for feature in range(count):
                add_tag(session, library, tag, feature)
        add_tag(session, library, "süß, %", *range(20, 40))
        add_tag(session, library, "rare", 1, 50)
    try:
        answer = client.get(ADDRESS, params={"column": "tag"})
        names = [unquote(each) for each in answer.headers["X-Tags"].split(",")]
        assert names == ["süß, %", *"hgfedcb"], "the eight commonest"
        tags = table(answer)["tag"]
        assert tags[25] == 0 and tags[0] == 1 and tags[8] == 1
        assert tags[50] == len(names), "another"
        assert np.isnan(tags[55])
    finally:
        with transaction(module_engine) as session:
            session.execute(delete(FeatureTag))


def test_the_client_gives_arrays(client: TestClient) -> None:
    with typed_client(client) as api:
        found = api.features.columns("demo", ["score", "matches"], q="crowns")
    assert found["score"].dtype == np.float32 and len(found["score"]) == 60
    assert np.flatnonzero(found["matches"] == 1).tolist() == [4]

    def cut(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"123", headers={"X-Columns": "score"})

    with (
        Client(transport=httpx.MockTransport(cut)) as api,
        pytest.raises(NotMonosemy),
    ):
        api.features.columns("demo", ["score"])
