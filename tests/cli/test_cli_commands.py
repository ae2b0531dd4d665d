"""The commands against the real API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from sqlalchemy import Engine
from typer.testing import CliRunner

import monosemy
from monosemy.formats.saelens import save_sae
from monosemy.formats.sparsify import load_sparsify
from monosemy.saes.registry import create
from monosemy.specs import ReLUSpec, TopKSpec, parse_spec
from service.cli import faults, watch
from service.cli.client import Client
from service.cli.main import app
from service.database.session import transaction
from service.database.tables import TrainingReading
from service.kit.errors import Listing
from service.runs import lifecycle, repository
from tests.support.library_rows import Library, add_explanation

pytestmark = pytest.mark.integration

PATIENCE = 120.0
"""Seconds that another thread or process may take on a busy machine."""


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


def test_readings_of_a_training(module_engine: Engine) -> None:
    with transaction(module_engine) as session:
        spec = parse_spec({"kind": "sweep", "seeds": [0, 1]})
        run = lifecycle.create_run(session, spec).id
        rows = [
            TrainingReading(
                run_id=run,
                place=place,
                step=step,
                reading={"step": step, "tokens": 100 * step, "fvu": 0.5, "terms": {"auxk": 0.25}},
            )
            for place in (0, 1)
            for step in (1, 10, 20)
        ]
        session.add_all(rows)
    data = read("run", "readings", str(run))
    assert [len(sae["readings"]) for sae in data["saes"]] == [3, 3]
    newest = call("run", "readings", str(run))
    assert newest.count("2,000") == 2 and "terms.auxk" in newest and "1,000" not in newest
    one = call("run", "readings", str(run), "--place", "1", "--after", "1")
    assert "1,000" in one and "2,000" in one
    call("run", "readings", str(run), "--place", "2", code=2)
    call("run", "readings", str(uuid.uuid4()), code=4)
    with monosemy.Client(os.environ["MONOSEMY_URL"]) as client:
        training = client.runs.readings(run, place=1, points=2)
    call("run", "cancel", str(run))  # or it is the next to be claimed
    assert [sae.place for sae in training.saes] == [1] and training.saes[0].recorded == 3
    assert training.saes[0].readings[-1].terms == {"auxk": 0.25}


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


def test_an_export_in_sparsifys_form(library: Library, environment: Path, tmp_path: Path) -> None:
    folder = environment / "artifacts" / read("sae", "show", library.name)["path"]
    sae = create(TopKSpec(d_sae=24, k=3), 6)
    sae.initialise(torch.Generator().manual_seed(0))
    save_sae(sae, folder, {"hook_name": "blocks.1.hook_resid_post"}, {})
    target = tmp_path / "copy"
    call("sae", "export", library.name, str(target), "--format", "sparsify")
    assert sorted(path.name for path in target.iterdir()) == ["cfg.json", "sae.safetensors"]
    x = torch.randn(5, 6)
    torch.testing.assert_close(load_sparsify(target)(x), sae(x))
    save_sae(create(ReLUSpec(d_sae=24), 6), folder, {}, {})
    for form in ("sparsify", "circuit-tracer"):
        call("sae", "export", library.name, str(tmp_path / "no"), "--format", form, code=1)
        assert not (tmp_path / "no").exists()


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


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a command follows the events of a run: it has seen by then that the run goes on."""
    begun, events = threading.Event(), watch.events

    def following(client: Client, run_id: str) -> Iterator[dict[str, Any]]:
        begun.set()
        return events(client, run_id)

    monkeypatch.setattr(watch, "events", following)
    return begun


