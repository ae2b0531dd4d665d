"""Train, evaluate, index: what a worker leaves in the workspace and in the database."""

from __future__ import annotations

import re
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select

from monosemy.data.store import TokenStore
from monosemy.data.token_bytes import TokenBytes
from monosemy.formats.export import write_circuit_tracer
from monosemy.formats.saelens import load_sae, read_provenance
from monosemy.formats.sparsify import save_sparsify
from monosemy.index.example_bytes import examples_from_bytes
from monosemy.index.reader import IndexReader
from monosemy.models.host import HostModel
from monosemy.sae_folder import SaeFolder
from monosemy.workspace import Kind, Workspace
from service.crosscoders.repository import class_counts
from service.database.session import transaction
from service.database.storable import storable
from service.database.tables import Context, Document, Feature, Model, Run, Sae
from service.runs.readings import stored_curves
from service.sets.service import view
from tests.support import run_acts as acts
from tests.support.trained_library import SITE, Trained
from workers.gpu import GpuRuns
from workers.names import default_name
from workers.publish import free_sae_name
from workers.worker import Worker

pytestmark = pytest.mark.integration


def run_again(trained: Trained, spec: dict[str, Any]) -> Run:
    """Executes one more run to its end."""
    run = acts.submit(trained.engine, spec)
    execute = GpuRuns(trained.settings, trained.engine)
    assert Worker("gpu", trained.settings, execute, trained.engine)._take_one()
    return acts.load(trained.engine, run)


def test_the_sae_is_published_with_all_that_made_it(trained: Trained) -> None:
    sae, train = trained.sae, acts.children(trained.engine, trained.pipeline.id)[0]
    assert (sae.name, sae.site, sae.architecture, sae.d_in, sae.d_sae) == (
        "tiny",
        SITE,
        "topk",
        32,
        64,
    )
    assert sae.run_id == train.id
    assert train.result is not None and train.result["name"] == "tiny"
    assert sae.config["training"]["tokens"] == 30_000
    assert 0 < sae.metrics["fvu"] < 1 and sae.metrics["tokens"] >= 30_000
    workspace = Workspace(trained.settings.artifacts)
    folder = workspace.locate(sae.path)
    assert load_sae(folder).d_sae == load_sae(folder / "baseline").d_sae == 64
    provenance = read_provenance(folder)
    assert provenance["run_id"] == str(train.id)
    assert provenance["spec"] == train.spec
    assert provenance["versions"]["torch"]
    assert provenance["metrics"]["fvu"] == sae.metrics["fvu"]
    assert sae.provenance["model"]["fingerprint"] == provenance["model"]["fingerprint"]
    left = [path.name for path in workspace.folder(Kind.RUNS, str(train.id)).iterdir()]
    assert left == ["metrics.jsonl"]  # checkpoints are gone once there is an SAE


@pytest.mark.slow
def test_a_run_on_two_devices_is_a_run_like_any_other(
    trained: Trained, tiny_spec: dict[str, Any]
) -> None:
    training = {**tiny_spec["training"], "devices": 2, "tokens": 4000, "batch_tokens": 200}
    done = run_again(trained, {**tiny_spec, "name": "by two", "training": training})
    assert done.state == "succeeded" and done.result is not None, done.error
    assert done.result["metrics"]["devices"] == 2 and done.result["name"] == "by two"
    folder = Workspace(trained.settings.artifacts).folder(Kind.RUNS, str(done.id))
    assert [path.name for path in folder.iterdir()] == ["metrics.jsonl"]


def test_the_host_model_is_published_with_its_tokens(
    trained: Trained, tiny_host: HostModel
) -> None:
    with transaction(trained.engine) as session:
        (model,) = session.scalars(select(Model)).all()
    assert model.info["n_layers"] == 4 and SITE in model.info["sites"]
    assert model.spec["device"] == "cpu"
    tokens = TokenBytes.unpack(model.token_bytes)
    assert [tokens[i] for i in range(len(tokens))] == [
        tiny_host.token_bytes()[i] for i in range(len(tokens))
    ]


def test_the_evaluation_stands_beside_the_training_metrics(trained: Trained) -> None:
    metrics = trained.sae.metrics
    assert metrics["tokens"] >= 30_000
    evaluation = metrics["evaluation"]
    assert 0 < evaluation["fvu"] < 1
    assert {"ce_recovered_zero", "ce_recovered_mean", "frozen_decoder_baseline"} <= set(evaluation)


