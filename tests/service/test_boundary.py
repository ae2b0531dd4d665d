"""What surrounds every request: open mode, ids, headers, log, metrics, health, failures."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from monosemy.errors import MonosemyError
from service.app import create_app
from service.database.session import transaction
from service.database.tables import Run
from service.edge.middleware import route_template
from service.edge.origin import is_loopback
from service.observability import logs
from service.observability.logs import JsonFormatter, configure_logging
from service.settings import Settings
from service.stack.valkey import EmbeddedValkey
from tests.support.loopback import loopback_client

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "api.example", ""])
def test_open_mode_refuses_to_listen_to_others(tmp_path: Path, host: str) -> None:
    with pytest.raises(MonosemyError, match="MONOSEMY_REQUIRE_KEYS"):
        create_app(Settings(home=tmp_path, host=host))


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("::ffff:10.0.0.1", False),
        ("0.0.0.0", False),
        ("2130706433", False),
        ("", False),
    ],
)
def test_what_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    ("caller", "headers"),
    [
        ("10.0.0.9", {}),
        ("127.0.0.1", {"Host": "evil.example"}),
        ("127.0.0.1", {"Host": "evil.example:8420"}),
        ("127.0.0.1", {"Host": ""}),
        ("127.0.0.1", {"Host": "["}),
        ("127.0.0.1", {"Origin": "https://evil.example"}),
        ("127.0.0.1", {"Origin": "null"}),
    ],
)
def test_open_mode_serves_this_machine_only(settings: Settings, caller, headers) -> None:
    app = create_app(settings)
    with TestClient(app, base_url="http://127.0.0.1", client=(caller, 5)) as client:
        answer = client.get("/api/v1/runs", headers=headers)
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:monosemy:problem:loopback-only"


@pytest.mark.parametrize("host", ["localhost:8420", "127.0.0.1", "[::1]:8420"])
def test_open_mode_serves_every_name_of_this_machine(client: TestClient, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert client.get("/api/v1/runs", headers=headers).status_code == 200


def test_every_answer_has_an_id_and_safe_headers(client: TestClient) -> None:
    for path in ("/healthz", "/api/v1/docs", "/api/v1/nothing"):
        answer = client.get(path)
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert client.get("/healthz", headers={"X-Request-ID": "my-id.7"}).headers["x-request-id"] == (
        "my-id.7"
    )
    odd = client.get("/healthz", headers={"X-Request-ID": 'x" injected'})
    assert odd.headers["x-request-id"] != 'x" injected'


def test_an_unforeseen_error_is_a_problem_that_tells_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr("service.saes.endpoints.list_saes", fail)
    answer = client.get("/api/v1/saes")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:monosemy:problem:internal"
    assert "swordfish" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "swordfish" in caplog.text


def test_a_database_that_went_away_is_503(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OperationalError("SELECT", {}, Exception("server closed the connection"))

    monkeypatch.setattr("service.saes.endpoints.list_saes", fail)
    answer = client.get("/api/v1/saes")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


def test_a_transaction_that_fails_leaves_nothing(
    client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("after the run was written")

    monkeypatch.setattr("service.runs.submission.announce", fail)
    with engine.connect() as connection:
        before = connection.execute(text("SELECT count(*) FROM runs")).scalar_one()
        assert client.post("/api/v1/runs", json={"kind": "train"}).status_code == 500
        connection.rollback()
        assert connection.execute(text("SELECT count(*) FROM runs")).scalar_one() == before


def test_log_lines_are_json_with_ids() -> None:
    record = logging.LogRecord("a.b", logging.INFO, __file__, 1, "hello %s", ("you",), None)
    record.extra_field = {"x": 1}
    token = logs.request_id.set("r1")
    try:
        entry = json.loads(JsonFormatter().format(record))
    finally:
        logs.request_id.reset(token)
    assert entry["message"] == "hello you"
    assert entry["level"] == "info"
    assert entry["request_id"] == "r1"
    assert entry["extra_field"] == {"x": 1}
    assert "run_id" not in entry


@pytest.fixture
def at_info(settings: Settings) -> Iterator[TestClient]:
    app = create_app(settings.model_copy(update={"log_level": "INFO"}))
    with loopback_client(app) as client:
        yield client
    configure_logging("WARNING")


def test_requests_are_logged_on_standard_error(
    at_info: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run = "00000000-0000-0000-0000-000000000001"
    answer = at_info.get(f"/api/v1/runs/{run}")
    entries = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (entry,) = [entry for entry in entries if entry["message"] == "request"]
    assert entry["request_id"] == answer.headers["x-request-id"]
    assert entry["run_id"] == run
    assert entry["status"] == 404
    assert entry["method"] == "GET"
    assert entry["seconds"] >= 0


def test_health_and_readiness(client: TestClient, inference) -> None:
    for prefix in ("", "/api/v1"):
        assert client.get(f"{prefix}/healthz").json()["status"] == "ok"
    answer = client.get("/api/v1/readyz")
    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert checks["database"] == {"status": "ok", "detail": None}
    assert checks["inference"] == {"status": "ok", "detail": None}
    assert checks["redis"]["status"] == "failed"
    assert "MONOSEMY_REDIS_URL" in checks["redis"]["detail"]
    inference.away = True
    client.app.state.context.readiness.seconds = 0.0  # as if a second had passed
    assert client.get("/readyz").json()["checks"]["inference"]["status"] == "failed"


def test_ready_when_every_part_answers(
    settings: Settings, inference, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as valkey:
        app = create_app(
            settings.model_copy(update={"redis_url": valkey.url}), inference.transport()
        )
        with loopback_client(app) as client:
            answer = client.get("/readyz")
            assert answer.status_code == 200, answer.text
            assert answer.json()["status"] == "ready"
            assert client.post("/api/v1/runs", json={"kind": "train"}).status_code == 201
            with Redis.from_url(valkey.url) as redis:
                assert redis.llen("dramatiq:gpu") == 1  # the run was announced
            valkey.stop()
            app.state.context.readiness.seconds = 0.0  # as if a second had passed
            check = client.get("/readyz").json()["checks"]["redis"]
            assert check == {"status": "failed", "detail": "Redis does not answer."}
            # Without it runs are taken all the same: workers look into the database.
            assert client.post("/api/v1/runs", json={"kind": "train"}).status_code == 201


def test_readiness_is_against_the_newest_revision(
    settings: Settings, empty_database_url: str
) -> None:
    app = create_app(settings.model_copy(update={"database_url": empty_database_url}))
    with loopback_client(app) as client:
        check = client.get("/readyz").json()["checks"]["database"]
    assert check["status"] == "failed"
    assert "monosemy migrate" in check["detail"]


def test_metrics(client: TestClient, engine: Engine, library) -> None:
    with transaction(engine) as session:
        session.execute(text("DELETE FROM runs"))
        session.add(
            Run(
                kind="train",
                queue="gpu",
                spec={},
                created_at=text("now() - interval '90 seconds'"),
                not_before=text("now() - interval '90 seconds'"),
            )
        )
        session.add(Run(kind="train", queue="gpu", state="failed", spec={}))
    client.get("/api/v1/saes/demo")
    client.get("/api/v1/saes/nothing")
    client.get("/api/v1/nowhere")
    answer = client.get("/api/v1/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = dict(
        line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")
    )
    route = 'method="GET",route="/api/v1/saes/{sae}"'
    assert lines[f'monosemy_http_requests_total{{{route},status="200"}}'] == "1.0"
    assert lines[f'monosemy_http_requests_total{{{route},status="404"}}'] == "1.0"
    assert lines[f"monosemy_http_request_seconds_count{{{route}}}"] == "2.0"
    unmatched = 'method="GET",route="unmatched",status="404"'
    assert lines[f"monosemy_http_requests_total{{{unmatched}}}"] == "1.0"
    assert lines['monosemy_runs{kind="train",queue="gpu",state="queued"}'] == "1.0"
    assert lines['monosemy_runs{kind="train",queue="gpu",state="failed"}'] == "1.0"
    assert 89 < float(lines['monosemy_oldest_queued_seconds{queue="gpu"}']) < 150
    assert lines["monosemy_saes"] == "1.0"
    assert lines["monosemy_features"] == str(float(library.features))
    assert lines["monosemy_database_up"] == "1.0"


def test_metrics_without_the_database(settings: Settings, tmp_path: Path) -> None:
    away = settings.model_copy(
        update={"database_url": f"postgresql://postgres@/none?host={tmp_path}"}
    )
    with TestClient(
        create_app(away), base_url="http://127.0.0.1", client=("127.0.0.1", 5)
    ) as client:
        answer = client.get("/metrics")
        assert answer.status_code == 200
        assert "monosemy_database_up 0.0" in answer.text
        assert client.get("/healthz").status_code == 200
        assert client.get("/api/v1/saes").status_code == 503


@pytest.mark.parametrize(
    ("path", "parameters", "template"),
    [
        ("/api/v1/saes/demo/features/3", {"sae": "demo", "index": "3"}, "/{sae}/features/{index}"),
        ("/api/v1/saes/3/features/3", {"sae": "3", "index": "3"}, "/{sae}/features/{index}"),
        ("/api/v1/saes/saes", {"sae": "saes"}, "/{sae}"),
    ],
)
def test_metric_labels_hold_no_values(path: str, parameters: dict, template: str) -> None:
    scope = {"route": object(), "path": path, "path_params": parameters}
    assert route_template(scope) == "/api/v1/saes" + template