def test_watching_follows_a_run_to_its_end(
    module_engine: Engine, followed: threading.Event
) -> None:
    run_id = uuid.UUID(read("run", "submit", "--kind", "train", "--set", "training.tokens=9")["id"])

    def work() -> None:
        followed.wait(PATIENCE)
        with transaction(module_engine) as session:
            run = lifecycle.claim_run(session, "gpu", "tester", 60)
            assert run is not None
            assert run.id == run_id
        progress = {
            "stage": "train", "unit": "tokens", "done": 4, "total": 9, "rate": 2.0,
            "eta_seconds": 2.5, "elapsed_seconds": 2.0, "metrics": {"fvu": 0.25},
        }  # fmt: skip
        with transaction(module_engine) as session:
            assert repository.record_progress(session, run_id, "tester", progress)
        with transaction(module_engine) as session:
            lifecycle.succeed_run(session, run_id, "tester", {"sae_id": str(uuid.uuid4())})

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    output = call("run", "watch", str(run_id))
    worker.join()
    assert "4/9 tokens" in output
    assert "0:02 left" in output
    assert "fvu 0.25" in output
    assert "The run succeeded." in output
    lines = [json.loads(line) for line in call("run", "watch", str(run_id), "--json").splitlines()]
    assert [line["type"] for line in lines] == ["end"]  # nothing is left to follow
    assert lines[0]["data"]["state"] == "succeeded"
    assert str(run_id) in [item["id"] for item in read("run", "list", "--kind", "train")["items"]]


def test_json_while_watching_is_a_line_per_event_and_the_run_at_the_end(
    module_engine: Engine, followed: threading.Event
) -> None:
    def work() -> None:
        followed.wait(PATIENCE)
        with transaction(module_engine) as session:
            run = lifecycle.claim_run(session, "gpu", "tester", 60)
            assert run is not None
            lifecycle.cancel_run(session, run)
        with transaction(module_engine) as session:
            lifecycle.finish_cancel(session, run.id, "tester")

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    output = call("run", "submit", "--kind", "train", "--watch", "--json", code=1)
    worker.join()
    lines = [json.loads(line) for line in output.splitlines()]
    states = [line["data"]["state"] for line in lines]
    assert [line["type"] for line in lines] == ["state"] * 4 + ["end"]
    assert states == ["queued", "running", "cancelling", "cancelled", "cancelled"]