def test_features_are_what_the_index_says(trained: Trained) -> None:
    sae = trained.sae
    assert sae.index is not None
    workspace = Workspace(trained.settings.artifacts)
    reader = IndexReader(workspace.locate(sae.index["path"]))
    store = TokenStore.open(workspace.locate(f"text/{sae.index['text_id']}"))
    with transaction(trained.engine) as session:
        features = session.scalars(select(Feature).order_by(Feature.index)).all()
        contexts = {context.row: context for context in session.scalars(select(Context))}
        documents = session.scalars(select(Document).order_by(Document.document)).all()
    assert [feature.index for feature in features] == list(range(64))
    for feature in features:
        positions, values = reader.postings(feature.index)
        assert feature.postings == len(positions)
        assert feature.max_activation == (values.max() if len(values) else 0.0)
        assert feature.density == pytest.approx(len(positions) / reader.n_tokens)
        # The tokenizer has a token of one NUL, which Postgres would refuse.
        assert feature.evidence == storable(reader.evidence(feature.index).as_dict())
        examples = examples_from_bytes(feature.examples)
        assert examples == reader.examples(feature.index)
        assert all(example.row in contexts for example in examples)
    for row, context in contexts.items():
        start, end = store.row_start[row : row + 2]
        ids = np.frombuffer(context.token_ids, dtype="<u4")
        assert np.array_equal(ids, store.tokens[start:end])
        assert (context.start, context.document) == (start, store.row_document[row])
    assert [document.name for document in documents] == store.document_names
    alive = sum(feature.postings > 0 for feature in features)
    assert sae.index["alive"] == alive > 0
    assert sae.index["tokens"] == reader.n_tokens
    assert 0 < sae.index["bytes_per_feature"] < 8192


def test_indexing_again_replaces_the_features(trained: Trained) -> None:
    def stored() -> list[Any]:
        with transaction(trained.engine) as session:
            columns = (Feature.index, Feature.postings, Feature.label, Feature.examples)
            return [tuple(row) for row in session.execute(select(*columns).order_by(Feature.index))]

    def contexts() -> int:
        with transaction(trained.engine) as session:
            return len(session.scalars(select(Context.row)).all())

    before, rows = stored(), contexts()
    indexing = trained.spec["indexing"]
    again = run_again(trained, {"kind": "index", "sae": "tiny", "indexing": indexing})
    assert again.state == "succeeded", again.error
    assert stored() == before and contexts() == rows
    fewer = {**indexing, "max_tokens": 500}
    smaller = run_again(trained, {"kind": "index", "sae": str(trained.sae.id), "indexing": fewer})
    assert smaller.state == "succeeded", smaller.error
    assert trained.sae.index is not None and trained.sae.index["tokens"] < 600
    assert [row[0] for row in stored()] == list(range(64))
    assert sum(row[1] for row in stored()) < sum(row[1] for row in before)
    restored = run_again(trained, {"kind": "index", "sae": "tiny", "indexing": indexing})
    assert restored.state == "succeeded" and stored() == before


