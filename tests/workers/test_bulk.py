"""From an upload through the API to an imported SAE; and a real index out through the API."""

from __future__ import annotations

import io
import uuid
import zipfile
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fastapi.testclient import TestClient

from monosemy.data.store import TokenStore
from monosemy.formats.saelens import load_sae
from monosemy.formats.sparsify import save_sparsify
from monosemy.index.reader import IndexReader
from monosemy.workspace import Workspace
from service.app import create_app
from service.database.session import transaction
from service.database.tables import Sae
from tests.support import run_acts as acts
from tests.support.loopback import loopback_client
from tests.support.trained_library import Trained
from workers.gpu import GpuRuns
from workers.worker import Worker

pytestmark = pytest.mark.integration


@pytest.fixture
def client(trained: Trained) -> Iterator[TestClient]:
    app = create_app(trained.settings)
    with loopback_client(app) as client:
        yield client


@pytest.mark.parametrize("form", ["saelens", "sparsify"])
def test_an_upload_becomes_an_sae(
    client: TestClient, trained: Trained, form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    workspace = Workspace(trained.settings.artifacts)
    original = workspace.locate(trained.sae.path)
    folder = original
    if form == "sparsify":
        folder = tmp_path_factory.mktemp("foreign") / "layers.2"
        save_sparsify(load_sae(original), folder, {"model_name": "other"})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            if file.suffix in (".json", ".safetensors"):
                archive.write(file, f"mine/{file.name}")
    answer = client.post("/api/v1/saes/uploads", files={"files": ("a.zip", packed.getvalue())})
    assert answer.status_code == 201, answer.text
    spec = {
        "kind": "import",
        "name": f"uploaded {form}",
        "source": answer.json()["source"],
        "site": trained.sae.site,
        **{name: trained.spec[name] for name in ("model", "text")},
    }
    submitted = client.post("/api/v1/runs", json=spec)
    assert submitted.status_code == 201, submitted.text
    execute = GpuRuns(trained.settings, trained.engine)
    assert Worker("gpu", trained.settings, execute, trained.engine)._take_one()
    run = acts.load(trained.engine, uuid.UUID(submitted.json()["id"]))
    assert run.state == "succeeded" and run.result is not None, run.error
    with transaction(trained.engine) as session:
        made = session.get_one(Sae, uuid.UUID(run.result["sae_id"]))
    assert made.config["imported"]["format"] == form
    assert made.config["imported"]["source"] == answer.json()["source"]
    x = torch.randn(20, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(load_sae(workspace.locate(made.path))(x), load_sae(original)(x))


def test_an_upload_that_is_gone_fails_the_run_with_its_reason(
    client: TestClient, trained: Trained
) -> None:
    spec = {"kind": "import", "source": f"upload:{uuid.uuid4()}", "site": trained.sae.site}
    run = acts.submit(trained.engine, spec)
    execute = GpuRuns(trained.settings, trained.engine)
    assert Worker("gpu", trained.settings, execute, trained.engine)._take_one()
    done = acts.load(trained.engine, run)
    assert done.state == "failed" and "There is no upload" in (done.error or "")


def test_exported_activations_are_the_index(client: TestClient, trained: Trained) -> None:
    workspace = Workspace(trained.settings.artifacts)
    answer = client.get(f"/api/v1/saes/{trained.sae.id}/activations.parquet")
    assert answer.status_code == 200, answer.text
    table = pq.read_table(io.BytesIO(answer.content)).to_pandas()
    assert trained.sae.index is not None
    reader = IndexReader(workspace.locate(trained.sae.index["path"]))
    store = TokenStore.open(workspace.locate(f"text/{reader.text_id}"))
    assert len(table) == reader.n_postings > 1000
    for feature in range(reader.n_features):
        positions, values = reader.postings(feature)
        part = table[table.feature == feature]
        assert np.array_equal(part.position, positions)
        assert np.array_equal(part.activation, values)
        assert np.array_equal(part.token_id, store.tokens[positions])
    starts = store.row_start[table.row]
    assert np.array_equal(starts + table.offset, table.position)
    assert (table.position < store.row_start[table.row + 1]).all()
    assert np.array_equal(store.row_document[table.row], table.document)