def test_ctrl_c_ends_the_watching_and_not_the_run() -> None:
    run_id = read("run", "submit", "--kind", "train")["id"]
    command = [sys.executable, "-c", "from service.cli.main import main; main()"]
    watching = subprocess.Popen(
        [*command, "run", "watch", run_id, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A suite in the background has Ctrl-C ignored, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["data"]["state"] == "queued"
    watching.send_signal(signal.SIGINT)
    _, stderr = watching.communicate(timeout=PATIENCE)
    assert watching.returncode == 130
    assert stderr.strip() == f"The run goes on; see 'monosemy run watch {run_id}'."
    assert read("run", "show", run_id)["state"] == "queued"
    call("run", "cancel", run_id)


def test_a_failed_run_says_why_and_ends_the_watching_with_1(module_engine: Engine) -> None:
    run_id = uuid.UUID(read("run", "submit", "--kind", "train")["id"])
    with transaction(module_engine) as session:
        claimed = lifecycle.claim_run(session, "gpu", "tester", 60)
        assert claimed is not None
        assert claimed.id == run_id
        lifecycle.fail_run(session, run_id, "tester", "no room [/left]", retryable=False)
    ended = CliRunner().invoke(app, ["run", "watch", str(run_id)])
    assert ended.exit_code == 1
    assert "no room [/left]" in ended.stderr
    assert "no room [/left]" in call("run", "show", str(run_id))
    assert "no room [/left]" in call("run", "list")


def test_the_api_names_each_fault_on_a_line_of_its_own(library: Library) -> None:
    ended = CliRunner().invoke(
        app, ["features", library.name, "--min-density", "2", "--max-density", "-1"]
    )
    assert ended.exit_code == 2
    assert [line.split(":")[0] for line in ended.stderr.splitlines()] == [
        "min_density",
        "max_density",
    ]
    assert ended.stdout == ""


def test_a_feature_page_reads_well(library: Library, module_engine: Engine) -> None:
    with transaction(module_engine) as session:
        add_explanation(session, library, 3, "kings [/b]", "Fires\x1b[2J on kings.", value=0.8)
    call("tag", "add", library.name, "3", "royal", "a-z")
    page = call("feature", "show", library.name, "3", "--examples", "1")
    for words in (
        "tags        a-z, royal",
        "3.000% of tokens, up to 3.00",
        "' king' 90%",
        "kings [/b]: Fires\ufffd[2J on kings.",
        "detection 0.80 (95 % 0.70 to 0.90, n = 20, 1 failed; shuffled explanation: 0.50)",
        "near        4 (0.90)",
        "fires with  6 (0.30)",
    ):
        assert words in page, page
    (example,) = (line for line in page.splitlines() if line.startswith(" top"))
    strongest = read("feature", "show", library.name, "3")["examples"][0]
    focus = strongest["tokens"][strongest["focus"]].strip()
    assert f"«{focus or chr(0x21B5)}»" in example
    listed = call("features", library.name, "--has-explanation")
    assert "kings [/b]" in listed
    assert "0.80 [0.70, 0.90] n 20" in listed
    assert read("search", "kings", "--sae", library.name)["items"][0]["index"] == 3
    call("search", "kings", "--sae", "nobody", code=4)


def test_names_with_odd_characters_stay_one_part_of_the_address() -> None:
    ended = CliRunner().invoke(app, ["sae", "show", "who?/../x#y"])
    assert ended.exit_code == 4
    assert ended.stdout == ""


def test_keys_are_made_listed_and_revoked() -> None:
    made = read("keys", "create", "alice", "--scopes", "read,run")
    assert made["key"].startswith("mnsy_")
    listed = [key for key in read("keys", "list") if key["name"] == "alice"]
    assert listed[0]["scopes"] == "read,run"
    assert made["key"] not in json.dumps(listed)
    twin = CliRunner().invoke(app, ["keys", "create", "alice"])
    assert twin.exit_code == 1 and "Revoke it" in twin.stderr
    call("keys", "revoke", "alice")
    gone = CliRunner().invoke(app, ["keys", "revoke", "alice"])
    assert gone.exit_code == 4
    assert gone.stderr == (
        "There is no usable API key 'alice'. 'monosemy keys list' shows those there are.\n"
    )
    call("keys", "create", "alice")
    call("keys", "create", "bob", "--scopes", "everything", code=2)
    call("keys", "create", "", code=2)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["sae", "show", "nobody"], "monosemy sae list"),
        (["features", "nobody"], "monosemy sae list"),
        (["sae", "export", "nobody", "away"], "monosemy sae list"),
        (["explain", "nobody", "--no-watch"], "monosemy sae list"),
        (["search", "kings", "--model", "nobody"], "monosemy models"),
        (["list", "show", "nothing"], "monosemy list all"),
        (["list", "add", "nothing", "demo", "3"], "monosemy list all"),
        (["run", "show", str(uuid.UUID(int=1))], "monosemy run list"),
        (["run", "watch", str(uuid.UUID(int=1))], "monosemy run list"),
        (["comparison", "show", str(uuid.UUID(int=1))], "monosemy comparison list"),
    ],
)
def test_what_is_not_there_names_the_command_that_lists_what_is(
    arguments: list[str], command: str
) -> None:
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code in (2, 4), ended.output
    (line,) = ended.stderr.splitlines()
    assert "There is no" in line and f"'{command}' shows those there are." in line
    assert "GET " not in line and "/api/" not in line


def test_every_listing_has_its_command_and_its_call() -> None:
    assert set(faults.LISTS) == set(Listing)
    for listing, command in faults.LISTS.items():
        shown = CliRunner().invoke(app, [*command.split()[1:], "--help"])
        assert shown.exit_code == 0, command
        answer = httpx.get(f"{os.environ['MONOSEMY_URL']}/api/v1{listing.value}")
        assert answer.status_code == 200 and "items" in answer.json(), listing
        assert f"/api/v1{listing.value} " in listing.advice
