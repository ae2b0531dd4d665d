"""How the features of an SAE are distributed, and how far the work on them has come."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.database.session import transaction
from service.database.tables import Feature, Sae
from service.saes.distribution import log_edges
from tests.support.library_rows import Library, add_explanation, add_library
from tests.support.loopback import typed_client

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("low", "high", "per"), [(0.01, 0.04, 4), (1e-7, 1.0, 4), (3.0, 3.0, 8), (0.7499, 0.7499, 4)]
)
def test_the_bins_hold_everything_and_are_equally_wide(low: float, high: float, per: int) -> None:
    edges = log_edges(low, high, per)
    assert edges[0] <= low and high < edges[-1]
    widths = [math.log10(b / a) for a, b in pairwise(edges)]
    assert widths == pytest.approx([1 / per] * len(widths), abs=1e-3)


def test_nothing_that_fires_has_no_bins() -> None:
    assert log_edges(None, 0.0, 4) == [] == log_edges(None, None, 4)


def test_counts_are_those_of_the_filters(client: TestClient, library: Library) -> None:
    """Densities are 0 to 0.04 and maxima 0 to 6, by turns."""
    answer = client.get("/api/v1/saes/demo/distribution").json()
    assert (answer["features"], answer["silent"], answer["tokens"]) == (60, 12, 40 * 32)
    density, maximum = answer["density"], answer["maximum"]
    assert sum(density["counts"]) == 48
    assert sum(maximum["counts"]) == 60 - len([i for i in range(60) if i % 7 == 0])
    for low, high, count in zip(
        density["edges"], density["edges"][1:], density["counts"], strict=False
    ):
        asked = {"min_density": low, "max_density": high, "limit": 200}
        items = client.get("/api/v1/saes/demo/features", params=asked).json()["items"]
        assert len(items) == count


def test_an_sae_without_index_or_features(client: TestClient, module_engine: Engine) -> None:
    with transaction(module_engine) as session:
        empty = add_library(session, "empty", features=2)
        session.query(Feature).filter(Feature.sae_id == empty.sae).delete()
        row = session.get(Sae, add_library(session, "raw", features=1).sae)
        assert row is not None
        row.index = None
    answer = client.get("/api/v1/saes/empty/distribution").json()
    assert (answer["features"], answer["silent"]) == (0, 0)
    assert answer["density"] == answer["maximum"] == {"edges": [], "counts": []}
    refused = client.get("/api/v1/saes/raw/distribution")
    assert refused.status_code == 409
    assert refused.json()["type"] == "urn:monosemy:problem:not-indexed"
    assert client.get("/api/v1/saes/none/distribution").status_code == 404


def test_listings_count_what_is_explained_and_scored(
    client: TestClient, module_engine: Engine
) -> None:
    with transaction(module_engine) as session:
        some = add_library(session, "counted", features=9)
        add_explanation(session, some, 1, "one", "One.", 0.9)
        add_explanation(session, some, 1, "one again", "One.", 0.8, key="l")
        add_explanation(session, some, 2, "two", "Two.")
    wanted = {"indexed": 9, "explained": 2, "scored": 1, "scorers": {"detection": 1}}
    listed: dict[str, Any] = {
        each["name"]: each["features"]
        for each in client.get("/api/v1/saes", params={"counts": "true"}).json()["items"]
    }
    assert listed["counted"] == wanted
    assert client.get("/api/v1/saes/counted").json()["features"] == wanted
    with transaction(module_engine) as session:
        row = session.get_one(Sae, some.sae)
        row.index = {**(row.index or {}), "features": 9}
        row.path = "elsewhere"
    assert client.get("/api/v1/saes/counted").json()["features"] == wanted, "as the index notes it"
    assert all(each["features"] is None for each in client.get("/api/v1/saes").json()["items"])


def test_listings_have_tags(client: TestClient, library: Library) -> None:
    for tag in ("b", "a"):
        path = "/api/v1/saes/demo/features/3/tags"
        assert client.post(path, json={"tags": [tag]}).status_code == 200
    items = client.get("/api/v1/saes/demo/features", params={"limit": 5}).json()["items"]
    assert [each["tags"] for each in items] == [[], [], [], ["a", "b"], []]


def test_the_client_has_them_too(client: TestClient, library: Library) -> None:
    api = typed_client(client)
    assert api.saes.distribution("demo").silent == 12
    assert api.saes.report_summary("demo").items == []
    counted = {each.name: each.features for each in api.saes.list(counts=True)}["demo"]
    assert counted is not None and counted.indexed == 60
    assert api.search("king", examples=True).items
