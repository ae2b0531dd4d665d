"""Every failure of the inference server reaches the caller with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from monosemy.errors import DataError
from monosemy.formats.saelens import save_sae
from monosemy.saes.registry import create
from monosemy.specs import TopKSpec
from monosemy.specs.inference.steering import PromptEvent, SteerEvent
from service.settings import Settings
from tests.support.loopback import loopback_client
from tests.support.tiny_models import tiny_from
from workers.inference import create_app
from workers.inference_engine import InferenceEngine

SITE = "blocks.1.hook_resid_post"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, inference_memory_mb=500, device="cpu")


def make_sae(settings: Settings, width: int = 32) -> dict[str, str]:
    sae = create(TopKSpec(d_sae=16, k=2), width)
    sae.initialise(torch.Generator().manual_seed(0))
    folder = settings.artifacts / "saes" / "tiny"
    save_sae(sae, folder, {"prepend_bos": True}, {"spec": {"kind": "train", "site": SITE}})
    return {"id": "tiny", "path": "saes/tiny", "site": SITE}


def bodies(sae: dict[str, str], model: str) -> dict[str, dict[str, Any]]:
    spec = {"name": model, "dtype": "float32", "device": "cpu"}
    push = {"latent": 3, "strength": 20.0}
    return {
        "/activations": {"saes": [sae], "model": spec, "text": "The captain."},
        "/tokenize": {"sae": sae, "model": spec, "text": "The captain."},
        "/contrast": {"sae": sae, "model": spec, "positive": ["a b"], "negative": ["c d"]},
        "/steer": {
            "sae": sae, "model": spec, "prompt": "The captain", "pushes": [push],
            "writing": {"new_tokens": 4, "temperature": 0.5},
        },
        "/embed": {"texts": ["x"]},
    }  # fmt: skip


_PATHS = ("/activations", "/tokenize", "/contrast", "/steer", "/embed")


@pytest.mark.parametrize("path", _PATHS)
@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ValueError("a shape is odd"), 500, "ValueError: a shape is odd"),
        (KeyError("absent"), 500, "KeyError: 'absent'"),
        (TypeError("no such keyword"), 500, "no such keyword"),
        (AttributeError("x has no y"), 500, "x has no y"),
        (StopIteration(), 500, "StopIteration"),
        (RuntimeError("mat1 and mat2"), 500, "mat1 and mat2"),
        (OSError(28, "No space left on device"), 500, "No space is left"),
        (MemoryError(), 503, "not enough memory"),
        (RuntimeError("CUDA out of memory"), 503, "not enough memory"),
        (DataError("too long"), 422, "too long"),
        (ValueError("sk-abcdefghijklmnopqrstuvwxyz123456"), 500, "ValueError"),
    ],
)
def test_an_error_of_any_type_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, path: str, error: Exception, status: int,
    words: str,
) -> None:  # fmt: skip
    def fail(*_args: Any) -> Any:
        raise error

    monkeypatch.setattr(InferenceEngine, path.removeprefix("/"), fail)
    body = bodies({"id": "x", "path": "saes/x", "site": SITE}, "tiny")[path]
    answer = loopback_client(create_app(settings)).post(path, json=body)
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert "sk-abc" not in answer.text


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("odd"), 500), (MemoryError(), 503), (DataError("odd"), 422)]
)
def test_an_error_within_a_stream_ends_it_with_its_reason(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def events(*_args: Any) -> Iterator[SteerEvent]:
        yield PromptEvent(text="x", tokens=1)
        raise error

    monkeypatch.setattr(InferenceEngine, "steer", events)
    asked = bodies({"id": "x", "path": "saes/x", "site": SITE}, "tiny")["/steer"]
    answer = loopback_client(create_app(settings)).post("/steer", json=asked)
    last = json.loads(answer.text.splitlines()[-1])
    assert (last["event"], last["status"]) == ("error", status)
    assert "odd" in last["detail"] or status == 503


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 2}),
        ("OpenAIGPTConfig", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
        (
            "RwkvConfig",
            {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
        ),
    ],
)
def test_models_without_a_cache_are_read_and_steered(
    settings: Settings, tiny_tokenizer: Any, tmp_path: Path, config: str, options: Any
) -> None:
    folder = tmp_path / "model"
    tiny_from(config, 400, options).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    client = loopback_client(create_app(settings))
    asked = bodies(make_sae(settings), str(folder))
    for path in ("/activations", "/contrast", "/tokenize"):
        answer = client.post(path, json=asked[path])
        assert answer.status_code == 200, answer.text
    events = [
        json.loads(line) for line in client.post("/steer", json=asked["/steer"]).text.splitlines()
    ]
    assert events[0]["event"] == "prompt" and events[-1]["event"] == "end", events[-1]
    assert {event["row"] for event in events if event["event"] == "token"} == {"steered", "plain"}


def test_a_model_that_is_refused_says_why(
    settings: Settings, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    options = {
        "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4,
    }  # fmt: skip
    tiny_tokenizer.save_pretrained(tmp_path / "bert")
    tiny_from("BertConfig", 400, options, "AutoModelForMaskedLM").save_pretrained(tmp_path / "bert")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    options["num_key_value_heads"] = 2
    tiny_from("LlamaConfig", 400, options, "AutoModel").save_pretrained(tmp_path / "base")
    client = loopback_client(create_app(settings))
    sae = make_sae(settings)
    for path in ("/activations", "/steer"):
        answer = client.post(path, json=bodies(sae, str(tmp_path / "bert"))[path])
        assert answer.status_code == 422 and "not causal" in answer.json()["detail"]
    asked = bodies(sae, str(tmp_path / "base"))
    assert client.post("/activations", json=asked["/activations"]).status_code == 200
    answer = client.post("/steer", json=asked["/steer"])
    assert answer.status_code == 422, answer.text
    assert "predicts no tokens: its files hold no unembedding" in answer.json()["detail"]
