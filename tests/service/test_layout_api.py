"""The layout of an SAE over REST: its summary, its columns, and when there is none to show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from monosemy.sae_stamp import file_marks, sae_stamp
from service.database.layout_tables import SaeLayout
from service.database.session import transaction
from service.database.tables import Sae
from service.settings import Settings
from tests.support.hostile import safetensors
from tests.support.layout_rows import WEIGHTS, laid_out
from tests.support.library_rows import Library
from tests.support.loopback import typed_client

pytestmark = pytest.mark.integration

LAYOUT, COLUMNS = "/api/v1/saes/demo/layout", "/api/v1/saes/demo/columns"
PLACES = ["layout_x", "layout_y"]


@pytest.fixture
def places(module_engine: Engine, library: Library) -> Iterator[np.ndarray]:
    with laid_out(module_engine, library) as places:
        yield places


def table(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content, "<f4").reshape(-1, int(answer.headers["X-Rows"]))


def test_it_is_shown_with_its_columns(client: TestClient, places: np.ndarray) -> None:
    summary = client.get(LAYOUT).json()
    assert (summary["sae"], summary["method"], summary["features"], summary["left_out"]) == (
        "demo",
        "tsne",
        48,
        12,
    )
    kept = summary["faithfulness"]
    assert kept["layout"]["low"] <= kept["layout"]["value"] <= kept["layout"]["high"]
    assert kept["chance"] == pytest.approx(15 / 47) and kept["n"] == 48
    sent = table(client.get(COLUMNS, params={"column": ["layout_y", "density", "layout_x"]}))
    assert np.array_equal(sent[[2, 0]], places.T, equal_nan=True)
    silent = np.isnan(places[:, 0])
    assert np.array_equal(sent[1] == 0, silent)
    alone = client.get(COLUMNS, params={"column": PLACES})
    assert np.array_equal(table(alone), places.T, equal_nan=True)
    known = {"If-None-Match": alone.headers["ETag"]}
    assert client.get(COLUMNS, params={"column": PLACES}, headers=known).status_code == 304


def test_the_client_gives_it(client: TestClient, places: np.ndarray) -> None:
    with typed_client(client) as monosemy:
        assert monosemy.saes.layout("demo").faithfulness.neighbours == 15
        columns = monosemy.features.columns("demo", ["layout_x"])
    assert np.array_equal(columns["layout_x"], places[:, 0], equal_nan=True)


def test_there_is_none(client: TestClient, library: Library) -> None:
    for answer in (client.get(LAYOUT), client.get(COLUMNS, params={"column": "layout_x"})):
        assert answer.status_code == 409
        problem = answer.json()
        assert problem["type"].endswith("no-layout"), problem
        assert "monosemy layout demo" in problem["detail"]
    assert client.get("/api/v1/saes/nothing/layout").status_code == 404


def test_a_layout_of_other_weights_is_refused(
    client: TestClient, module_engine: Engine, library: Library, places: np.ndarray
) -> None:
    """By the stamp of the SAE's row: it was trained or taken in anew under the same id."""
    with transaction(module_engine) as session:
        sae = session.get_one(Sae, library.sae)
        before = sae.provenance
        sae.provenance = {**before, "weights": {"digest": "f" * 16, "parts": {}}}
    try:
        for answer in (client.get(LAYOUT), client.get(COLUMNS, params={"column": PLACES})):
            assert answer.status_code == 409
            assert answer.json()["type"].endswith("layout-of-other-weights")
        assert client.get(COLUMNS, params={"column": "density"}).status_code == 200
        with transaction(module_engine) as session:
            session.get_one(Sae, library.sae).provenance = {
                **before,
                "weights": {"digest": WEIGHTS, "parts": {}},
            }
        assert client.get(LAYOUT).status_code == 200
    finally:
        with transaction(module_engine) as session:
            session.get_one(Sae, library.sae).provenance = before


def test_files_that_were_written_to_are_read_again(
    client: TestClient,
    module_engine: Engine,
    library: Library,
    places: np.ndarray,
    settings: Settings,
) -> None:
    folder: Path = settings.artifacts / "saes" / "demo"
    folder.mkdir(parents=True)
    (folder / "cfg.json").write_text("{}")
    weights = folder / "sae_weights.safetensors"
    weights.write_bytes(safetensors())
    with transaction(module_engine) as session:
        row = session.scalars(select(SaeLayout)).one()
        row.summary = {**row.summary, "weights": sae_stamp(folder).digest}
        row.files = file_marks(folder)
    assert client.get(LAYOUT).status_code == 200
    copied = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(copied)  # as a restored backup has them
    assert client.get(LAYOUT).status_code == 200
    (folder / "cfg.json").write_text(json.dumps({"d_in": 3}))
    answer = client.get(LAYOUT)
    assert answer.status_code == 409 and "other weights" in answer.json()["detail"]
    (folder / "cfg.json").write_text("{}")
    weights.write_bytes(b"damaged")
    assert client.get(LAYOUT).status_code == 409
