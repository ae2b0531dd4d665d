"""Runs of one worker while the files of a model, a text or an SAE are replaced beneath it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from sqlalchemy import Engine, select
from transformers import LlamaConfig, LlamaForCausalLM

from monosemy import stages
from monosemy.errors import DataError, Interrupted
from monosemy.models.host import HostModel
from monosemy.progress import Reporter, StageProgress
from monosemy.specs import TextSpec, TrainRun, parse_spec
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.database.tables import Model, Run, Sae
from service.inference.service import sae_call
from service.settings import Settings
from tests.support import run_acts as acts
from tests.support.loopback import loopback_client
from workers.gpu import GpuRuns
from workers.inference import create_app
from workers.interpretation import Interpretation
from workers.worker import Worker

pytestmark = pytest.mark.integration


class Bench:
    """A worker with a model and a text of its own."""

    def __init__(self, settings: Settings, engine: Engine, spec: dict[str, Any]) -> None:
        self.settings, self.engine, self.spec = settings, engine, spec
        self.model, self.text = Path(spec["model"]["name"]), Path(spec["text"]["source"])
        self.execute = GpuRuns(settings, engine)
        self.worker = Worker("gpu", settings, self.execute, engine)

    def run(self, **spec: Any) -> Run:
        run = acts.submit(self.engine, spec)
        assert self.worker._take_one()
        return acts.load(self.engine, run)

    def sae(self, name: str = "tiny") -> Sae:
        with transaction(self.engine) as session:
            return session.scalars(select(Sae).where(Sae.name == name)).one()

    def refused(self, **spec: Any) -> str:
        run = self.run(**spec)
        assert run.state == "failed", run.result
        return json.dumps(run.error)


EVALUATION = {"tokens": 256, "reconstruction_tokens": 256}
INDEXING = {"top_examples": 2, "quantile_examples": 1, "window": 8}


@pytest.fixture
def bench(
    clean_engine: Engine,
    settings: Settings,
    tiny_spec: dict[str, Any],
    host_folder: Path,
    tiny_text: TextSpec,
    tmp_path: Path,
) -> Bench:
    model = shutil.copytree(host_folder, tmp_path / "model")
    text = shutil.copy(tiny_text.source, tmp_path / "text.jsonl")
    training = {**tiny_spec["training"], "tokens": 3000, "buffer_tokens": 2000}
    spec = {
        **tiny_spec,
        "model": {**tiny_spec["model"], "name": str(model)},
        "text": {**tiny_spec["text"], "source": str(text)},
        "training": training,
    }
    bench = Bench(settings, clean_engine, spec)
    assert bench.run(**spec).state == "succeeded"
    for step in ({"kind": "evaluate", "evaluation": EVALUATION}, {"kind": "index"}):
        assert bench.run(sae="tiny", **step).state == "succeeded"
    return bench


def wider(bench: Bench) -> None:
    config = LlamaConfig.from_pretrained(bench.model)
    config.hidden_size, config.head_dim = 48, 12
    LlamaForCausalLM(config).save_pretrained(bench.model)


def touched(file: Path, name: str) -> None:
    tensors = load_file(file)
    tensors[name].view(-1)[-1] += 1e-3
    save_file(tensors, file, {"format": "pt"})


def test_a_model_saved_at_another_width_is_loaded_anew_and_refused_for_the_old_sae(
    bench: Bench,
) -> None:
    wider(bench)
    new = bench.run(**{**bench.spec, "name": "wide"})
    assert new.state == "succeeded", new.error
    assert (bench.sae("tiny").d_in, bench.sae("wide").d_in) == (32, 48)
    for step in ({"kind": "evaluate", "evaluation": EVALUATION}, {"kind": "index"}):
        message = bench.refused(sae="tiny", **step)
        assert "d_model 32, now 48" in message and "all weights" in message, message
    with transaction(bench.engine) as session:
        widths = [model.info["d_model"] for model in session.scalars(select(Model))]
    assert sorted(widths) == [32, 48]


def test_weights_put_under_an_evaluated_sae_are_told_wherever_it_is_used(bench: Bench) -> None:
    sae, home = bench.sae(), Workspace(bench.settings.artifacts)
    assert sae.index is not None
    digest = sae.provenance["weights"]["digest"]
    assert sae.index["sae_digest"] == digest == sae.metrics["evaluation"]["about"]["sae_digest"]
    client = loopback_client(create_app(bench.settings))
    body = {
        "model": bench.spec["model"],
        "text": "The captain",
        "saes": [sae_call(sae, None).model_dump(mode="json")],
    }
    assert client.post("/activations", json=body).status_code == 200
    touched(home.locate(sae.path) / "sae_weights.safetensors", "W_enc")
    for step in (
        {"kind": "evaluate", "sae": "tiny", "evaluation": EVALUATION},
        {"kind": "index", "sae": "tiny", "indexing": INDEXING},
    ):
        assert "have changed: W_enc" in bench.refused(**step)
    refused = client.post("/activations", json=body)
    assert refused.status_code == 422 and "have changed: W_enc" in refused.json()["detail"]
    reading = Interpretation(bench.settings, bench.engine, lambda *_: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(DataError, match="have changed: W_enc"):
        reading._texts("tiny")


def test_a_warm_host_of_the_inference_server_follows_its_files(bench: Bench) -> None:
    client = loopback_client(create_app(bench.settings))
    body = {
        "model": bench.spec["model"],
        "text": "The captain",
        "saes": [sae_call(bench.sae(), None).model_dump(mode="json")],
    }
    assert client.post("/activations", json=body).status_code == 200
    touched(bench.model / "model.safetensors", "model.layers.1.mlp.up_proj.weight")
    refused = client.post("/activations", json=body)
    assert refused.status_code == 422 and "weights of blocks.1" in refused.json()["detail"]


def test_text_and_model_of_an_sae_are_told_by_what_has_changed(bench: Bench) -> None:
    lines = bench.text.read_text()
    bench.text.write_text(lines + '{"text": "One more."}\n')
    evaluate = {"kind": "evaluate", "sae": "tiny", "evaluation": EVALUATION}
    assert "text file text.jsonl: 1 line more" in bench.refused(**evaluate)
    assert "1 line more" in bench.refused(kind="index", sae="tiny")
    asked_for = bench.run(kind="index", sae="tiny", text=bench.spec["text"])
    assert asked_for.state == "succeeded", "a text that is named is meant as it is now"
    bench.text.write_text(lines)
    assert bench.run(**evaluate).state == "succeeded"
    touched(bench.model / "model.safetensors", "model.norm.weight")
    assert "weights of model.norm" in bench.refused(**evaluate)


def test_rows_without_stamps_are_verified_and_get_them(bench: Bench) -> None:
    home = Workspace(bench.settings.artifacts)
    with transaction(bench.engine) as session:
        sae = session.scalars(select(Sae)).one()
        model = session.scalars(select(Model)).one()
        first = HostModel.load(parse_spec(bench.spec).model, home).sampled_fingerprint  # type: ignore[attr-defined]
        provenance = {k: v for k, v in sae.provenance.items() if k != "weights"}
        provenance["model"] = {k: v for k, v in provenance["model"].items() if k != "parts"}
        provenance["model"]["fingerprint"] = first
        sae.provenance = provenance
        model.info = {k: v for k, v in model.info.items() if k != "parts"} | {"fingerprint": first}
    evaluate = {"kind": "evaluate", "sae": "tiny", "evaluation": EVALUATION}
    file = home.locate(bench.sae().path) / "sae_weights.safetensors"
    kept = file.read_bytes()
    touched(file, "W_dec")
    assert "not those that it was indexed with" in bench.refused(**evaluate)
    file.write_bytes(kept)
    done = bench.run(**evaluate)
    assert done.state == "succeeded", done.error
    model_now = bench.sae().provenance["model"]
    assert model_now["first_fingerprint"] == first and model_now["parts"]
    assert bench.sae().provenance["weights"]["digest"]
    assert bench.run(**{**bench.spec, "name": "again"}).state == "succeeded"
    with transaction(bench.engine) as session:
        (row,) = session.scalars(select(Model))
    assert row.info["first_fingerprint"] == first and row.info["parts"]


def test_a_checkpoint_is_not_gone_on_from_with_another_model(bench: Bench, tmp_path: Path) -> None:
    spec = parse_spec(bench.spec)
    assert isinstance(spec, TrainRun)
    home = Workspace(tmp_path / "home")

    class Stopping(Reporter):
        def update(self, progress: StageProgress) -> None:
            if progress.name == "train" and progress.done > 500:
                raise Interrupted

    def train(reporter: Reporter) -> None:
        def load(model: Any) -> HostModel:
            return HostModel.load(model, home)

        stages.train(spec, tmp_path / "sae", tmp_path / "c", home, load, reporter)

    with pytest.raises(Interrupted):
        train(Stopping())
    assert list((tmp_path / "c").glob("step-*"))
    touched(bench.model / "model.safetensors", "model.layers.0.mlp.up_proj.weight")
    with pytest.raises(DataError, match=r"checkpoints .*weights of blocks.0.*delete"):
        train(Reporter())
    assert not (tmp_path / "sae" / "cfg.json").is_file()
