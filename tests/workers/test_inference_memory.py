"""What warm weights take, what is let go for others, and what happens when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from torch import nn
from transformers import AutoModelForCausalLM

from monosemy.formats.saelens import load_sae
from monosemy.models import memory
from monosemy.models.host import HostModel
from monosemy.models.memory import machine_bytes
from monosemy.saes.topk import TopKSAE
from monosemy.specs.inference.activations import SaeCall
from service.settings import Settings
from tests.support.loopback import loopback_client
from tests.support.planted_saes import Planted
from workers import inference_engine
from workers.inference import create_app
from workers.inference_engine import InferenceEngine
from workers.memory import default_budget, file_bytes, weight_bytes
from workers.prompts import Prompt

SITES = [f"blocks.{layer}.hook_resid_post" for layer in range(4)]
SAE_BYTES = 4 * (2 * 32 * 64 + 64 + 32)
"""Encoder, decoder and biases of a planted SAE."""


def host_bytes(planted: Planted) -> int:
    model: nn.Module = planted.host.model
    return sum(4 * each.numel() for each in (*model.parameters(), *model.buffers()))


def test_weights_are_counted_once(planted: Planted) -> None:
    sae = load_sae(planted.workspace.locate(planted.sae(SITES[0])["path"]))
    assert weight_bytes(sae) == SAE_BYTES
    tied = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    assert weight_bytes(tied) == 2 * 8 * 8 * 4
    tied[1].weight = tied[0].weight
    assert weight_bytes(tied) == 8 * 8 * 4
    tied[1].weight = nn.Parameter(tied[0].weight.detach().T)  # another view of the same memory
    assert weight_bytes(tied) == 8 * 8 * 4
    assert weight_bytes(planted.host.model) == host_bytes(planted)
    on_disk = file_bytes(Path(planted.model))
    assert 0.9 * host_bytes(planted) < on_disk < 1.1 * host_bytes(planted)


def test_the_budget_is_a_share_of_what_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert default_budget(torch.device("cpu")) == machine_bytes() // 2
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(limit), str(tmp_path / "absent")))
    whole = machine_bytes()
    limit.write_text("max\n")
    assert machine_bytes() == whole
    limit.write_text("1000000\n")
    assert machine_bytes() == 1_000_000


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders of SAEs, and names of host models, as they are loaded."""
    done: list[str] = []
    load, load_host = inference_engine.load_sae, HostModel.load

    def noted(folder: Path) -> Any:
        done.append(folder.name.removesuffix("-True"))
        return load(folder)

    def noted_host(*given: Any, **options: Any) -> Any:
        done.append("host")
        return load_host(*given, **options)

    monkeypatch.setattr(inference_engine, "load_sae", noted)
    monkeypatch.setattr(HostModel, "load", noted_host)
    return done


def read(engine: InferenceEngine, planted: Planted, *sites: str) -> dict[str, Any]:
    from monosemy.specs import ModelSpec

    saes = [SaeCall(id=site, path=planted.sae(site)["path"], site=site) for site in sites]
    prompt = Prompt("Grey whales", None)
    return engine.activations(ModelSpec.model_validate(planted.spec), saes, prompt, 4)


def test_the_least_recently_used_goes_when_the_budget_is_full(
    planted: Planted, loads: list[str]
) -> None:
    budget = host_bytes(planted) + 2 * SAE_BYTES
    engine = InferenceEngine(planted.workspace, "none", "cpu", budget + SAE_BYTES // 2)
    first = read(engine, planted, SITES[0])
    assert engine.warm_bytes == host_bytes(planted) + SAE_BYTES
    read(engine, planted, SITES[1])
    read(engine, planted, SITES[0])
    assert loads == ["host", SITES[0], SITES[1]]
    read(engine, planted, SITES[2])  # SITES[1] is the oldest
    assert engine.warm_bytes == budget
    assert read(engine, planted, SITES[0]) == first
    read(engine, planted, SITES[1])
    assert loads == ["host", SITES[0], SITES[1], SITES[2], SITES[1]]


def test_what_one_request_needs_is_kept_beyond_the_budget(
    planted: Planted, loads: list[str]
) -> None:
    engine = InferenceEngine(planted.workspace, "none", "cpu", 1)
    for _ in range(2):
        read(engine, planted, *SITES[:3])
    assert loads == ["host", *SITES[:3]]
    assert engine.warm_bytes == host_bytes(planted) + 3 * SAE_BYTES
    read(engine, planted, SITES[3])
    assert engine.warm_bytes == host_bytes(planted) + SAE_BYTES


@pytest.fixture
def client(planted: Planted) -> Iterator[TestClient]:
    settings = Settings(home=planted.workspace.root.parent, log_level="WARNING")
    yield loopback_client(create_app(settings))


def asked(planted: Planted, site: str = SITES[0]) -> dict[str, Any]:
    return {"model": planted.spec, "saes": [planted.sae(site)], "text": "Grey whales"}


def allocate_too_much(*_: Any, **__: Any) -> Any:
    return torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_an_allocation_that_fails_midway_asks_to_come_back(
    planted: Planted, client: TestClient, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    before = client.post("/activations", json=asked(planted)).json()

    def fail(*_: Any) -> Any:
        if kind == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return allocate_too_much()

    monkeypatch.setattr(TopKSAE, "encode", fail)
    answer = client.post("/activations", json=asked(planted))
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["type"] == "urn:monosemy:problem:unavailable"
    assert "allocate" not in answer.text and "GiB" not in answer.text
    assert client.get("/healthz").status_code == 200
    monkeypatch.undo()
    assert client.post("/activations", json=asked(planted)).json() == before


def test_loading_that_finds_no_memory_lets_others_go_first(
    planted: Planted, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = InferenceEngine(planted.workspace, "none", "cpu", 1 << 40)
    for site in SITES[:2]:
        read(engine, planted, site)
    load = inference_engine.load_sae
    kept: list[int] = []

    def once(folder: Path) -> Any:
        kept.append(engine.warm_bytes)
        return allocate_too_much() if len(kept) == 1 else load(folder)

    monkeypatch.setattr(inference_engine, "load_sae", once)
    read(engine, planted, SITES[2])
    # Only the host, which this request needs, was left when it was tried again.
    assert len(kept) == 2 and kept[0] - kept[1] == 2 * SAE_BYTES
    assert engine.warm_bytes == host_bytes(planted) + SAE_BYTES


def test_a_model_that_never_fits_is_503_and_harms_nobody(
    planted: Planted, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_engine, "load_sae", allocate_too_much)
    for _ in range(2):
        answer = client.post("/activations", json=asked(planted))
        assert answer.status_code == 503 and answer.headers["retry-after"]
    monkeypatch.undo()
    assert client.post("/activations", json=asked(planted)).status_code == 200


def test_a_host_that_finds_no_memory_is_503_too(
    planted: Planted, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though loading tells of it as of a model that cannot be loaded."""
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", allocate_too_much)
    answer = client.post("/activations", json=asked(planted))
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"]
    monkeypatch.undo()
    assert client.post("/activations", json=asked(planted)).status_code == 200


def test_a_weights_file_that_does_not_fit_in_memory_is_503_too(
    planted: Planted, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monosemy.formats import folder

    monkeypatch.setattr(folder, "load_file", allocate_too_much)
    assert client.post("/activations", json=asked(planted)).status_code == 503
    monkeypatch.undo()
    assert client.post("/activations", json=asked(planted)).status_code == 200
