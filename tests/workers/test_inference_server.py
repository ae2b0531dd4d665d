"""The warm inference server against the library's own computation."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from monosemy.formats.saelens import load_sae
from monosemy.interp.embedder import Embedder
from monosemy.models.host import HostModel
from monosemy.workspace import Workspace
from tests.support.loopback import loopback_client
from tests.support.trained_library import SITE, Trained
from workers import inference_engine
from workers.inference import create_app

pytestmark = pytest.mark.integration

TEXT = "The clockmaker repaired a map of stars (日本語) before sunrise — naïve 👩‍🚀."


@pytest.fixture(scope="module")
def client(trained: Trained) -> TestClient:
    return loopback_client(create_app(trained.settings))


def body(trained: Trained, text: str = TEXT, **changes: Any) -> dict[str, Any]:
    sae = {"id": str(trained.sae.id), "path": trained.sae.path, "site": SITE}
    return {
        "saes": [{**sae, **changes.pop("sae", {}), "features": changes.pop("features", None)}],
        "model": trained.spec["model"],
        "text": text,
        "top_k": 3,
        **changes,
    }


def features(body: dict[str, Any]) -> list[dict[int, float]]:
    """Feature to activation, by token, strongest first."""
    (of_sae,) = body["saes"]
    return [dict(pairs) for pairs in of_sae["features"]]


def directly(trained: Trained, host: HostModel, text: str) -> list[dict[int, float]]:
    """Feature to activation, by token, computed with the library alone."""
    sae = load_sae(Workspace(trained.settings.artifacts).locate(trained.sae.path))
    assert host.bos_id is not None
    ids = host.tokenizer(text, add_special_tokens=False)["input_ids"]
    row = torch.tensor([[host.bos_id, *ids]])
    acts = host.capture(row, torch.ones_like(row), [SITE])[SITE][0, 1:]
    codes = sae.encode(acts.float())
    pairs = zip(codes.indices.tolist(), codes.values.tolist(), strict=True)
    return [
        {i: v for i, v in zip(indices, values, strict=True) if v > 0} for indices, values in pairs
    ]


def test_activations_are_those_of_the_library(
    trained: Trained, client: TestClient, tiny_host: HostModel
) -> None:
    answer = client.post("/activations", json=body(trained, top_k=64))
    assert answer.status_code == 200, answer.text
    response = answer.json()
    ids = tiny_host.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert [token["id"] for token in response["tokens"]] == ids  # without BOS
    assert "".join(token["text"] for token in response["tokens"]) == TEXT
    expected = directly(trained, tiny_host, TEXT)
    for got, want in zip(features(response), expected, strict=True):
        assert got == pytest.approx(want, rel=1e-4)
        assert list(got.values()) == sorted(got.values(), reverse=True)
    assert any(expected)


def test_the_strongest_or_the_chosen(trained: Trained, client: TestClient) -> None:
    everything = features(client.post("/activations", json=body(trained, top_k=64)).json())
    top = features(client.post("/activations", json=body(trained, top_k=2)).json())
    assert [list(token) for token in top] == [list(token)[:2] for token in everything]
    chosen = [next(iter(everything[0])), list(everything[-1])[-1]]
    # Those chosen are all shown, whatever top_k says.
    some = client.post("/activations", json=body(trained, top_k=1, features=chosen)).json()
    assert features(some) == [
        {i: v for i, v in token.items() if i in chosen} for token in everything
    ]
    rows = [[token.get(index, 0.0) for token in everything] for index in chosen]
    assert some["saes"][0]["chosen"] == rows


def test_bos_is_put_as_the_training_did(trained: Trained, client: TestClient) -> None:
    """The same weights, trained without BOS as their folder says, see another text."""
    workspace = Workspace(trained.settings.artifacts)
    source = workspace.locate(trained.sae.path)
    copy = workspace.root / "saes" / "without-bos"
    shutil.copytree(source, copy, dirs_exist_ok=True)
    config = (copy / "cfg.json").read_text()
    assert '"prepend_bos": true' in config
    (copy / "cfg.json").write_text(config.replace('"prepend_bos": true', '"prepend_bos": false'))
    sae = {"id": "x", "path": "saes/without-bos", "site": SITE}
    plain = client.post("/activations", json=body(trained, sae=sae))
    usual = client.post("/activations", json=body(trained))
    assert plain.status_code == 200, plain.text
    assert plain.json()["tokens"] == usual.json()["tokens"]
    assert features(plain.json()) != features(usual.json())


def test_many_at_once_never_mix(trained: Trained, client: TestClient, tiny_host: HostModel) -> None:
    """Two threads, texts of different lengths: every answer is the one of its own text."""
    texts = [f"{'Dr. Müller counted grey whales. ' * (1 + n % 5)}{n}" for n in range(24)]
    expected = {text: directly(trained, tiny_host, text) for text in texts}

    def ask(text: str) -> tuple[str, Any]:
        return text, client.post("/activations", json=body(trained, text, top_k=64)).json()

    with ThreadPoolExecutor(4) as pool:
        for text, answer in pool.map(ask, texts):
            assert "".join(token["text"] for token in answer["tokens"]) == text
            for got, want in zip(features(answer), expected[text], strict=True):
                assert got == pytest.approx(want, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"sae": {"id": "x", "path": "saes/none", "site": SITE}}, 404, "no SAE folder"),
        ({"sae": {"id": "x", "path": "../../etc", "site": SITE}}, 422, "outside"),
        ({"text": ""}, 422, "text"),
        ({"text": "word " * 400}, 422, "1 to 255 can be read"),  # the tiny model reads 256
        ({"features": [64]}, 422, "0 to 63"),
        ({"model": {"name": "/no/such/model"}}, 422, "/no/such/model"),
        ({"surplus": 1}, 422, "surplus"),
        ({"saes": []}, 422, "saes"),
        ({"text": None}, 422, "one of them"),
        ({"messages": [{"role": "user", "content": "x"}]}, 422, "one of them"),
    ],
)
def test_what_cannot_be_served_is_said(
    trained: Trained, client: TestClient, changes: dict[str, Any], status: int, words: str
) -> None:
    answer = client.post("/activations", json=body(trained, **changes))
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


def test_an_unknown_site_names_those_there_are(trained: Trained, client: TestClient) -> None:
    sae = {"id": "x", "path": trained.sae.path, "site": "blocks.9.hook_resid_post"}
    answer = client.post("/activations", json=body(trained, sae=sae))
    assert answer.status_code == 422
    assert "blocks 0-3" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 503),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: tried 2 GiB"), 503),
        (OSError(12, "Cannot allocate memory"), 503),
        (MemoryError(), 503),
        (RuntimeError("shapes do not fit"), 500),
    ],
)
def test_memory_that_runs_out_asks_to_come_back(
    trained: Trained,
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(inference_engine, "activations", fail)
    answer = client.post("/activations", json=body(trained))
    assert answer.status_code == status
    assert ("retry-after" in answer.headers) == (status == 503)
    # A lack of memory is told in our words, a fault with its reason.
    assert "2 GiB" not in answer.text
    assert ("shapes do not fit" in answer.text) == (status == 500)
    monkeypatch.undo()
    assert client.post("/activations", json=body(trained)).status_code == 200


def test_embeddings_are_those_of_the_library(client: TestClient) -> None:
    texts = ["the harbour at night", "whales", "the harbour by night"]
    answer = client.post("/embed", json={"texts": texts})
    assert answer.status_code == 200, answer.text
    body = np.array(answer.json()["embeddings"])
    assert body.shape == (3, 384)
    assert np.allclose(body, Embedder.load("all-minilm-l6-v2").embed(texts), atol=1e-5)
    assert body[0] @ body[2] > 0.9 > body[0] @ body[1]


def test_health(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
