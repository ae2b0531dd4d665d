"""The commands against the real API."""

from __future__ import annotations

import json
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from library_rows import Library
from sqlalchemy import Engine
from typer.testing import CliRunner

from service.cli.main import app
from service.database.session import transaction
from service.runs import lifecycle, repository

pytestmark = pytest.mark.integration


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    return ended.stdout


def read(*arguments: str) -> Any:
    """Standard output of a command with ``--json``: JSON and nothing else."""
    return json.loads(call(*arguments, "--json"))


@pytest.fixture(autouse=True)
def _point_there(environment: Path) -> None:
    return None


def test_looking_at_saes_and_features(library: Library) -> None:
    assert read("sae", "list")["items"][0]["name"] == library.name
    assert library.name in call("sae", "list")
    assert read("sae", "show", library.name)["id"] == str(library.sae)
    assert str(library.sae) in call("sae", "show", library.name)
    listed = read("features", library.name, "--sort", "density", "--order", "desc", "--limit", "5")
    densities = [item["density"] for item in listed["items"]]
    assert densities == sorted(densities, reverse=True)
    page = read("feature", "show", library.name, "3")
    assert page["index"] == 3
    assert "feature 3" in call("feature", "show", library.name, "3")
    assert read("models")["items"]
    assert read("search", "king")["mode"] == "lexical"


def test_what_is_not_there_is_exit_code_4(library: Library) -> None:
    call("sae", "show", "nobody", code=4)
    call("feature", "show", library.name, "99999", code=4)
    call("run", "show", str(uuid.uuid4()), code=4)


def test_an_export_from_another_machine_is_refused_and_a_local_one_copied(
    library: Library, environment: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copy"
    call("sae", "export", library.name, str(target), code=1)
    folder = environment / "artifacts" / read("sae", "show", library.name)["path"]
    folder.mkdir(parents=True)
    (folder / "cfg.json").write_text("{}")
    call("sae", "export", library.name, str(target))
    assert (target / "cfg.json").read_text() == "{}"
    call("sae", "export", library.name, str(target), code=1)


def test_runs_are_submitted_listed_shown_cancelled_and_retried(tmp_path: Path) -> None:
    spec = tmp_path / "run.yaml"
    spec.write_text("kind: pipeline\nname: from-file\ntraining: {tokens: 1000}\n")
    run_id = call("run", "submit", str(spec), "--set", "sae.d_sae=64").strip()
    shown = read("run", "show", run_id)
    assert shown["spec"]["sae"]["d_sae"] == 64
    assert shown["spec"]["training"]["tokens"] == 1000
    assert len(shown["children"]) == 5
    assert run_id in [item["id"] for item in read("run", "list")["items"]]
    assert read("run", "list", "--kind", "train", "--steps")["items"]
    assert call("run", "cancel", run_id).strip() == "cancelled"
    call("run", "cancel", run_id, code=1)
    call("run", "watch", run_id, code=1)
    assert call("run", "retry", run_id).strip() == "queued"
    call("run", "cancel", run_id)


def test_watching_follows_a_run_to_its_end(cli_engine: Engine) -> None:
    run_id = uuid.UUID(read("run", "submit", "--kind", "train", "--set", "training.tokens=9")["id"])

    def work() -> None:
        time.sleep(0.5)
        with transaction(cli_engine) as session:
            run = lifecycle.claim_run(session, "gpu", "tester", 60)
            assert run is not None
            assert run.id == run_id
        progress = {
            "stage": "train", "unit": "tokens", "done": 4, "total": 9, "rate": 2.0,
            "eta_seconds": 2.5, "elapsed_seconds": 2.0, "metrics": {"fvu": 0.25},
        }  # fmt: skip
        with transaction(cli_engine) as session:
            assert repository.record_progress(session, run_id, "tester", progress)
        with transaction(cli_engine) as session:
            lifecycle.succeed_run(session, run_id, "tester", {"sae_id": str(uuid.uuid4())})

    worker = threading.Thread(target=work)
    worker.start()
    said = call("run", "watch", str(run_id))
    worker.join()
    assert "4/9 tokens" in said
    assert "0:02 left" in said
    assert "fvu 0.25" in said
    assert "The run succeeded." in said
    lines = [json.loads(line) for line in call("run", "watch", str(run_id), "--json").splitlines()]
    assert lines == []  # it has ended: nothing is left to follow


def test_keys_are_made_listed_and_revoked() -> None:
    made = read("keys", "create", "alice", "--scopes", "read,run")
    assert made["key"].startswith("mnsy_")
    listed = [key for key in read("keys", "list") if key["name"] == "alice"]
    assert listed[0]["scopes"] == "read,run"
    assert made["key"] not in json.dumps(listed)
    call("keys", "revoke", "alice")
    call("keys", "revoke", "alice", code=1)
    call("keys", "create", "bob", "--scopes", "everything", code=1)
