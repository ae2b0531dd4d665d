"""Attention runs: a survey of a trained attention SAE, by the worker into the database."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest
import torch

from monosemy.attribution.survey_examples import choose_examples
from monosemy.sae_folder import SaeFolder
from monosemy.specs import parse_spec
from monosemy.workspace import Workspace
from service.app import create_app
from service.database.session import transaction
from service.database.tables import Run, Sae
from service.runs import lifecycle
from tests.support import run_acts as acts
from tests.support.loopback import loopback_client
from tests.support.trained_library import Trained
from workers.gpu import GpuRuns
from workers.saes import opened_index
from workers.worker import Worker

pytestmark = pytest.mark.integration

SPEC = {"kind": "attention", "sae": "heads", "rows": 40, "examples": 5, "top": 4, "draws": 99}


@pytest.fixture(scope="module")
def attention_sae(trained: Trained) -> Sae:
    """An indexed SAE at ``attn.hook_z`` of the tiny host."""
    spec = {**trained.spec, "name": "heads", "site": "blocks.2.attn.hook_z", "evaluation": None}
    with transaction(trained.engine) as session:
        pipeline = lifecycle.create_run(session, parse_spec(spec)).id
    worker = Worker(
        "gpu", trained.settings, GpuRuns(trained.settings, trained.engine), trained.engine
    )
    while worker._take_one():
        pass
    with transaction(trained.engine) as session:
        done = session.get_one(Run, pipeline)
        assert done.state == "succeeded" and done.result is not None, done.error
        return session.get_one(Sae, uuid.UUID(done.result["sae_id"]))


def execute(trained: Trained, **options: Any) -> Any:
    run = acts.submit(trained.engine, {**SPEC, **options})
    gpu = GpuRuns(trained.settings, trained.engine)
    assert Worker("gpu", trained.settings, gpu, trained.engine)._take_one()
    return acts.load(trained.engine, run)


def test_it_is_surveyed_and_shown(trained: Trained, attention_sae: Sae) -> None:
    run = execute(trained)
    assert run.state == "succeeded", run.error
    assert [each["stage"] for each in run.stages] == ["heads", "choose", "attention"]
    workspace = Workspace(trained.settings.artifacts)
    reader, store = opened_index(workspace, attention_sae)
    alive = np.flatnonzero(reader.counts > 0).tolist()
    with loopback_client(create_app(trained.settings)) as client:
        survey = client.get("/api/v1/saes/heads/attention").json()
        assert survey["run_id"] == str(run.id) and survey["features"] == len(alive)
        assert survey["site"] == "blocks.2.attn.hook_z" and len(survey["heads"]) == 4
        listed = client.get("/api/v1/saes/heads/features?head=1&limit=200").json()["items"]
        of_head = [each["index"] for each in listed]
        assert len(of_head) == survey["heads"][1]["owned"]
        found = [
            client.get(f"/api/v1/saes/heads/features/{index}/attention").json() for index in alive
        ]
    sae = SaeFolder(workspace.locate(attention_sae.path), workspace).sae
    norms = sae.W_dec.detach().unflatten(1, (4, -1)).norm(dim=-1)
    for each in found:
        expected = norms[each["index"]] / norms[each["index"]].sum()
        assert each["shares"] == pytest.approx(expected.tolist(), abs=1e-5)
        assert each["head"] == int(expected.argmax())
        assert (each["index"] in of_head) == (each["head"] == 1)
        assert each["n"] <= 5 and sum(each["sources"] or [1]) == pytest.approx(1, abs=1e-4)
    assert any(each["n"] == 5 for each in found)
    examples = choose_examples(reader, store, 40, 5)
    assert survey["examples"] == sum(each["n"] for each in found) == len(examples)
    assert survey["rows"] == len(examples.rows) <= 40


def test_equal_seeds_give_equal_surveys(trained: Trained, attention_sae: Sae) -> None:
    first, second = execute(trained, seed=3), execute(trained, seed=3)
    assert first.state == second.state == "succeeded"
    assert first.result == second.result
    assert execute(trained, seed=4).result["heads"] != first.result["heads"]


def test_the_examples_are_the_strongest_in_the_rows(trained: Trained, attention_sae: Sae) -> None:
    reader, store = opened_index(Workspace(trained.settings.artifacts), attention_sae)
    examples = choose_examples(reader, store, 25, 4)
    assert len(examples.rows) <= 25 and (np.diff(examples.positions) >= 0).all()
    assert np.isin(store.row_of(examples.positions), examples.rows).all()
    for feature in np.flatnonzero(reader.counts > 0).tolist():
        positions, values = reader.postings(feature)
        inside = np.isin(store.row_of(positions), examples.rows)
        strongest = np.sort(values[inside])[::-1][:4]
        own = np.sort(examples.activations[examples.features == feature])[::-1]
        assert own.tolist() == pytest.approx(strongest.tolist(), rel=2e-3)


@pytest.mark.parametrize(
    ("sae", "reason"), [("tiny", "which has no heads"), ("heads", "more")], ids=["site", "few"]
)
def test_what_cannot_be_surveyed_fails_with_the_reason(
    trained: Trained, attention_sae: Sae, sae: str, reason: str
) -> None:
    run = execute(trained, sae=sae, top=100)
    assert run.state == "failed" and reason in run.error, run.error
    assert run.attempt == 1, "it is not tried again"


def test_the_attribution_adds_up_to_the_activation(trained: Trained, attention_sae: Sae) -> None:
    """What heads and sources add, with the constants, is what the index has stored."""
    from monosemy.attribution.reading import read
    from monosemy.attribution.survey import _attribution

    workspace = Workspace(trained.settings.artifacts)
    _, store = opened_index(workspace, attention_sae)
    folder = SaeFolder(workspace.locate(attention_sae.path), workspace)
    host = GpuRuns(trained.settings, trained.engine).hosts.load(folder.spec.model)
    batch = store.batch([3])
    reading = read(host, batch.ids_BS[0].tolist(), [2]).blocks[2]
    latents = torch.arange(folder.sae.d_sae)
    rows_FZ, bias_F = folder.sae.encoder_rows(latents)
    at = torch.full((len(latents),), batch.ids_BS.shape[1] - 1)
    by_HFS = _attribution(reading, rows_FZ.float(), at)
    z_Z = reading.z_SZ[-1]
    pre_F = folder.sae.centre(z_Z[None]) @ rows_FZ.T + bias_F
    without_F = folder.sae.centre(torch.zeros_like(z_Z)[None]) @ rows_FZ.T + bias_F
    assert torch.allclose(by_HFS.sum(dim=(0, 2)), (pre_F - without_F)[0], atol=1e-4)
