"""A CLIP text encoder through the worker: trained on, evaluated, indexed, a concept found in it and
taken out; what it cannot do is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import select

from monosemy.concepts.attach import deactivated_in
from monosemy.models.host import HostModel
from monosemy.sae_folder import SaeFolder
from monosemy.specs import ModelSpec, TextSpec, parse_spec
from monosemy.specs.rest.concepts import ConceptResult
from monosemy.workspace import Workspace
from service.app import create_app
from service.database.concept_tables import Concept
from service.database.session import transaction
from tests.support import run_acts as acts
from tests.support.concept_texts import RETAIN, TARGETS
from tests.support.loopback import loopback_client
from tests.support.tiny_clip import POSITIONS, captions, tiny_clip
from tests.support.trained_library import Trained
from workers.gpu import GpuRuns
from workers.inference import create_app as create_inference
from workers.worker import Worker

pytestmark = pytest.mark.integration

SITE = "blocks.1.hook_resid_post"


@pytest.fixture(scope="session")
def tiny_spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """In place of the language model's: what ``trained`` trains on."""
    home: Path = tmp_path_factory.mktemp("clip")
    tiny_clip(home / "text_encoder", "CLIPTextModelWithProjection")
    file = home / "captions.jsonl"
    file.write_text("".join(json.dumps({"text": each}) + "\n" for each in captions()), "utf-8")
    text = TextSpec(source=str(file), context_size=POSITIONS, heldout_fraction=0.2)
    return {
        "kind": "train",
        "name": "clip",
        "model": {"name": str(home / "text_encoder"), "dtype": "float32", "device": "cpu"},
        "text": text.model_dump(),
        "site": SITE,
        "sae": {"d_sae": 64, "k": 4, "dead_after_tokens": 20_000},
        "training": {
            "tokens": 20_000,
            "batch_tokens": 256,
            "buffer_tokens": 2048,
            "warmup_steps": 5,
            "learning_rate": 0.003,
        },
    }


@pytest.fixture(scope="module")
def whales(trained: Trained) -> ConceptResult:
    spec = {
        "kind": "concept",
        "name": "whales",
        "sae": "clip",
        "targets": TARGETS,
        "retain": RETAIN,
        "called": "grey whales",
        "others": ["a repaired bridge"],
        "top_k": 6,
        "scale": -8.0,
        "false_alarms": 0.2,
    }
    run = acts.submit(trained.engine, parse_spec(spec).model_dump(mode="json"))
    gpu = GpuRuns(trained.settings, trained.engine)
    assert Worker("gpu", trained.settings, gpu, trained.engine)._take_one()
    done = acts.load(trained.engine, run)
    assert done.state == "succeeded", done.error
    with transaction(trained.engine) as session:
        row = session.scalars(select(Concept).where(Concept.name == "whales")).one()
        return ConceptResult.model_validate(row.result)


def test_it_is_evaluated_without_losses_and_indexed_without_promoted_tokens(
    trained: Trained,
) -> None:
    with loopback_client(create_app(trained.settings)) as client:
        (model,) = client.get("/api/v1/models").json()["items"]
        assert model["info"]["architecture"] == "CLIPTextModelWithProjection"
        abilities = model["info"]["abilities"]
        assert (
            abilities["text_embedding"] == "pooled"
            and "text encoder" in abilities["reasons"]["logits"]
        )
        metrics = client.get("/api/v1/saes/clip").json()["metrics"]
        assert 0 < metrics["fvu"] < 1 and metrics.get("ce_clean") is None
        features = client.get("/api/v1/saes/clip/features?sort=density&order=desc").json()["items"]
        assert len(features) > 10
        shown = client.get(f"/api/v1/saes/clip/features/{features[0]['index']}").json()
        assert shown["evidence"]["promoted"] == [] and shown["examples"]
        text = " ".join(captions()).lower()
        for each in shown["examples"]:
            window = "".join(each["tokens"]).removesuffix("<|endoftext|>").strip()
            assert window in text, window


def test_a_concept_is_found_in_it_and_its_pooled_embedding_is_looked_at(
    whales: ConceptResult,
) -> None:
    assert whales.detectors[0].area.value is not None and whales.detectors[0].area.value > 0.6
    embeddings = whales.embeddings
    assert embeddings is not None and (embeddings.embedding, embeddings.width) == ("pooled", 24)
    assert embeddings.flagged_targets > 0 and embeddings.others == ["a repaired bridge"]
    assert [each.kind for each in embeddings.changes] == [
        *("nothing", "concept", "scale", "random", "leace"),
    ]
    rows = {each.kind: each for each in embeddings.changes}
    for kind in ("nothing", "concept", "scale", "random"):
        assert rows[kind].equal.value == 1.0  # type: ignore[index]
    assert rows["leace"].equal.value == 0.0 and rows["leace"].equal.n > 0
    assert rows["nothing"].cosine.value == pytest.approx(1.0)
    assert rows["concept"].cosine.value < 0.999  # type: ignore[operator]


def test_it_is_taken_out_of_the_encoder_as_a_pipeline_runs_it(
    trained: Trained, whales: ConceptResult
) -> None:
    workspace = Workspace(trained.settings.artifacts)
    host = HostModel.load(ModelSpec.model_validate(trained.spec["model"]), workspace)
    folder = SaeFolder(workspace.locate(str(trained.sae.path)), workspace)
    texts = [TARGETS[0], RETAIN[0], ""]
    padding = {"padding": "max_length", "max_length": POSITIONS, "return_tensors": "pt"}
    ids_BS = host.tokenizer(texts, **padding)["input_ids"]
    with torch.no_grad():
        before = host.model(ids_BS)
        with deactivated_in(folder.hosted(host), [whales.concept], padding=True) as attached:
            after = host.model(ids_BS)
    flagged = [held[0].flagged for held in attached.held]
    assert flagged[0] and not flagged[2]
    for row, on in enumerate(flagged):
        same = torch.equal(after.text_embeds[row], before.text_embeds[row])
        assert same is not on
        streams = before.last_hidden_state[row], after.last_hidden_state[row]
        assert torch.equal(*streams) is not on


def test_it_is_read_and_writes_nothing(trained: Trained, whales: ConceptResult) -> None:
    sae = {"id": str(trained.sae.id), "path": trained.sae.path, "site": SITE}
    asked = {"model": trained.spec["model"]}
    with loopback_client(create_inference(trained.settings)) as client:
        read = client.post("/activations", json={**asked, "saes": [sae], "text": "a clock"})
        assert read.status_code == 200, read.text
        assert [each["text"] for each in read.json()["tokens"]][-1] == "clock "
        steered = {**asked, "sae": sae, "prompt": "a clock", "pushes": []}
        steered |= {"concepts": [whales.concept.model_dump()], "writing": {"new_tokens": 2}}
        refused = client.post("/steer", json=steered)
        assert 400 <= refused.status_code < 500
        assert "predicts no tokens: it is a text encoder" in refused.json()["detail"]
