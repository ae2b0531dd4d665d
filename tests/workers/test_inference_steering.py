"""Steering on the inference server, against the library; and nobody sees another's pushes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from monosemy.formats.saelens import load_sae
from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.edits import Interventions
from monosemy.interventions.generation import Generation, generate
from monosemy.interventions.intervention import steer
from monosemy.models.host import HostModel
from monosemy.workspace import Workspace
from tests.support.loopback import loopback_client
from tests.support.trained_library import SITE, Trained
from tests.support.written import beside
from workers import steered_text
from workers.inference import create_app

pytestmark = pytest.mark.integration

PROMPT = "The clockmaker repaired"


@pytest.fixture(scope="module")
def client(trained: Trained) -> TestClient:
    return loopback_client(create_app(trained.settings))


def body(trained: Trained, **changes: Any) -> dict[str, Any]:
    return {
        "sae": {"id": str(trained.sae.id), "path": trained.sae.path, "site": SITE},
        "model": trained.spec["model"],
        "prompt": PROMPT,
        "pushes": [{"latent": 5, "strength": 30.0}],
        "writing": {"new_tokens": 12, "temperature": 0.9, "seed": 4, "logprobs": 3},
        **changes,
    }


def events(client: TestClient, asked: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post("/steer", json=asked)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def texts(events: list[dict[str, Any]]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for event in events:
        if event["event"] == "token":
            rows.setdefault(event["row"], []).append(event["id"])
    return rows


def directly(trained: Trained, host: HostModel, latent: int, seed: int) -> dict[str, list[int]]:
    sae = load_sae(Workspace(trained.settings.artifacts).locate(trained.sae.path))
    hosted = HostedSAE.at(host, sae.requires_grad_(False), SITE)
    pushes = Interventions([steer(latent, 30.0)], hosted)
    assert host.bos_id is not None
    ids = [host.bos_id, *host.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]]
    steps = list(
        generate(host, beside(ids, pushes, None, seed=seed), Generation(12, 0.9, logprobs=3))
    )
    columns = zip(*steps, strict=True)
    named = zip(("steered", "plain"), columns, strict=True)
    return {name: [each.token for each in row if each is not None] for name, row in named}


def test_it_writes_what_the_library_writes(
    trained: Trained, client: TestClient, tiny_host: HostModel
) -> None:
    received = events(client, body(trained))
    assert received[0] == {
        "event": "prompt",
        "text": f"<s>{PROMPT}",
        "tokens": 1 + len(tiny_host.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]),
        "pushed": len(tiny_host.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]),
        "concepts": [],
    }
    expected = directly(trained, tiny_host, 5, 4)
    assert texts(received) == expected and expected["steered"] != expected["plain"]
    assert received[-1]["event"] == "end" and set(received[-1]) == {"event", "steered", "plain"}
    for row, ids in expected.items():
        written = [e["text"] for e in received if e["event"] == "token" and e["row"] == row]
        assert "".join(written) == tiny_host.token_bytes().decode(ids)
    assert all(len(e["top"]) == 3 for e in received if e["event"] == "token")
    alone = events(client, body(trained, compare=False))
    assert texts(alone) == {"steered": expected["steered"]}


def test_many_at_once_never_mix(trained: Trained, client: TestClient, tiny_host: HostModel) -> None:
    """Pushes of different latents and plain activations, turn by turn on one host model."""
    expected = {latent: directly(trained, tiny_host, latent, latent) for latent in range(6)}
    read = {
        "saes": [body(trained)["sae"]],
        "model": trained.spec["model"],
        "text": "Grey whales were counted.",
    }
    before = client.post("/activations", json=read).json()

    def ask(number: int) -> bool:
        if number % 3 == 2:
            return bool(client.post("/activations", json=read).json() == before)
        latent = number % 6
        writing = {**body(trained)["writing"], "seed": latent}
        pushes = [{"latent": latent, "strength": 30.0}]
        received = events(client, body(trained, pushes=pushes, writing=writing))
        return texts(received) == expected[latent]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(24)))


def test_a_chat_goes_through_the_models_template(
    trained: Trained, client: TestClient, tiny_host: HostModel
) -> None:
    chat = [{"role": "user", "content": "Who counted the whales?"}]
    asked = body(trained, prompt=None, messages=chat)
    refused = client.post("/steer", json=asked)
    if getattr(tiny_host.tokenizer, "chat_template", None):
        assert refused.status_code == 200
    else:
        assert refused.status_code == 422 and "no chat template" in refused.json()["detail"]


def test_only_what_is_chosen_is_pushed(trained: Trained, client: TestClient) -> None:
    """Where nothing is at the places both texts are the same; the first event counts them."""

    def received(**places: Any) -> list[dict[str, Any]]:
        return events(client, body(trained, writing={**body(trained)["writing"], **places}))

    everywhere = received()
    assert texts(everywhere)["steered"] != texts(everywhere)["plain"]
    special = received(where="special")
    assert special[0]["pushed"] == 0
    if not {0, 1, 2} & set(texts(special)["steered"]):
        assert texts(special)["steered"] == texts(special)["plain"]
    last = received(where="range", range={"first": -1})
    assert last[0]["pushed"] == 1 and last[0]["tokens"] == everywhere[0]["tokens"]
    generated = received(where="generated")
    both = [each for each in generated if each["event"] == "token"][:2]
    assert generated[0]["pushed"] == 0 and both[0]["logprob"] == both[1]["logprob"]
    assert texts(generated)["steered"] != texts(generated)["plain"]
    # What older callers send means what it did.
    for old in ({"where": "all"}, {"where": "all", "special_tokens": True}):
        assert texts(received(**old)) == texts(everywhere)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"pushes": [{"latent": 64, "strength": 1.0}]}, 422, "none is number 64"),
        ({"prompt": "word " * 400}, 422, "can hold 256"),
        ({"prompt": None}, 422, "one of them"),
        ({"messages": [{"role": "user", "content": "x"}]}, 422, "one of them"),
        ({"pushes": [{"latent": 1, "strength": "nan"}]}, 422, "strength"),
        ({"writing": {"new_tokens": 300}}, 422, "can hold 256"),
        ({"writing": {"where": "range", "range": {"first": 90}}}, 422, "Position 90 is beyond"),
        ({"writing": {"where": "range", "range": {"last": 0}}}, 422, "nothing but BOS"),
        ({"writing": {"where": "tokens", "tokens": {"texts": ["xyzzy"]}}}, 422, "is 'xyzzy'"),
        ({"writing": {"where": "tokens", "tokens": {"ids": [4000]}}}, 422, "no token 4000"),
        ({"sae": {"id": "x", "path": "saes/none", "site": SITE}}, 404, "no SAE folder"),
    ],
)
def test_what_cannot_be_done_is_said_by_the_status(
    trained: Trained, client: TestClient, changes: dict[str, Any], status: int, words: str
) -> None:
    answer = client.post("/steer", json=body(trained, **changes))
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]


def test_memory_that_runs_out_midway_ends_the_stream(
    trained: Trained, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*given: Any) -> Any:
        steps = generate(*given)
        yield next(steps)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(steered_text, "generate", breaks)
    received = events(client, body(trained))
    assert [e["event"] for e in received] == ["prompt", "token", "token", "error"]
    assert "2 GiB" not in received[-1]["detail"]
    monkeypatch.undo()
    assert events(client, body(trained))[-1]["event"] == "end"