def test_a_second_sae_gets_a_name_of_its_own(trained: Trained, tiny_spec: dict[str, Any]) -> None:
    short = {**tiny_spec, "training": {**tiny_spec["training"], "tokens": 512}}
    names = []
    for _ in range(2):
        run = run_again(trained, short)
        assert run.state == "succeeded", run.error
        assert run.result is not None
        names.append(run.result["name"])
    assert names == ["tiny-2", "tiny-3"]
    with transaction(trained.engine) as session:
        assert len(session.scalars(select(Model)).all()) == 1  # the host model is shared
        assert free_sae_name(session, "tin_", trained.sae.id) == "tin_"
        # A run that publishes again keeps its name.
        assert free_sae_name(session, "tiny", trained.sae.id) == "tiny"
        session.delete(session.scalars(select(Sae).where(Sae.name == "tiny-3")).one())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "index", "sae": "nothing"}, "no SAE 'nothing'"),
        ({"kind": "train", "model": {"name": "/no/such/model"}}, "/no/such/model"),
        ({"kind": "train", "site": "blocks.77.hook_resid_post"}, "has no site"),
        ({"kind": "train", "text": {"source": "/no/such/text.jsonl"}}, "/no/such/text.jsonl"),
    ],
)
def test_what_a_person_has_to_mend_fails_at_once(
    trained: Trained, tiny_spec: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    spec = {**tiny_spec, **change} if change["kind"] == "train" else change
    run = run_again(trained, spec)
    assert (run.state, run.attempt) == ("failed", 1)
    assert words in str(run.error)


def test_names_made_up_need_no_quoting(tiny_spec: dict[str, Any]) -> None:
    from monosemy.specs import TrainRun

    spec = TrainRun.model_validate({**tiny_spec, "name": None})
    assert default_name(spec) == "tiny-llama-blocks-2-hook-resid-post-64"


def test_a_sweep_trains_every_site_with_every_sae(trained: Trained) -> None:
    spec = {
        "kind": "sweep",
        "name": "many",
        "model": trained.spec["model"],
        "text": trained.spec["text"],
        "sites": [SITE, "blocks.1.attn.hook_z"],
        "saes": [{"d_sae": 32, "k": 4}, {"d_sae": 48, "k": 2}],
        "training": {**trained.spec["training"], "tokens": 4_000},
    }
    run = run_again(trained, spec)
    assert run.state == "succeeded", run.error
    assert run.result is not None
    made = run.result["saes"]
    assert [each["name"] for each in made] == ["many-0", "many-1", "many-2", "many-3"]
    with transaction(trained.engine) as session:
        rows = [session.get_one(Sae, uuid.UUID(each["sae_id"])) for each in made]
    assert [(row.site, row.d_sae) for row in rows] == [
        (site, width) for site in spec["sites"] for width in (32, 48)
    ]
    workspace = Workspace(trained.settings.artifacts)
    for row in rows:
        folder = workspace.locate(row.path)
        assert load_sae(folder).d_sae == row.d_sae
        assert "<svg" in (folder / "training.html").read_text()
        assert row.metrics["max_norm"] > 0
    # The history of every one is there, in its folder and in the database.
    with transaction(trained.engine) as session:
        curves = stored_curves(session, run.id, 400)
    assert set(curves) == {0, 1, 2, 3}
    for place, row in enumerate(rows):
        kept = SaeFolder(workspace.locate(row.path), workspace).readings
        assert list(curves[place].readings) == kept and kept[-1].tokens == row.metrics["tokens"]
        assert kept[0].step == 1 and kept[-1].frozen_decoder_baseline is not None
    assert len({curve.readings[-1].fvu for curve in curves.values()}) == 4
    # Each is an SAE like any other: it can be evaluated by its name.
    evaluated = run_again(trained, {"kind": "evaluate", "sae": "many-2"})
    assert evaluated.result is not None and evaluated.result["metrics"]["fvu"] is not None


def test_the_latents_of_a_crosscoder_are_kept_with_its_evaluation(trained: Trained) -> None:
    spec = {
        "kind": "train",
        "name": "crossed",
        "model": trained.spec["model"],
        "text": trained.spec["text"],
        "reads": ["blocks.0.hook_resid_post", "blocks.2.hook_resid_post"],
        "sae": {"architecture": "crosscoder", "d_sae": 48, "k": 4},
        "training": {"tokens": 2_000, "batch_tokens": 500, "buffer_tokens": 2_000},
    }
    made = run_again(trained, spec)
    assert made.state == "succeeded", made.error
    asked = {"tokens": 300, "reconstruction_tokens": 2_000}
    for _ in range(2):  # the second in place of the first
        run = run_again(trained, {"kind": "evaluate", "sae": "crossed", "evaluation": asked})
        assert run.state == "succeeded" and run.result is not None, run.error
    with transaction(trained.engine) as session:
        sae = session.scalars(select(Sae).where(Sae.name == "crossed")).one()
        counts = class_counts(session, sae)
    metrics = run.result["metrics"]
    places = metrics["latent_scaling"]["places"].values()
    assert counts.exclusive == sum(each["exclusive"] for each in places)
    assert counts.genuine == sum(each["genuine"] for each in places)
    assert counts.weak == metrics["crosscoder"]["weak"]
    assert counts.shared == metrics["crosscoder"]["shared"] and counts.weak + counts.shared > 0
    assert counts.unknown == round(metrics["dead_share"] * 48)


def test_a_sweep_over_layers_makes_a_set_that_is_measured_together(trained: Trained) -> None:
    spec = {
        "kind": "sweep",
        "name": "tc",
        "model": trained.spec["model"],
        "text": trained.spec["text"],
        "sites": ["blocks.*.mlp.hook_in"],
        "writes": "blocks.*.hook_mlp_out",
        "layers": "0-2",
        "saes": [{"architecture": "batchtopk", "d_sae": 48, "k": 4, "skip": True}],
        "training": {"tokens": 2_000, "batch_tokens": 500, "buffer_tokens": 2_000},
    }
    for wanted in ("tc", "tc-2"):
        run = run_again(trained, spec)
        assert run.state == "succeeded" and run.result is not None, run.error
        made = run.result["saes"]
        assert {each["set"] for each in made} == {wanted}
    with transaction(trained.engine) as session:
        rows = [session.get_one(Sae, uuid.UUID(each["sae_id"])) for each in made]
        places = [row.config["set"] for row in rows]
        assert places == [{"name": "tc-2", "place": place, "size": 3} for place in range(3)]
        shown = view(session, "tc-2")
    assert (shown.reads, shown.writes) == ("blocks.*.mlp.hook_in", "blocks.*.hook_mlp_out")
    assert shown.layers == [0, 1, 2] and not shown.complete, "the host model has four"
    assert [sae.id for sae in shown.saes] == [row.id for row in rows]
    spec = {"kind": "evaluate_set", "saes": [row.name for row in rows]}
    measured = run_again(trained, spec)
    assert measured.state == "succeeded" and measured.result is not None, measured.error
    metrics = measured.result["metrics"]
    assert [each["site"] for each in metrics["members"]] == [row.site for row in rows]
    assert metrics["all"]["low"] < metrics["all"]["ce_increase"] < metrics["all"]["high"]
    assert metrics["splice_rows"] > 1 and metrics["splice_tokens"] > 100
    workspace = Workspace(trained.settings.artifacts)
    theirs = workspace.root / "theirs"
    write_circuit_tracer([workspace.locate(row.path) for row in rows], theirs)
    taken = run_again(trained, import_spec(trained, theirs, layers="0-2", name="taken"))
    assert taken.state == "succeeded" and taken.result is not None, taken.error
    again = taken.result["saes"]
    assert [each["name"] for each in again] == ["taken-0", "taken-1", "taken-2"]
    assert {each["set"] for each in again} == {"taken"}
    with transaction(trained.engine) as session:
        copied = view(session, "taken")
        own = [session.get_one(Sae, sae.id) for sae in copied.saes]
        checks = [row.config["imported"]["check"] for row in own]
    assert (copied.reads, copied.writes, copied.layers) == (shown.reads, shown.writes, [0, 1, 2])
    assert all(0 < check["l0"] < 24 and check["fvu"] is not None for check in checks)
    x_ND = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    for row, copy in zip(rows, own, strict=True):
        ours, back = (load_sae(workspace.locate(each.path)) for each in (row, copy))
        torch.testing.assert_close(back(x_ND), ours(x_ND), rtol=1e-5, atol=1e-5)
    deeper = {
        "kind": "sweep",
        "model": trained.spec["model"],
        "text": trained.spec["text"],
        "sites": ["blocks.*.hook_resid_post"],
        "layers": [3, 4],
        "saes": [{"d_sae": 8, "k": 2}],
    }
    too_deep = run_again(trained, deeper)
    assert too_deep.state == "failed" and "no site 'blocks.4" in str(too_deep.error)


def import_spec(trained: Trained, source: Path, **more: Any) -> dict[str, Any]:
    shared = {name: trained.spec[name] for name in ("model", "text")}
    return {"kind": "import", "source": str(source), **shared, **more}


@pytest.mark.parametrize("form", ["saelens", "sparsify"])
def test_an_imported_sae_is_an_sae_like_any_other(
    trained: Trained, form: str, tmp_path: Path
) -> None:
    original = Workspace(trained.settings.artifacts).locate(trained.sae.path)
    source = tmp_path / "elsewhere"
    if form == "saelens":
        shutil.copytree(original, source)
        (source / "provenance.json").unlink()
    else:
        save_sparsify(load_sae(original), source, {"hook_name": SITE, "model_name": "other"})
    done = run_again(trained, import_spec(trained, source, name=f"from {form}"))
    assert done.state == "succeeded" and done.result is not None, done.error
    assert (done.progress["done"], done.progress["total"]) == (1, 1)
    with transaction(trained.engine) as session:
        row = session.get_one(Sae, uuid.UUID(done.result["sae_id"]))
    assert (row.name, row.site, row.d_in, row.d_sae) == (f"from {form}", SITE, 32, 64)
    assert row.config["training"] is None and row.config["imported"]["format"] == form
    x = torch.randn(50, 32, generator=torch.Generator().manual_seed(0))
    workspace = Workspace(trained.settings.artifacts)
    torch.testing.assert_close(load_sae(workspace.locate(row.path))(x), load_sae(original)(x))
    for kind in ("evaluate", "index"):
        again = run_again(trained, {"kind": kind, "sae": row.name})
        assert again.state == "succeeded", again.error
    with transaction(trained.engine) as session:
        row = session.get_one(Sae, row.id)
    assert 0 < row.metrics["evaluation"]["fvu"] < 1 and row.index is not None


def test_a_basis_is_an_sae_like_any_other_that_was_not_trained(trained: Trained) -> None:
    asked = {"kind": "basis", "basis": "neurons", "beside": trained.sae.name, "tokens": 1000}
    done = run_again(trained, {**asked, "name": "coordinates"})
    assert done.state == "succeeded" and done.result is not None, done.error
    with transaction(trained.engine) as session:
        row = session.get_one(Sae, uuid.UUID(done.result["sae_id"]))
    assert (row.name, row.site, row.architecture) == ("coordinates", SITE, "neurons")
    assert (row.d_in, row.d_sae) == (32, 64)
    assert row.config["training"] is None and row.config["basis"]["basis"] == "neurons"
    beside = row.config["basis"]["beside"]
    assert beside["digest"] and row.provenance["text"] == trained.sae.provenance["text"]
    for kind in ("evaluate", "index"):
        again = run_again(trained, {"kind": kind, "sae": row.name})
        assert again.state == "succeeded", again.error
    compared = run_again(
        trained, {"kind": "compare", "sae": trained.sae.name, "other": row.name, "by": "tokens"}
    )
    assert compared.state == "succeeded", compared.error
    with transaction(trained.engine) as session:
        row = session.get_one(Sae, row.id)
    assert 0 < row.metrics["evaluation"]["fvu"] < 1 and row.index is not None
    random = {**asked, "basis": "random_directions"}
    unnamed = run_again(trained, {**random, "directions": 16})
    assert unnamed.result is not None and "random-directions" in unnamed.result["name"]
    few = run_again(trained, {**random, "directions": 5, "l0": 5})
    assert few.state == "failed" and "not the l0 of 5 that is wanted" in (few.error or "")
    small = trained.settings.model_copy(update={"max_memory_mb": 1})
    run = acts.submit(trained.engine, {**asked, "basis": "pca", "tokens": 100_000})
    execute = GpuRuns(small, trained.engine)
    execute.hosts = GpuRuns(trained.settings, trained.engine).hosts
    assert Worker("gpu", small, execute, trained.engine)._take_one()
    failed = acts.load(trained.engine, run)
    assert failed.state == "failed" and "The basis would take" in (failed.error or "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"site": "blocks.1.mlp.hook_post"}, "reads 32 numbers, .* gives 64"),
        ({"site": "blocks.9.hook_resid_post"}, "blocks.9"),
        ({"source": "/nowhere/at/all"}, "^/nowhere/at/all is no folder"),
    ],
)
def test_an_import_that_does_not_fit_fails_with_its_reason(
    trained: Trained, change: dict[str, Any], message: str
) -> None:
    source = Workspace(trained.settings.artifacts).locate(trained.sae.path)
    done = run_again(trained, {**import_spec(trained, source), **change})
    assert done.state == "failed" and re.search(message, done.error or ""), done.error


def test_an_import_without_a_site_asks_for_one(trained: Trained, tmp_path: Path) -> None:
    original = load_sae(Workspace(trained.settings.artifacts).locate(trained.sae.path))
    save_sparsify(original, tmp_path / "nameless")
    done = run_again(trained, import_spec(trained, tmp_path / "nameless"))
    assert done.state == "failed" and "Set site" in (done.error or "")
