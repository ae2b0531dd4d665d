"""Exports read back by pyarrow are what is stored, and memory does not grow with them."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from service.database.session import transaction
from service.database.tables import Sae, Score
from service.exports.activations import activation_batches, open_index
from service.exports.features import feature_batches, feature_schema
from service.exports.stream import encoded
from service.settings import Settings
from tests.support.library_rows import Library, add_explanation, add_library
from tests.support.planted_index import Planted, random_text

pytestmark = pytest.mark.integration

FEATURES = "/api/v1/saes/demo/features"
ACTIVATIONS = "/api/v1/saes/planted/activations"
FORMS = ["parquet", "arrow"]


def table_of(content: bytes, form: str) -> pa.Table:
    if form == "parquet":
        return pq.read_table(io.BytesIO(content))
    return pa.ipc.open_stream(content).read_all()


def fetched(client: TestClient, url: str, form: str, **parameters: Any) -> pa.Table:
    answer = client.get(f"{url}.{form}", params=parameters)
    assert answer.status_code == 200, answer.text
    ending = "parquet" if form == "parquet" else "arrow.stream"
    assert answer.headers["content-type"] == f"application/vnd.apache.{ending}"
    assert f".{form}" in answer.headers["content-disposition"]
    return table_of(answer.content, form)


@pytest.fixture(scope="module")
def explained(library: Library, module_engine: Engine) -> Library:
    with transaction(module_engine) as session:
        add_explanation(session, library, 3, "kings", "about kings", 0.9)
        add_explanation(session, library, 3, "queens", "about queens\x0b\u2028", 0.7, key="k2")
        add_explanation(session, library, 4, "unscored", "not scored")
        best = add_explanation(session, library, 5, "two", "scored twice", 0.6)
        session.add(
            Score(
                sae_id=library.sae,
                explanation_id=best,
                scorer="fuzzing",
                key="f",
                metric="accuracy",
                value=None,
                low=None,
                high=None,
                n=0,
                n_failed=4,
                baseline=None,
                details={},
                judge="judge",
            )
        )
    return library


@pytest.mark.parametrize("form", FORMS)
def test_features_are_those_of_the_listing(
    client: TestClient, explained: Library, walk_pages: Any, form: str
) -> None:
    table = fetched(client, FEATURES, form)
    rows = table.to_pylist()
    listed = walk_pages(client, FEATURES, limit=50)
    assert len(rows) == len(listed) == explained.features
    for row, item in zip(rows, listed, strict=True):
        for name in ("index", "label", "density", "max_activation", "postings"):
            assert row[name] == item[name]
        assert row["mean_activation"] == 0.5
        explanation = item["explanation"] or dict.fromkeys(("id", "label", "text", "explainer"))
        assert row["explanation_id"] == explanation["id"]
        assert row["explanation_label"] == explanation["label"]
        assert row["explanation"] == explanation["text"]
        assert row["explainer"] == explanation["explainer"]
    assert rows[3]["explanation"] == "about kings"
    assert rows[4]["scores"] == rows[6]["scores"] == []
    detection, fuzzing = rows[5]["scores"]
    assert (detection["scorer"], detection["value"], detection["n"]) == ("detection", 0.6, 20)
    assert (detection["low"], detection["high"]) == (0.5, 0.7)
    assert fuzzing["scorer"] == "fuzzing"
    assert fuzzing["value"] is None
    assert fuzzing["n_failed"] == 4
    assert table.schema.equals(feature_schema())


@pytest.mark.parametrize("form", FORMS)
def test_an_sae_without_features_is_an_empty_table(
    client: TestClient, library: Library, module_engine: Engine, form: str
) -> None:
    with transaction(module_engine) as session:
        if session.query(Sae).filter_by(name="empty").first() is None:
            add_library(session, "empty", features=0)
    table = fetched(client, "/api/v1/saes/empty/features", form)
    assert table.num_rows == 0
    assert table.schema.equals(feature_schema())


def many(engine: Engine, name: str, count: int) -> Any:
    """An SAE with ``count`` features, copies of one of the library's, all explained and scored."""
    with transaction(engine) as session:
        made = add_library(session, name, features=1)
        one, given = {"sae": made.sae, "count": count}, "generate_series(1, :count - 1) AS i"
        session.execute(
            text(
                "INSERT INTO features (sae_id, index, density, max_activation, postings, label,"
                " evidence, examples) SELECT sae_id, i, density, max_activation, i, label,"
                f" evidence, examples FROM features, {given} WHERE sae_id = :sae AND index = 0"
            ),
            one,
        )
        explanation = add_explanation(session, made, 0, "a label", "a text " * 20, 0.5)
        session.execute(
            text(
                "INSERT INTO explanations (id, sae_id, feature, explainer, key, text, label, judge,"
                " provenance) SELECT gen_random_uuid(), sae_id, i, explainer, key, text, label,"
                " judge, provenance"
                f" FROM explanations, {given} WHERE id = :explanation"
            ),
            {**one, "explanation": explanation},
        )
        session.execute(
            text(
                "INSERT INTO scores (id, sae_id, explanation_id, scorer, key, metric, value, n,"
                " n_failed, details, judge) SELECT gen_random_uuid(), e.sae_id, e.id, s.scorer,"
                " s.key, s.metric, e.feature / 1e6, s.n, s.n_failed, s.details, s.judge"
                " FROM explanations e, scores s"
                " WHERE e.sae_id = :sae AND e.feature > 0 AND s.explanation_id = :explanation"
            ),
            {**one, "explanation": explanation},
        )
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))
    return made


