"""Compare runs: planted copies are found, doing it again replaces, the API tells of it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from safetensors.torch import load_file, save_file
from sqlalchemy import func, select

from monosemy.sae_stamp import record_stamp
from monosemy.workspace import Kind, Workspace
from service.app import create_app
from service.database.comparison_tables import Comparison, FeatureLink
from service.database.session import transaction
from service.database.tables import Explanation, Sae
from service.keys.service import list_keys
from tests.support import run_acts as acts
from tests.support.keys import fresh_key
from tests.support.library_rows import EMBEDDING_WIDTH
from tests.support.loopback import loopback_client
from tests.support.trained_library import Trained
from workers.gpu import GpuRuns
from workers.worker import Worker

pytestmark = pytest.mark.integration

ORDER = np.random.default_rng(0).permutation(64)
"""Feature ``i`` of the copy is feature ``ORDER[i]`` of the original."""


def execute(trained: Trained, spec: dict[str, Any], key: uuid.UUID | None = None) -> Any:
    run = acts.submit(trained.engine, spec, created_by=key)
    gpu = GpuRuns(trained.settings, trained.engine)
    assert Worker("gpu", trained.settings, gpu, trained.engine)._take_one()
    return acts.load(trained.engine, run)


@pytest.fixture(scope="module")
def copy(trained: Trained) -> Sae:
    """The trained SAE with its features in another order, noise on its decoder, indexed."""
    workspace = Workspace(trained.settings.artifacts)
    folder = workspace.folder(Kind.SAES, "copy")
    shutil.copytree(workspace.locate(trained.sae.path), folder, dirs_exist_ok=True)
    file = folder / "sae_weights.safetensors"
    weights = load_file(file)
    order = torch.from_numpy(ORDER)
    weights["W_dec"] = weights["W_dec"][order] + 0.01 * torch.randn(
        weights["W_dec"].shape, generator=torch.Generator().manual_seed(0)
    )
    weights["W_enc"] = weights["W_enc"][:, order].contiguous()
    weights["b_enc"] = weights["b_enc"][order]
    save_file({name: each.contiguous() for name, each in weights.items()}, file)
    with transaction(trained.engine) as session:
        original = session.get_one(Sae, trained.sae.id)
        columns = {c.name: getattr(original, c.name) for c in Sae.__table__.columns}
        columns |= {"id": uuid.uuid4(), "name": "copy", "path": workspace.relative(folder)}
        provenance = {**original.provenance, "weights": record_stamp(folder)}
        made = Sae(**{**columns, "index": None, "provenance": provenance})
        session.add(made)
    run = execute(trained, {"kind": "index", "sae": "copy", "indexing": {"window": 8}})
    assert run.state == "succeeded", run.error
    with transaction(trained.engine) as session:
        for sae, permuted in ((trained.sae.id, False), (made.id, True)):
            session.add_all(explained(sae, permuted))
        return session.get_one(Sae, made.id)


def explained(sae: uuid.UUID, permuted: bool) -> Iterator[Explanation]:
    """Of the first twenty features of the original, whatever their place: one direction each."""
    for topic in range(20):
        place = int(np.flatnonzero(topic == ORDER)[0]) if permuted else topic
        vector = np.zeros(EMBEDDING_WIDTH)
        vector[topic], vector[100] = 1.0, 0.3
        yield Explanation(
            sae_id=sae,
            feature=place,
            explainer="default",
            key="k",
            text=f"About {topic}.",
            label=f"topic {topic}",
            judge="j",
            provenance={},
            embedding=vector.tolist(),
        )


@pytest.fixture
def client(trained: Trained) -> Iterator[TestClient]:
    app = create_app(trained.settings)
    with loopback_client(app) as client:
        yield client


def partners(trained: Trained, comparison: uuid.UUID) -> dict[int, int]:
    with transaction(trained.engine) as session:
        query = select(FeatureLink.feature_a, FeatureLink.feature_b).where(
            FeatureLink.comparison_id == comparison, FeatureLink.matched
        )
        return dict(session.execute(query).tuples().all())


@pytest.mark.parametrize("method", ["mutual", "hungarian"])
def test_by_decoder(trained: Trained, copy: Sae, method: str) -> None:
    spec = {"kind": "compare", "sae": "tiny", "other": "copy", "method": method}
    run = execute(trained, spec)
    assert run.state == "succeeded", run.error
    partner_of = partners(trained, run.id)
    assert partner_of == {int(ORDER[b]): b for b in range(64)}
    summary = run.result["summary"]
    assert summary["matched"] == 64 and summary["mean_matched"] > 0.95
    assert summary["null"]["max"] < summary["mean_matched"]
    again = execute(trained, spec)
    with transaction(trained.engine) as session:
        kept = select(Comparison.id).where(Comparison.method == method, Comparison.by == "decoder")
        assert list(session.scalars(kept)) == [again.id]
        left = select(func.count()).where(FeatureLink.comparison_id == run.id)
        assert session.scalar(left) == 0


def test_by_tokens(trained: Trained, copy: Sae) -> None:
    """The copy encodes as the original does, so its features fire on the very same tokens."""
    run = execute(trained, {"kind": "compare", "sae": "tiny", "other": "copy", "by": "tokens"})
    assert run.state == "succeeded", run.error
    with transaction(trained.engine) as session:
        rows = session.scalars(
            select(FeatureLink).where(FeatureLink.comparison_id == run.id, FeatureLink.matched)
        ).all()
    assert len(rows) > 30
    assert all(int(ORDER[row.feature_b]) == row.feature_a for row in rows if row.value > 0.99)
    assert np.mean([row.value > 0.99 for row in rows]) > 0.9
    assert run.result["summary"]["null"]["p95"] < 0.5


def test_by_explanations(trained: Trained, copy: Sae) -> None:
    spec = {"kind": "compare", "sae": "tiny", "other": "copy", "by": "explanations"}
    run = execute(trained, spec)
    assert run.state == "succeeded", run.error
    assert partners(trained, run.id) == {
        topic: int(np.flatnonzero(topic == ORDER)[0]) for topic in range(20)
    }
    summary = run.result["summary"]
    assert (summary["features_a"], summary["features_b"], summary["null"]) == (20, 20, None)
    # Explanations of one SAE are this alike among themselves: what a match must be held against.
    assert summary["within_a"]["mean"] == pytest.approx(0.09 / 1.09, abs=1e-3)


def test_what_cannot_be_compared(trained: Trained, copy: Sae) -> None:
    with transaction(trained.engine) as session:
        original = session.get_one(Sae, trained.sae.id)
        columns = {c.name: getattr(original, c.name) for c in Sae.__table__.columns}
        columns |= {"id": uuid.uuid4(), "name": "bare", "index": None}
        session.add(Sae(**columns))
    by = {"kind": "compare", "sae": "tiny", "other": "bare"}
    tokens = execute(trained, {**by, "by": "tokens"})
    assert tokens.state == "failed" and "not indexed over one text" in str(tokens.error)
    texts = execute(trained, {**by, "by": "explanations"})
    assert texts.state == "failed" and "No explanation of 'bare'" in str(texts.error)


def test_the_api_tells_of_it(trained: Trained, copy: Sae, client: TestClient) -> None:
    run = execute(trained, {"kind": "compare", "sae": "tiny", "other": "copy"})
    listed = client.get("/api/v1/comparisons", params={"sae": "copy"}).json()["items"]
    assert str(run.id) in [each["id"] for each in listed]
    shown = client.get(f"/api/v1/comparisons/{run.id}").json()
    assert (shown["a"]["name"], shown["b"]["name"], shown["by"]) == ("tiny", "copy", "decoder")
    assert shown["summary"]["matched"] == 64

    url = f"/api/v1/comparisons/{run.id}/matches"
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        params = {"limit": 10, "matched": "true", **({"cursor": cursor} if cursor else {})}
        page = client.get(url, params=params).json()
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(items) == 64 == len({item["a"]["index"] for item in items})
    assert all(int(ORDER[item["b"]["index"]]) == item["a"]["index"] for item in items)
    values = [item["value"] for item in items]
    assert values == sorted(values, reverse=True)
    label = client.get("/api/v1/saes/tiny/features/3").json()["label"]
    assert next(item["a"]["label"] for item in items if item["a"]["index"] == 3) == label
    high = client.get(url, params={"min_value": values[4], "matched": "true"}).json()["items"]
    assert len(high) == 5
    assert client.get(url, params={"cursor": "W10"}).status_code == 422

    place = int(np.flatnonzero(ORDER == 3)[0])
    for sae, index, other, twin in (("tiny", 3, "copy", place), ("copy", place, "tiny", 3)):
        links = client.get(f"/api/v1/saes/{sae}/features/{index}/links").json()["items"]
        across = [link for link in links if link["comparison"] == str(run.id) and link["matched"]]
        assert [(link["sae"]["name"], link["index"]) for link in across] == [(other, twin)]
        kinds = {link["kind"] for link in links if link["sae"]["name"] == sae}
        assert kinds <= {"decoder", "coactivation"} and "decoder" in kinds
    only = client.get("/api/v1/saes/tiny/features/3/links", params={"kind": "coactivation"})
    assert {link["kind"] for link in only.json()["items"]} <= {"coactivation"}
    assert client.get("/api/v1/saes/tiny/features/64/links").status_code == 404

    assert client.delete(f"/api/v1/comparisons/{run.id}").status_code == 204
    assert client.get(f"/api/v1/comparisons/{run.id}").status_code == 404


def test_names_are_checked_when_it_is_submitted(copy: Sae, client: TestClient) -> None:
    for spec, path in (
        ({"sae": "tiny", "other": "nothing"}, "other"),
        ({"sae": "tiny", "other": "tiny"}, ""),
        ({"sae": "copy", "other": str(copy.id)}, "other"),
        ({"sae": "tiny", "other": "pending"}, "other"),
    ):
        answer = client.post("/api/v1/runs", json={"kind": "compare", **spec})
        assert answer.status_code == 422, answer.text
        assert [error["path"] for error in answer.json()["errors"]] == [path]


def test_another_keys_comparison_stays(trained: Trained, copy: Sae) -> None:
    secret = "a-secret-of-thirty-two-characters"
    with transaction(trained.engine) as session:
        for name in ("first", "second"):
            fresh_key(session, name, ["run"], secret)
        keys = [key.id for key in list_keys(session) if key.name in ("first", "second")]
    spec = {"kind": "compare", "sae": "copy", "other": "tiny"}
    of_first, of_second, again = (execute(trained, spec, keys[n]).id for n in (0, 1, 0))
    with transaction(trained.engine) as session:
        kept = select(Comparison.id, Comparison.created_by).where(Comparison.sae_a == copy.id)
        assert dict(session.execute(kept).tuples().all()) == {again: keys[0], of_second: keys[1]}
        assert session.get(Comparison, of_first) is None
