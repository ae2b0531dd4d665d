"""Feature circuit runs on the worker: pairs of prompts, SAEs of two sites, a graph that is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

import monosemy
from monosemy.errors import DataError
from monosemy.graphs.store import graph_of_bytes
from monosemy.progress import SILENT
from monosemy.sae_stamp import PROVENANCE
from monosemy.specs import parse_spec
from service.app import create_app
from service.cli import following
from service.cli.main import app
from service.database.graph_tables import StoredGraph
from service.database.session import transaction
from tests.support import run_acts as acts
from tests.support.loopback import loopback_client
from tests.support.served import served
from tests.support.trained_library import HEADS_SITE, SITE, Trained
from workers.gpu import GpuRuns
from workers.worker import Worker

pytestmark = pytest.mark.integration

WORDS = ("king", "river", "house", "road", "tower", "table")
FEW = {"nodes": 8, "exact": 4, "midpoints": 3, "random_circuits": 1}


def pairs(patch: str = "ran") -> dict[str, Any]:
    items = [
        {"clean": f"the {a} sat", "patch": f"the {a} {patch}", "answer": " a", "wrong": " w"}
        for a in WORDS
    ]
    return {"task": "given", "items": items}


@pytest.fixture(scope="module", autouse=True)
def heads(trained: Trained) -> None:
    trained.add_heads()


def execute(trained: Trained, **changes: Any) -> Any:
    spec = {"kind": "feature_circuit", "saes": ["heads", trained.sae.name], "pairs": pairs()}
    run = acts.submit(
        trained.engine, parse_spec({**spec, **FEW, **changes}).model_dump(mode="json")
    )
    gpu = GpuRuns(trained.settings, trained.engine)
    assert Worker("gpu", trained.settings, gpu, trained.engine)._take_one()
    return acts.load(trained.engine, run)


@pytest.fixture(scope="module")
def made(trained: Trained, heads: None) -> Any:
    del heads
    run = execute(trained, name="sat")
    assert run.state == "succeeded", run.error
    return run


@pytest.fixture(scope="module")
def api(trained: Trained) -> Iterator[httpx.Client]:
    with loopback_client(create_app(trained.settings)) as client:
        yield client


def test_its_graph_is_kept_beside_those_of_prompts(
    trained: Trained, made: Any, api: httpx.Client
) -> None:
    with transaction(trained.engine) as session:
        row = session.get_one(StoredGraph, made.id)
        assert (row.name, row.kind, row.checked) == ("sat", "feature_circuit", True)
        stored = graph_of_bytes(row.graph, "stored")
    assert stored.sites == (SITE, HEADS_SITE)
    assert stored.about["host"]["fingerprint"] and len(stored.about["saes"]) == 2
    assert made.result["graph_id"] == str(made.id)
    shown = api.get(f"/api/v1/graphs/{made.id}").json()
    assert shown["feature_circuit"] == made.result["feature_circuit"]
    assert shown["sites"] == [SITE, HEADS_SITE] and shown["served"] == [True, True]
    assert shown["spec"] is None and shown["feature_circuit_spec"]["nodes"] == FEW["nodes"]
    assert [each["site"] for each in shown["feature_circuit"]["sites"]] == shown["sites"]
    assert shown["feature_circuit"]["pairs"] + shown["feature_circuit"]["held_out"] == len(WORDS)
    total = abs(shown["goals"][0]["value"])
    for each in shown["feature_circuit"]["sites"]:
        assert abs(each["residual"]) < 0.2 * total, "three midpoints"
    drawn = api.get(f"/api/v1/graphs/{made.id}/drawing").json()
    assert drawn["sites"] == shown["sites"] and drawn["tokens"] == ["all tokens"]
    assert drawn["kind"].count("feature") <= FEW["nodes"]
    coders = dict(zip(drawn["kind"], drawn["coder"], strict=True))
    assert coders["feature"] in (0, 1) and coders["error"] == -1
    nodes = api.get(f"/api/v1/graphs/{made.id}/nodes", params={"kind": "feature"}).json()
    at = {each["layer"]: each["coder"] for each in nodes["items"]}
    assert at in ({0: 1, 1: 0}, {0: 1}, {1: 0}), "coders in the order of the spec"
    assert api.get(f"/api/v1/graphs/{made.id}/file").json()["nodes"]
    edits = {"edits": [{"node": 0, "mode": "ablate"}]}
    refused = api.post(f"/api/v1/graphs/{made.id}/steer", json=edits)
    assert refused.status_code == 409 and "feature circuit" in refused.json()["detail"]


def test_it_is_listed_by_its_kind(made: Any, api: httpx.Client) -> None:
    listed = api.get("/api/v1/graphs", params={"kind": "feature_circuit"}).json()["items"]
    assert [each["id"] for each in listed] == [str(made.id)]
    assert api.get("/api/v1/graphs", params={"kind": "graph"}).json()["items"] == []
    assert api.get("/api/v1/graphs", params={"kind": "circuit"}).status_code == 422


def folders(trained: Trained) -> list[Path]:
    return [
        trained.settings.artifacts / "saes" / "heads",
        trained.settings.artifacts / trained.sae.path,
    ]


def test_a_notebook_has_the_same(trained: Trained, made: Any, tmp_path: Path) -> None:
    own = monosemy.feature_circuit(
        folders(trained), tmp_path, reporter=SILENT, pairs=pairs(), **FEW
    )
    kept, same = made.result["feature_circuit"], {"forecast"}
    there = own.circuit.model_dump(mode="json", exclude=same)
    assert [each["site"] for each in there["sites"]] == [SITE, HEADS_SITE]
    for each, other in zip(there["sites"], kept["sites"], strict=True):
        assert each["cut"] == pytest.approx(other["cut"], abs=1e-5)
        assert each["features"] == pytest.approx(other["features"], abs=1e-5)
        assert each["kept"] == other["kept"]
    assert there["tokens"] == pytest.approx(kept["tokens"], abs=1e-5)
    assert there["check"]["pairs"] == kept["check"]["pairs"]
    says = repr(own)
    assert f"{own.circuit.sites[0].kept} of {own.circuit.sites[0].active} features" in says
    assert f"{own.circuit.tokens.residual:+.3f} missed" in says  # type: ignore[union-attr]
    features = own.nodes("feature")
    assert 0 < len(features) <= FEW["nodes"]
    assert graph_of_bytes(own.save(tmp_path / "c.npz").read_bytes(), "c").sites == (
        SITE,
        HEADS_SITE,
    )


def test_a_command_follows_it_and_shows_it(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = following.follow

    def do_and_follow(client: Any, run: str, as_json: bool) -> None:
        gpu = GpuRuns(trained.settings, trained.engine)
        assert Worker("gpu", trained.settings, gpu, trained.engine)._take_one()
        follow(client, run, as_json)

    monkeypatch.setattr(following, "follow", do_and_follow)
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, pairs()["items"])))
    arguments = ("--pairs", str(file), "--nodes", "4", "--midpoints", "2", "--name", "by hand")
    with served(create_app(trained.settings)) as address:
        monkeypatch.setenv("MONOSEMY_URL", address)
        ended = CliRunner().invoke(
            app, ["feature-circuit", "heads", trained.sae.name, *arguments], env={"COLUMNS": "240"}
        )
        assert ended.exit_code == 0, ended.output
        shown = httpx.get(f"{address}/api/v1/graphs/by hand").json()["feature_circuit"]
    says = " ".join(ended.output.split())
    assert f"by hand: {shown['pairs']} pairs such as the " in says
    assert SITE in says and HEADS_SITE in says and "The run succeeded." in says
    assert (
        f"The prompt's tokens carry {shown['tokens']['effect']:+.3f} of"
        f" {shown['tokens']['cut']:+.3f}, {shown['tokens']['residual']:+.3f} missed."
    ) in says
    assert f"faithfulness on {shown['held_out']} pairs left out" in says
    assert shown["midpoints"] == 2 and sum(each["kept"] for each in shown["sites"]) <= 4


def test_an_sae_of_another_host_is_refused_by_name(trained: Trained, tmp_path: Path) -> None:
    sae = folders(trained)[1]
    stranger = tmp_path / "stranger"
    shutil.copytree(sae, stranger)
    record = stranger / PROVENANCE
    written = json.loads(record.read_text())
    written["spec"]["name"] = "stranger"
    written["spec"]["model"]["name"] = "another/host"
    record.write_text(json.dumps(written))
    with pytest.raises(DataError, match="'stranger' is of another/host") as refused:
        monosemy.feature_circuit([sae, stranger], tmp_path, reporter=SILENT, pairs=pairs(), **FEW)
    assert str(trained.spec["model"]["name"]) in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pairs": pairs("ran away quickly")}, "its patch"),
        ({"name": "sat"}, "There is a graph named 'sat' already"),
        ({"saes": ["heads", "gone"]}, "gone"),
    ],
)
def test_what_cannot_be_done_ends_the_run_with_its_reason(
    trained: Trained, made: Any, changes: dict[str, Any], reason: str
) -> None:
    del made
    run = execute(trained, **changes)
    assert run.state == "failed" and reason in run.error, run.error