@pytest.fixture(scope="module")
def few_and_many(module_engine: Engine, library: Library) -> tuple[Any, Any]:
    return many(module_engine, "few", 3000), many(module_engine, "many", 20_000)


@pytest.mark.parametrize("form", FORMS)
def test_memory_does_not_grow_with_the_features(
    module_engine: Engine, few_and_many: tuple[Any, Any], form: Any
) -> None:
    """20,000 features come in the memory of one batch; the file itself is several times that."""
    few, lots = few_and_many

    def peak(sae: Any) -> tuple[int, bytes]:
        start = pa.total_allocated_bytes()
        most, parts = 0, []
        gc.freeze()  # what is there already need not be looked through
        tracemalloc.start()
        held = 0
        for piece in encoded(feature_schema(), feature_batches(module_engine, sae.sae), form):
            parts.append(piece)
            held += len(piece)
            most = max(most, pa.total_allocated_bytes() - start)
            gc.collect()  # sessions leave cycles, which wait for it
        growth = most + tracemalloc.get_traced_memory()[1] - held
        tracemalloc.stop()
        gc.unfreeze()
        return growth, b"".join(parts)

    peak(few)  # what is imported and cached once
    small, _ = peak(few)
    large, content = peak(lots)
    table = table_of(content, form)
    assert table.column("index").to_pylist() == list(range(20_000))
    values = [scores[0]["value"] for scores in table.column("scores").to_pylist()]
    assert values[1:] == [index / 1e6 for index in range(1, 20_000)]
    assert large < 1.2 * small + 2**20, (small, large)
    assert large < table.nbytes


@pytest.fixture(scope="module")
def planted() -> Planted:
    return random_text()


@pytest.fixture
def indexed(
    planted: Planted, module_engine: Engine, library: Library, settings: Settings
) -> Planted:
    """An SAE named ``planted`` whose index and text lie where the service looks for them."""
    planted.write(settings.artifacts)
    with transaction(module_engine) as session:
        if session.query(Sae).filter_by(name="planted").first() is None:
            made = add_library(session, "planted", features=1)
            index = {"path": "indexes/planted", "text_id": "planted", "tokens": 1}
            session.get_one(Sae, made.sae).index = index
    return planted


