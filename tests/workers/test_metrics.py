"""Metrics: known runs give known values, and the dashboard asks for nothing that is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from service.app import create_app
from service.database.judge_tables import Spend
from service.database.session import transaction
from service.database.tables import Run
from tests.support.loopback import loopback_client
from tests.support.trained_library import Trained
from workers.inference import create_app as create_inference

pytestmark = pytest.mark.integration

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def inference(trained: Trained) -> TestClient:
    return loopback_client(create_inference(trained.settings))


@pytest.fixture
def client(trained: Trained) -> Iterator[TestClient]:
    app = create_app(trained.settings)
    with loopback_client(app) as client:
        yield client


def samples(client: TestClient, path: str = "/metrics") -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(client.get(path).text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def add_runs(trained: Trained) -> None:
    """Evaluations of 20 and 400 s, one that failed after 5, two under way, one queued."""
    with transaction(trained.engine) as session:
        session.execute(text("DELETE FROM runs WHERE kind = 'evaluate'"))
        for state, seconds in (("succeeded", 20), ("succeeded", 400), ("failed", 5)):
            session.add(
                Run(
                    kind="evaluate",
                    queue="gpu",
                    state=state,
                    spec={},
                    started_at=text(f"now() - interval '{seconds} seconds'"),
                    finished_at=text("now()"),
                )
            )
        session.add(Run(kind="evaluate", queue="gpu", spec={}))
        progress = {"stage": "evaluate", "unit": "tokens", "rate": 1500.0, "done": 3}
        for owner, lease, rate in (("a", 60, progress), ("b", -60, {**progress, "rate": 500.0})):
            session.add(
                Run(
                    kind="evaluate",
                    queue="gpu",
                    state="running",
                    spec={},
                    progress=rate,
                    lease_owner=owner,
                    lease_expires_at=text(f"now() + interval '{lease} seconds'"),
                )
            )
        session.flush()
        run = trained.pipeline.id
        session.execute(text("DELETE FROM judge_spend"))
        session.add(
            Spend(
                run_id=run,
                calls=7,
                prompt_tokens=100,
                cached_tokens=40,
                completion_tokens=30,
                cost=1.5,
                reserved=0.25,
            )
        )


def test_runs_leases_and_the_judge(trained: Trained, client: TestClient) -> None:
    add_runs(trained)
    metrics = samples(client)

    def took(state: str, at_most: str) -> float:
        return value(
            metrics, "monosemy_run_seconds_bucket", kind="evaluate", state=state, le=at_most
        )

    assert [took("succeeded", le) for le in ("10.0", "30.0", "300.0", "900.0", "+Inf")] == [
        *(0, 1, 1, 2, 2)
    ]
    assert took("failed", "10.0") == 1
    total = value(metrics, "monosemy_run_seconds_sum", kind="evaluate", state="succeeded")
    assert total == pytest.approx(420, abs=2)
    rate = {"kind": "evaluate", "stage": "evaluate", "unit": "tokens"}
    assert value(metrics, "monosemy_run_rate", **rate) == 2000.0
    assert value(metrics, "monosemy_leases", queue="gpu", state="held") == 1
    assert value(metrics, "monosemy_leases", queue="gpu", state="lost") == 1
    assert value(metrics, "monosemy_judge_calls_total") == 7
    assert value(metrics, "monosemy_judge_tokens_total", kind="cached") == 40
    assert value(metrics, "monosemy_judge_cost_total") == 1.5
    assert value(metrics, "monosemy_judge_reserved") == 0.25


def test_the_inference_server_tells_what_is_warm(trained: Trained, inference: TestClient) -> None:
    before = samples(inference)
    assert value(before, "monosemy_inference_warm_bytes") == 0
    body = {
        "model": trained.spec["model"],
        "text": "The king.",
        "top_k": 1,
        "saes": [{"id": "x", "path": trained.sae.path, "site": trained.sae.site, "features": None}],
    }
    assert inference.post("/activations", json=body).status_code == 200
    after = samples(inference)
    assert value(after, "monosemy_inference_warm", kind="model") == 1
    assert value(after, "monosemy_inference_warm", kind="sae") == 1
    assert value(after, "monosemy_inference_warm_bytes") > 64 * 32 * 4
    asked = {"method": "POST", "route": "/activations", "status": "200"}
    assert value(after, "monosemy_http_requests_total", **asked) == 1


def test_a_request_has_one_id_in_both_logs(
    inference: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = inference.get("/healthz", headers={"X-Request-ID": "of-the-api"})
    assert answer.headers["x-request-id"] == "of-the-api"


def queries() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of every panel and every alert."""
    dashboard = json.loads((DEPLOY / "grafana" / "monosemy.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    alerts = yaml.safe_load((DEPLOY / "monosemy-alerts.yml").read_text())
    for rule in alerts["groups"][0]["rules"]:
        yield rule["alert"], rule["expr"]


def test_every_query_asks_for_what_is_there(
    trained: Trained, client: TestClient, inference: TestClient
) -> None:
    add_runs(trained)
    client.get("/api/v1/saes")
    labels: dict[str, set[str]] = {}
    for (name, pairs), _ in {**samples(client), **samples(inference)}.items():
        labels.setdefault(name, set()).update(label for label, _ in pairs)
    labels["monosemy_gpu_memory_bytes"] = {"gpu", "use"}  # where there is a GPU
    asked = list(queries())
    assert len(asked) > 20
    for where, query in asked:
        names = set(re.findall(r"monosemy_\w+", query))
        assert names, where
        for name in names:
            assert name in labels, (where, name)
            used = set(re.findall(rf"{name}{{([^}}]*)}}", query))
            for selector in used:
                for label in re.findall(r"(\w+)\s*[=!]~?", selector):
                    assert label in labels[name], (where, name, label)
        for grouped in re.findall(r"by \(([^)]*)\)", query):
            for label in grouped.split(","):
                assert any(label.strip() in labels[name] for name in names), (where, label)
