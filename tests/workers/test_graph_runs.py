"""Graph runs on the worker: a set is trained, a prompt traced through it, checked and kept."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select

from monosemy.client import ApiError, Client
from monosemy.errors import DataError
from monosemy.graph_stage import GraphTracing
from monosemy.graphs import trace as tracing
from monosemy.graphs.firing import Firing
from monosemy.graphs.graph import NodeKind
from monosemy.graphs.store import graph_of_bytes
from monosemy.models import precision
from monosemy.models.host import HostModel
from monosemy.progress import SILENT
from monosemy.sae_folder import SaeFolder
from monosemy.specs import parse_spec
from monosemy.specs.graphs import GraphSpec
from monosemy.workspace import Workspace
from service.app import create_app
from service.database.graph_tables import StoredGraph
from service.database.session import transaction
from service.database.tables import Sae
from service.graphs.repository import graphs_of_run
from tests.support import run_acts as acts
from tests.support.loopback import loopback_client
from tests.support.served import served
from tests.support.trained_library import Trained
from workers.gpu import GpuRuns
from workers.inference import create_app as create_inference
from workers.worker import Worker

pytestmark = pytest.mark.integration

PROMPT = "the old king sat in the"
CHECK = {"nodes": 3, "edges": 3, "random_circuits": 2}


@pytest.fixture(scope="module", autouse=True)
def transcoders(trained: Trained) -> Iterator[None]:
    """A set ``tc`` of a transcoder for each of three layers of the four."""
    train_set(trained, "tc")
    yield


def train_set(
    trained: Trained, name: str, reads: str = "blocks.*.mlp.hook_in", **training: Any
) -> None:
    run = execute(
        trained,
        {
            "kind": "sweep",
            "name": name,
            "model": trained.spec["model"],
            "text": trained.spec["text"],
            "sites": [reads],
            "writes": "blocks.*.hook_mlp_out",
            "layers": "0-2",
            "saes": [{"architecture": "batchtopk", "d_sae": 48, "k": 4, "skip": True}],
            "training": {"tokens": 2_000, "batch_tokens": 500, "buffer_tokens": 2_000, **training},
        },
    )
    assert run.state == "succeeded", run.error


def execute(trained: Trained, spec: dict[str, Any], settings: Any = None) -> Any:
    run = acts.submit(trained.engine, parse_spec(spec).model_dump(mode="json"))
    used = settings or trained.settings
    gpu = GpuRuns(used, trained.engine)
    assert Worker("gpu", used, gpu, trained.engine)._take_one()
    return acts.load(trained.engine, run)


def graph(trained: Trained, **changes: Any) -> Any:
    spec = {"kind": "graph", "set": "tc", "prompt": PROMPT, "check": CHECK, **changes}
    return execute(trained, {name: value for name, value in spec.items() if value is not ...})


def row_of(trained: Trained, run: Any) -> StoredGraph:
    with transaction(trained.engine) as session:
        row = session.scalars(select(StoredGraph).where(StoredGraph.id == run.id)).one()
        assert row.graph and row.details and row.whole
        return row


def test_a_prompt_is_traced_through_a_set_and_kept(trained: Trained) -> None:
    run = graph(trained)
    assert run.state == "succeeded", run.error
    assert [each["stage"] for each in run.stages][-2:] == ["graph", "check"]
    assert all(each["done"] > 0 and each["unit"] for each in run.stages)
    row = row_of(trained, run)
    assert (row.name, row.in_set, row.prompt) == (PROMPT, "tc", PROMPT)
    assert not row.uploaded and row.checked
    stored = graph_of_bytes(row.graph, "stored")
    host = stored.about["host"]
    with transaction(trained.engine) as session:
        saes = [session.get_one(Sae, uuid.UUID(each["id"])) for each in row.saes]
    assert [sae.site for sae in saes] == [f"blocks.{layer}.mlp.hook_in" for layer in range(3)]
    workspace = Workspace(trained.settings.artifacts)
    folders = [SaeFolder(workspace.locate(sae.path), workspace, sae.provenance) for sae in saes]
    assert [each["digest"] for each in stored.about["saes"]] == [each.digest for each in folders]
    assert host["fingerprint"] == saes[0].provenance["model"]["fingerprint"]
    assert stored.about["versions"]["torch"]
    result = run.result
    assert result["graph_id"] == str(run.id) and result["nodes"] == len(stored.nodes)
    assert result["rounding"] <= 1e-5 and result["checked"] and "check" not in result
    assert result["pruned"]["replacement"] <= result["whole"]["replacement"]
    with loopback_client(create_app(trained.settings)) as client:
        shown = client.get(f"/api/v1/graphs/{run.id}").json()
        assert shown["served"] == [True] * 3 and shown["check"]["nodes"]["strongest"]["n"] == 3
        assert shown["forecast"]["features"] > 0 and shown["spec"]["prompt"] == PROMPT
        drawn = client.get(f"/api/v1/graphs/{run.id}/drawing").json()
        assert len(drawn["node"]) == result["nodes"]
        assert set(np.unique(drawn["coder"])) <= {-1, 0, 1, 2}


def test_features_of_a_stored_graph_are_changed_in_its_prompt(trained: Trained) -> None:
    """Through client, REST and inference server."""
    run = graph(trained, name="steered", check=None)
    assert run.state == "succeeded", run.error
    with served(create_inference(trained.settings)) as inference:
        app = create_app(trained.settings.model_copy(update={"inference_url": inference}))
        with served(app) as address, Client(address) as client:
            node = next(client.graphs.nodes("steered", kind="feature", layer=2, limit=1))
            same = client.graphs.steer(
                "steered", [{"node": node.node, "mode": "scale", "strength": 1}], features=200
            )
            gone = client.graphs.steer("steered", [{"node": node.node}], held="all")
            free = client.graphs.steer("steered", [{"node": node.node}])
            goal = next(client.graphs.nodes("steered", kind="logit", limit=1))
            carried = client.graphs.heads("steered", goal.node, node.node)
            edges = client.graphs.edges("steered", goal.node, end="in")
            edge = next((each.weight for each in edges if each.source == node.node), None)
            score = client.graphs.score("steered", 1, 0, token=3, source=1, listed=5)
            with pytest.raises(ApiError, match="so none is number 99"):
                client.graphs.score("steered", 1, 99, token=3, source=1)
            with pytest.raises(ApiError, match="does not take token 0"):
                client.graphs.steer("steered", [{"node": node.node, "position": 0}])
    assert edge is None or carried.value == pytest.approx(edge, rel=1e-2, abs=1e-5)
    for layer in carried.layers:
        assert layer.heads + layer.bypass == pytest.approx(carried.value, rel=1e-3, abs=1e-5)
    for side in (score.query, score.key):
        assert sum(each.score for each in side) == pytest.approx(score.score, rel=1e-4, abs=1e-6)
    assert len(score.pairs) == 5 and any(each.node is not None for each in score.query)
    assert same.kl < 1e-6 and all(abs(each.after - each.before) < 1e-4 for each in same.goals)
    assert not [each for each in same.features if abs(each.after - each.before) > 1e-4]
    for each in gone.goals:
        assert each.after - each.before == pytest.approx(each.direct, rel=1e-2, abs=1e-4)
    (edited,) = free.edited
    assert edited.node == node.node and edited.after == 0
    assert edited.before == pytest.approx(node.value, rel=1e-3)
    assert free.kl > 0 and sum(each.probability_after for each in free.tokens) <= 1 + 1e-6
    assert {each.label for each in free.goals} == {each.label for each in gone.goals}
    assert any(each.goal for each in free.tokens)


def test_the_same_tokens_are_left_out_when_a_prompt_is_read_again(trained: Trained) -> None:
    """SAEs have no features at tokens of larger norm than they were trained on: neither in a graph
    nor on the inference server."""
    train_set(trained, "choosy", "blocks.*.hook_resid_mid", max_norm_ratio=1.0001)
    run = graph(trained, set="choosy", name="choosy", check=None)
    assert run.state == "succeeded", run.error
    row = row_of(trained, run)
    workspace = Workspace(trained.settings.artifacts)
    with transaction(trained.engine) as session:
        saes = [session.get_one(Sae, uuid.UUID(each["id"])) for each in row.saes]
    folders = [SaeFolder(workspace.locate(sae.path), workspace) for sae in saes]
    host = HostModel.load(folders[0].spec.model, workspace)
    ids = torch.tensor([graph_of_bytes(row.graph, "stored").ids])
    usable = []
    for hosted in (folder.hosted(host) for folder in folders):
        usable.append(hosted.usable(hosted.read(ids, torch.ones_like(ids).bool()))[0].tolist())
    assert {place for each in usable for place in each[1:]} == {True, False}
    with served(create_inference(trained.settings)) as inference:
        app = create_app(trained.settings.model_copy(update={"inference_url": inference}))
        with served(app) as address, Client(address) as client:
            nodes = list(client.graphs.nodes("choosy", kind="feature"))
            first = min(nodes, key=lambda node: node.position)
            louder = {"node": first.node, "mode": "scale", "strength": 100}
            moved = client.graphs.steer("choosy", [louder], features=200).features
    for each in (*nodes, *moved):
        assert usable[each.coder][each.position], each


def test_named_saes_give_the_same_graph_and_a_name_of_their_own(trained: Trained) -> None:
    first = graph(trained, check=None)
    with transaction(trained.engine) as session:
        names = [
            session.get_one(Sae, uuid.UUID(each["id"])).name for each in row_of(trained, first).saes
        ]
    again = graph(trained, check=None, set=..., saes=names)
    assert again.state == "succeeded", again.error
    rows = [row_of(trained, each) for each in (first, again)]
    assert rows[0].graph == rows[1].graph and rows[1].in_set is None
    assert len({row.name for row in rows}) == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"set": "gone"}, "no set 'gone'"),
        ({"set": ..., "saes": ["tiny"]}, "writes blocks.2.hook_resid_post"),
        ({"goals": {"of": "tokens", "tokens": ["several words here"]}}, "tokens of"),
        ({"prompt": "the " * 300}, "reads"),
        ({"name": "taken"}, "There is a graph named 'taken' already"),
    ],
)
def test_what_cannot_be_done_ends_the_run_with_its_reason(
    trained: Trained, changes: dict[str, Any], reason: str
) -> None:
    if "name" in changes:
        assert graph(trained, check=None, name="taken").state == "succeeded"
    run = graph(trained, check=None, **changes)
    assert run.state == "failed" and reason in run.error, run.error


def test_several_devices_trace_the_same_graph(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "usable_cores", lambda: 2)
    runs = [graph(trained, check=None, trace={"devices": each}) for each in (1, 2)]
    alone, beside = (graph_of_bytes(row_of(trained, run).graph, "stored").rows for run in runs)
    for name in ("target", "source", "weight"):
        assert np.array_equal(getattr(alone, name), getattr(beside, name))
    run = graph(trained, check=None, trace={"devices": 3})
    assert run.state == "failed"
    assert "asks for 3 devices, and 2 cores can be used here. Set trace.devices" in run.error


def test_more_memory_than_there_may_be_is_refused_before(trained: Trained) -> None:
    little = trained.settings.model_copy(update={"max_memory_mb": 1})
    run = execute(
        trained,
        {"kind": "graph", "set": "tc", "prompt": PROMPT, "trace": {"batch": 4096}},
        little,
    )
    assert run.state == "failed" and "GB of memory; there are" in run.error
    assert "graph" not in [each["stage"] for each in run.stages]


PROMPTS = ["the old king sat in the", "an old king sat in the", "the king sat in his old"]


def test_several_prompts_are_traced_one_by_one_and_go_on_where_they_stopped(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"kind": "graph", "set": "tc", "prompts": PROMPTS, "name": "kings", "check": None}
    traced: list[str] = []
    graph = GraphTracing.graph

    def counted(self: GraphTracing, spec: GraphSpec, reporter: Any = SILENT) -> Any:
        if len(traced) == 2:
            raise DataError("The lights went out.")
        traced.append(spec.prompt)
        return graph(self, spec, reporter)

    monkeypatch.setattr(GraphTracing, "graph", counted)
    run = execute(trained, spec)
    assert run.state == "failed" and "Prompt 3" in run.error and "lights" in run.error
    assert run.progress["stage"] == "prompts" and run.progress["total"] == 3
    monkeypatch.setattr(GraphTracing, "graph", graph)
    with transaction(trained.engine) as session:
        before = {row.id: row.created_at for row in graphs_of_run(session, run.id)}
    assert traced == PROMPTS[:2] and len(before) == 2
    acts.retry(trained.engine, run.id)
    gpu = GpuRuns(trained.settings, trained.engine)
    assert Worker("gpu", trained.settings, gpu, trained.engine)._take_one()
    again = acts.load(trained.engine, run.id)
    assert again.state == "succeeded", again.error
    with transaction(trained.engine) as session:
        rows = graphs_of_run(session, run.id, StoredGraph.firing, StoredGraph.graph)
    assert [row.prompt for row in rows] == PROMPTS
    assert [row.name for row in rows] == ["kings-1", "kings-2", "kings-3"]
    assert [(row.place, row.prompts) for row in rows] == [(0, 3), (1, 3), (2, 3)]
    assert {row.id: row.created_at for row in rows[:2]} == before  # nothing was done twice
    assert [each["name"] for each in again.result["graphs"]] == ["kings-1", "kings-2", "kings-3"]
    stage = next(each for each in again.stages if each["stage"] == "prompts")
    assert (stage["done"], stage["total"], stage["unit"]) == (3, 3, "prompts")
    for row in rows:
        assert row.firing is not None
        firing, nodes = Firing.of_bytes(row.firing), graph_of_bytes(row.graph, "stored").nodes
        kept = nodes.at(nodes.kind == NodeKind.feature)
        fires = {*zip(firing.coder, firing.latent, firing.position, strict=True)}
        assert {*zip(kept.coder, kept.number, kept.position, strict=True)} <= fires
    with loopback_client(create_app(trained.settings)) as client:
        answer = client.get("/api/v1/graphs/common", params={"run": str(run.id)})
        made = answer.json()
        assert answer.status_code == 200 and made["has_null"] and made["n"] == 3
        assert made["overlap"]["within"] > 0 and made["served"] == [True] * 3
        alone = client.get(f"/api/v1/graphs/{rows[0].id}").json()
        assert (alone["run"], alone["place"], alone["prompts"]) == (str(run.id), 0, 3)


def test_a_prompt_that_cannot_be_read_is_named_before_any_is_traced(trained: Trained) -> None:
    run = graph(trained, prompt=..., prompts=[PROMPT, "the " * 300], check=None)
    assert run.state == "failed" and "Prompt 2" in run.error and "reads" in run.error
    with transaction(trained.engine) as session:
        assert not graphs_of_run(session, run.id)


def test_a_changed_sae_is_refused(trained: Trained) -> None:
    with transaction(trained.engine) as session:
        at = Sae.config["set"]
        second = (at["name"].astext == "tc") & (at["place"].as_integer() == 1)
        sae = session.scalars(select(Sae).where(second)).one()
    file: Path = trained.settings.artifacts / sae.path / "sae_weights.safetensors"
    kept = file.read_bytes()
    try:
        file.write_bytes(kept[:-4] + b"\x00\x00\x80\x3f")
        run = graph(trained, check=None)
    finally:
        file.write_bytes(kept)
    assert run.state == "failed" and "have changed" in run.error, run.error


def test_a_cancelled_run_stores_nothing(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"kind": "graph", "set": "tc", "prompt": PROMPT, "check": None}
    run = acts.submit(trained.engine, parse_spec(spec).model_dump(mode="json"))
    first, lease = tracing._Tracing.trace_goals, 2.0

    def cancelled_meanwhile(self: Any) -> Iterator[int]:
        for count in first(self):
            acts.cancel(trained.engine, run)
            time.sleep(lease / 2)  # until the worker has looked
            yield count

    monkeypatch.setattr(tracing._Tracing, "trace_goals", cancelled_meanwhile)
    settings = trained.settings.model_copy(update={"lease_seconds": lease})
    gpu = GpuRuns(settings, trained.engine)
    assert Worker("gpu", settings, gpu, trained.engine)._take_one()
    done = acts.load(trained.engine, run)
    assert done.state == "cancelled"
    with transaction(trained.engine) as session:
        assert session.get(StoredGraph, run) is None