def check(table: pa.Table, planted: Planted, features: list[int]) -> None:
    """Every positive of the planted codes is there, at its place, and nothing else."""
    dense = planted.dense
    wanted = [(f, p) for f in features for p in np.flatnonzero(dense[:, f] > 0)]
    got = table.to_pydict()
    assert list(zip(got["feature"], got["position"], strict=True)) == wanted
    store = planted.store
    row_of = np.repeat(np.arange(store.n_rows), np.diff(store.row_start))
    position = np.array(got["position"], int)
    assert got["row"] == row_of[position].tolist()
    assert got["document"] == store.row_document[row_of[position]].tolist()
    assert got["offset"] == (position - store.row_start[row_of[position]]).tolist()
    assert got["token_id"] == store.tokens[position].tolist()
    exact = np.array([dense[p, f] for f, p in wanted])
    assert np.allclose(got["activation"], exact, rtol=2**-10)


@pytest.mark.parametrize("form", FORMS)
def test_activations_are_the_planted_codes(client: TestClient, indexed: Planted, form: str) -> None:
    check(fetched(client, ACTIVATIONS, form), indexed, list(range(40)))
    some = fetched(client, ACTIVATIONS, form, features=[7, 1, 7, 0])
    check(some, indexed, [0, 1, 7])
    nothing = fetched(client, ACTIVATIONS, form, features=[0])
    assert nothing.num_rows == 0
    assert nothing.schema.names[:2] == ["feature", "position"]


@pytest.mark.parametrize("size", [1, 7, 100, 10**6])
def test_batches_are_bounded_whatever_a_feature_has(
    indexed: Planted, module_engine: Engine, settings: Settings, size: int
) -> None:
    from monosemy.workspace import Workspace

    with transaction(module_engine) as session:
        sae = session.query(Sae).filter_by(name="planted").one()
        index = open_index(Workspace(settings.artifacts), sae)
    batches = list(activation_batches(index, [0, 1, 2, 3], size))
    assert all(batch.num_rows == size for batch in batches[:-1])
    assert 0 < batches[-1].num_rows <= size
    check(pa.Table.from_batches(batches), indexed, [0, 1, 2, 3])


def test_the_api_starts_without_pyarrow() -> None:
    """Only an export imports it."""
    code = "import sys, service.app; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


BAD = [
    (f"{FEATURES}.csv", 422, "form"),
    (f"{FEATURES}.parquet?scorer={'x' * 101}", 422, "scorer"),
    (f"{FEATURES}.parquet?limit=5", 422, "unknown parameter"),
    ("/api/v1/saes/nothing/features.parquet", 404, "no SAE"),
    ("/api/v1/saes/nothing/activations.arrow", 404, "no SAE"),
    (f"{ACTIVATIONS}.parquet?features=40", 422, "no feature 40"),
    (f"{ACTIVATIONS}.parquet?features=-1", 422, "features"),
    (f"{ACTIVATIONS}.parquet?features={2**31}", 422, "features"),
    (f"{ACTIVATIONS}.parquet?features=x", 422, "features"),
    (f"{ACTIVATIONS}.parquet?" + "&".join(["features=1"] * 1001), 422, "features"),
    (f"{ACTIVATIONS}.json", 422, "form"),
    ("/api/v1/saes/demo/activations.parquet", 404, "share their artifact folder"),
]


@pytest.mark.parametrize(("url", "status", "message"), BAD)
def test_what_cannot_be_exported(
    client: TestClient, indexed: Planted, url: str, status: int, message: str
) -> None:
    answer = client.get(url)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert message in answer.json()["detail"]


def test_an_sae_without_index(client: TestClient, library: Library, module_engine: Engine) -> None:
    with transaction(module_engine) as session:
        made = add_library(session, "bare", features=0)
        session.get_one(Sae, made.sae).index = None
    answer = client.get("/api/v1/saes/bare/activations.parquet")
    assert answer.status_code == 409
    assert "Index 'bare' first" in answer.json()["detail"]


def test_damaged_files_are_no_fault_of_the_server(
    client: TestClient, indexed: Planted, settings: Settings
) -> None:
    (settings.artifacts / "text" / "planted" / "tokens.u32").write_bytes(b"")
    assert client.get(f"{ACTIVATIONS}.parquet").status_code == 404
    (settings.artifacts / "indexes" / "planted" / "meta.json").write_text("{")
    assert client.get(f"{ACTIVATIONS}.arrow").status_code == 404
