"""Layout runs: through the worker into the database, replaced, refused, restored, deleted."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from sqlalchemy import func, select

from monosemy.analysis.layout import lay_out
from monosemy.sae_folder import SaeFolder
from monosemy.specs import LayoutRun
from monosemy.workspace import Workspace
from service.app import create_app
from service.database.layout_tables import SaeLayout
from service.database.session import transaction
from service.database.tables import Feature
from service.layouts.repository import places_of
from tests.support import run_acts as acts
from tests.support.loopback import loopback_client
from tests.support.trained_library import Trained
from workers.gpu import GpuRuns
from workers.worker import Worker

pytestmark = pytest.mark.integration

SPEC = {"kind": "layout", "sae": "tiny", "iterations": 50, "perplexity": 5}


def execute(trained: Trained, **options: Any) -> Any:
    run = acts.submit(trained.engine, {**SPEC, **options})
    gpu = GpuRuns(trained.settings, trained.engine)
    assert Worker("gpu", trained.settings, gpu, trained.engine)._take_one()
    return acts.load(trained.engine, run)


def stored(trained: Trained) -> tuple[SaeLayout, np.ndarray]:
    with transaction(trained.engine) as session:
        row = session.scalars(select(SaeLayout)).one()
        return row, places_of(row)


def folder(trained: Trained) -> SaeFolder:
    workspace = Workspace(trained.settings.artifacts)
    return SaeFolder(workspace.locate(trained.sae.path), workspace)


def test_it_is_laid_out_by_the_library_and_shown(trained: Trained) -> None:
    run = execute(trained)
    assert run.state == "succeeded", run.error
    assert [each["stage"] for each in run.stages] == ["neighbours", "layout", "faithfulness"]
    assert run.stages[1]["done"] == run.stages[1]["total"] == 300
    row, places = stored(trained)
    assert row.run_id == run.id and row.summary["weights"] == folder(trained).digest
    with transaction(trained.engine) as session:
        fires = np.zeros(64, bool)
        fires[list(session.scalars(select(Feature.index).where(Feature.postings > 0)))] = True
    made = lay_out(folder(trained).sae.W_dec, LayoutRun.model_validate(SPEC), "", fires)
    assert np.array_equal(places.T, made.places, equal_nan=True)
    assert row.summary["features"] == fires.sum() > 10
    with loopback_client(create_app(trained.settings)) as client:
        shown = client.get("/api/v1/saes/tiny/layout").json()
        assert shown["run_id"] == str(run.id)
        assert shown["faithfulness"] == run.result["faithfulness"]
        columns = client.get("/api/v1/saes/tiny/columns?column=layout_x&column=layout_y").content
        assert columns == made.places.T.astype("<f4").tobytes()


def test_a_layout_replaces_the_one_before(trained: Trained) -> None:
    first = execute(trained, seed=1)
    _, before = stored(trained)
    second = execute(trained, seed=2)
    row, after = stored(trained)
    assert first.state == second.state == "succeeded" and row.run_id == second.id
    assert not np.array_equal(before, after, equal_nan=True)


def test_a_worker_without_the_package_says_what_to_install(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    run = execute(trained)
    assert run.state == "failed" and run.attempt == 1
    assert "openTSNE" in run.error and "pip install 'monosemy[layout]'" in run.error
    assert run.stages == [], "before any work"


def test_changed_weights_are_refused(trained: Trained) -> None:
    assert execute(trained).state == "succeeded"
    file = folder(trained).path / "sae_weights.safetensors"
    kept = file.read_bytes()
    weights = load_file(file)
    save_file({**weights, "W_dec": weights["W_dec"].flip(0).contiguous()}, file)
    try:
        with loopback_client(create_app(trained.settings)) as client:
            answer = client.get("/api/v1/saes/tiny/layout")
            assert answer.status_code == 409 and "other weights" in answer.json()["detail"]
        again = execute(trained)
        assert again.state == "failed" and "have changed" in again.error
    finally:
        file.write_bytes(kept)
    with loopback_client(create_app(trained.settings)) as client:
        assert client.get("/api/v1/saes/tiny/layout").status_code == 200


def test_it_goes_with_its_sae(trained: Trained) -> None:
    """The last: the SAE is gone then."""
    assert execute(trained).state == "succeeded"
    with loopback_client(create_app(trained.settings)) as client:
        assert client.delete(f"/api/v1/saes/{trained.sae.id}").status_code == 204
    with transaction(trained.engine) as session:
        assert session.scalar(select(func.count()).select_from(SaeLayout)) == 0
