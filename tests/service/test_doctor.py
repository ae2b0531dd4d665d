"""What ``monosemy doctor`` finds: each fault planted, each named with what mends it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from monosemy.client import Client
from service.app import create_app
from service.cli.main import app
from service.database.session import transaction
from service.queues.repository import change_queue
from service.settings import Settings
from service.stack.valkey import EmbeddedValkey
from service.system import doctor
from service.system.doctor import Finding, examine, found_by_the_api
from service.version import version
from tests.support import run_acts as acts
from tests.support.library_rows import Library
from tests.support.served import served
from tests.support.stub_server import StubServer, error

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url


@pytest.fixture
def sound(settings: Settings, redis_url: str, library: Library) -> Iterator[Settings]:
    """A deployment in which every part answers."""
    (settings.artifacts / "saes" / "demo").mkdir(parents=True)

    class Well(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = {"status": "ok"}
            if not self.path.startswith("/inference"):
                answer["version"] = version()
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Well)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with StubServer() as judge:
        changes = {"redis_url": redis_url, "inference_url": f"{url}/inference"}
        changes |= {"url": url, "judge_url": judge.url}
        yield settings.model_copy(update=changes)
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_runs(engine: Engine) -> None:
    acts.delete_all(engine)
    with transaction(engine) as session:
        session.execute(text("DELETE FROM queues"))


def found(settings: Settings, **changes: Any) -> dict[str, Finding]:
    return {each.check: each for each in examine(settings.model_copy(update=changes))}


def test_a_sound_deployment_has_nothing_to_mend(sound: Settings) -> None:
    checks = found(sound)
    assert list(checks) == [
        "exposure", "artifacts", "database", "revision", "extensions", "clocks", "queues",
        "embeddings", "files", "redis", "inference", "judge", "plugins", "api", "training",
    ]  # fmt: skip
    assert {each.status for each in checks.values()} == {"ok"}, checks
    assert not any(each.advice for each in checks.values())


def test_embeddings_of_another_width_are_named(sound: Settings) -> None:
    finding = found(sound, embedding_width=40)["embeddings"]
    assert finding.status == "failed" and "of 384 numbers" in finding.detail
    assert "monosemy migrate" in str(finding.advice)


def test_every_part_that_is_away_is_named(sound: Settings) -> None:
    away = "http://127.0.0.1:9"
    checks = found(
        sound,
        database_url="postgresql://someone:pa55word@127.0.0.1:9/none",
        redis_url="redis://127.0.0.1:9/0",
        inference_url=away,
        judge_url=f"{away}/v1",
        url=away,
    )
    failed = {name for name, each in checks.items() if each.status == "failed"}
    assert failed == {"database", "redis", "judge", "api"}
    assert checks["inference"].status == "warning"
    assert "pa55word" not in str(checks)
    nothing = found(sound, database_url=None, redis_url=None, inference_url=None, judge_url=None)
    assert "MONOSEMY_DATABASE_URL" in nothing["database"].advice
    assert nothing["judge"].status == "warning" and "MONOSEMY_JUDGE_URL" in nothing["judge"].advice


def test_the_api_claims_no_fault_of_a_judge_whose_key_it_has_not(sound: Settings) -> None:
    asks = StubServer(on_probe=lambda request: error(401, "Invalid API Key"))
    with asks as judge:
        told = sound.model_copy(update={"judge_url": judge.url})
        assert found(told)["judge"].status == "failed", "who has the key must know"
        seen = {each.check: each for each in found_by_the_api(told).items}["judge"]
        assert seen.status == "ok" and "asks for a key" in seen.detail
        wrong = told.model_copy(update={"judge_api_key": SecretStr("wrong")})
        seen = {each.check: each for each in found_by_the_api(wrong).items}["judge"]
        assert seen.status == "failed", "it has one of its own"
    away = sound.model_copy(update={"judge_url": "http://127.0.0.1:9/v1"})
    seen = {each.check: each for each in found_by_the_api(away).items}["judge"]
    assert seen.status == "failed"


def test_exposure_without_keys(sound: Settings) -> None:
    assert "MONOSEMY_REQUIRE_KEYS" in found(sound, host="0.0.0.0")["exposure"].advice
    assert "MONOSEMY_SECRET" in str(found(sound, require_keys=True)["exposure"])


def test_runs_that_nobody_takes(sound: Settings, engine: Engine) -> None:
    run = acts.submit(engine, {"kind": "train"})
    assert found(sound)["queues"].status == "ok", "it has only just come"
    acts.change(engine, run, "created_at = now() - interval '2 minutes'")
    acts.change(engine, run, "not_before = now() - interval '2 minutes'")
    stuck = found(sound)["queues"]
    assert stuck.status == "failed" and "monosemy worker gpu" in stuck.advice
    with transaction(engine) as session:
        change_queue(session, "gpu", paused=True)
    paused = found(sound)["queues"]
    assert paused.status == "warning" and "queue resume" in paused.advice
    with transaction(engine) as session:
        change_queue(session, "gpu", paused=False)
    acts.claim(engine)
    assert found(sound)["queues"].status == "ok"


def test_files_that_are_gone_and_folders_that_cannot_be_written(
    sound: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sound.artifacts / "saes" / "demo").rmdir()
    gone = found(sound)["files"]
    assert gone.status == "failed" and "demo" in gone.detail
    if os.getuid() == 0:  # root may write everywhere: a file stands in the way instead
        sound.home.joinpath("file").write_text("x")
        closed = found(sound, home=sound.home / "file")["artifacts"]
        assert closed.status == "failed"
    monkeypatch.setattr(doctor, "LITTLE_DISK", 2**60)
    assert found(sound)["artifacts"].status == "warning"


def test_an_old_database_and_another_version(sound: Settings, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    try:
        old = found(sound)["revision"]
    finally:
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        new = found(sound)["revision"]
    finally:
        with engine.begin() as connection:
            head = doctor.head_revision()
            connection.execute(text("UPDATE alembic_version SET version_num = :n"), {"n": head})
    assert old.status == new.status == "failed"
    assert "monosemy migrate" in old.advice and "upgrade monosemy" in new.advice


def test_the_command_shows_it_and_exits(sound: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("home", "database_url", "redis_url", "inference_url", "url", "judge_url"):
        monkeypatch.setenv(f"MONOSEMY_{name.upper()}", str(getattr(sound, name)))
    well = CliRunner().invoke(app, ["doctor"])
    assert well.exit_code == 0, well.output
    assert "database" in well.stdout and "failed" not in well.stdout
    monkeypatch.setenv("MONOSEMY_REDIS_URL", "redis://127.0.0.1:9/0")
    ill = CliRunner().invoke(app, ["doctor", "--json"])
    assert ill.exit_code == 1
    assert {e["check"] for e in json.loads(ill.stdout) if e["status"] == "failed"} == {"redis"}


def test_a_judge_at_chance_is_named(sound: Settings, engine: Engine) -> None:
    """Its test is looked up, not made."""
    from monosemy.interp.judge_test.asking import key_of_test
    from monosemy.interp.judge_test.result import RoleTest
    from monosemy.interp.judging.judge import Judge
    from monosemy.specs import JudgeSpec
    from service.judge_tests.repository import keep_test

    judge = Judge(str(sound.judge_url), None, "stub", JudgeSpec())
    asked = judge.provenance()["address"]
    test = RoleTest("detecting", 0.52, 0.41, 0.63, 80, 3, 0.5, -0.09)
    with transaction(engine) as session:
        keep_test(session, key_of_test(judge, "detecting"), test, asked, "stub", "detection v1")
    [finding] = [each for each in examine(sound) if each.check == "judge"]
    assert finding.status == "warning" and "detects at chance: 0.52" in finding.detail
    assert "embedding" in finding.advice


def test_the_api_says_what_it_finds(sound: Settings) -> None:
    """To administrators; what it cannot see from where it is, it leaves to the command."""
    with served(create_app(sound)) as address, Client(address) as service:
        findings = {each.check: each for each in service.findings()}
    assert {"exposure", "artifacts", "database", "redis", "inference", "judge"} <= set(findings)
    assert not {"api", "training"} & set(findings)
    assert findings["artifacts"].status == "ok" and "GiB" in findings["artifacts"].detail
