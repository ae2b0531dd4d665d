"""The attention lens on the inference server: planted SAEs against the host model's activations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from monosemy.specs.inference.attention import MAX_ATTENTION_TOKENS
from service.settings import Settings
from tests.support.loopback import loopback_client
from tests.support.planted_saes import Planted
from workers.inference import create_app

SITE, STREAM = "blocks.2.attn.hook_z", "blocks.2.hook_resid_pre"
TEXT = "Dr. Müller counted two grey whales in the bay."


@pytest.fixture(scope="module")
def client(planted: Planted) -> Iterator[TestClient]:
    settings = Settings(home=planted.workspace.root.parent, log_level="WARNING")
    yield loopback_client(create_app(settings))


def body(planted: Planted, *through: str, bos: bool = True, **changes: Any) -> dict[str, Any]:
    return {
        "sae": planted.sae(SITE, bos),
        "through": [planted.sae(site) for site in through],
        **{"model": planted.spec, "text": TEXT, "top_k": 3},
        **changes,
    }


def asked(client: TestClient, question: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/attention", json=question)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def walked(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for each in part["parts"] or ():
        yield each
        yield from walked(each)


def test_each_latent_is_one_number_of_z(planted: Planted, client: TestClient) -> None:
    """Latent j of the basis SAE is z_j, so that one head of width 8 brings all of it."""
    found = asked(client, body(planted, tokens=[3, 7]))
    ids = [0, *planted.host.tokenizer(TEXT, add_special_tokens=False)["input_ids"]]
    z_ND = planted.codes(ids, SITE, 1)
    assert len(found["tokens"]) == len(ids) - 1 and found["bos"]["text"] == "<s>"
    assert (found["layer"], found["heads"], len(found["features"])) == (2, 4, 6)
    for each in found["features"]:
        value = float(z_ND[each["token"], each["index"]])
        assert each["activation"] == pytest.approx(value, rel=1e-4)
        assert each["pre"] == pytest.approx(value, rel=1e-4)
        own = each["index"] % 32 // 8
        assert each["by_head"][own] == pytest.approx(value, rel=1e-4)
        assert sum(abs(v) for n, v in enumerate(each["by_head"]) if n != own) < 1e-6
        assert len(each["by_source"]) == each["token"] + 1
        whole = sum(each["by_source"]) + each["bos"]
        assert whole == pytest.approx(value, rel=1e-4)
        assert abs(each["rounding"]) <= 1e-5 * max(abs(value), 1)
        assert each["parts"] is None
        assert {head for head, _, value in each["cells"] if abs(value) > 1e-6} == {own}
        assert {source for _, source, _ in each["cells"]} <= {*range(-1, each["token"] + 1)}


def test_steps_back_go_through_the_saes_named(planted: Planted, client: TestClient) -> None:
    question = body(planted, STREAM, "blocks.1.attn.hook_z", depth=4, top_k=1, listed=4)
    (each,) = asked(client, question)["features"]
    assert sum(part["value"] for part in each["parts"]) == pytest.approx(each["pre"], rel=1e-5)
    parts = list(walked(each))
    assert {part["sae"] for part in parts if part["kind"] == "feature"} == {1, 2}
    assert {"source", "feature", "mlp", "attention", "embedding"} <= {p["kind"] for p in parts}
    assert min(part["token"] for part in parts if part["token"] is not None) == -1
    for part in parts:
        if part["parts"] is not None:
            made = sum(below["value"] for below in part["parts"])
            assert made == pytest.approx(part["value"], rel=1e-4, abs=1e-6)


def test_a_pair_is_the_attention_of_the_host(planted: Planted, client: TestClient) -> None:
    question = body(planted, pair={"head": 1, "token": 5, "source": -1}, depth=0)
    found = asked(client, question)["pair"]
    model, tokenizer = planted.host.model, planted.host.tokenizer
    ids = [0, *tokenizer(TEXT, add_special_tokens=False)["input_ids"]]
    model.set_attn_implementation("eager")
    with torch.no_grad():
        patterns = model(torch.tensor([ids]), output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    assert found["weight"] == pytest.approx(float(patterns[2][0, 1, 6, 0]), abs=1e-4)
    for side in ("query", "key"):
        assert sum(each["score"] for each in found[side]) == pytest.approx(found["score"], abs=1e-4)
        beyond = found["score"] - found["average"]
        assert sum(each["relative"] for each in found[side]) == pytest.approx(beyond, abs=1e-4)
    by_feature = asked(client, {**question, "through": [planted.sae(STREAM)]})["pair"]
    assert by_feature["score"] == pytest.approx(found["score"], rel=1e-5)
    assert {each["sae"] for each in by_feature["key"] if each["kind"] == "feature"} == {1}


@pytest.mark.parametrize("listed", [1, 4, 50])
@pytest.mark.parametrize("with_sae", [True, False], ids=["features", "written"])
def test_the_tables_of_a_pair_add_up_and_its_pairs_are_the_largest(
    planted: Planted, client: TestClient, with_sae: bool, listed: int
) -> None:
    behind = (STREAM,) if with_sae else ()
    question = body(planted, *behind, pair={"head": 1, "token": 5, "source": 2})
    every = asked(client, {**question, "listed": 50})["pair"]
    pair = asked(client, {**question, "listed": listed})["pair"]
    beyond = pair["score"] - pair["average"]
    for rows in (pair["query"], pair["key"], pair["groups"]):
        assert sum(each["score"] for each in rows) == pytest.approx(pair["score"], abs=1e-5)
        assert sum(each["relative"] for each in rows) == pytest.approx(beyond, abs=1e-5)
    for share in ("share", "relative_share"):
        assert sum(each[share] for each in pair["groups"]) == pytest.approx(1, abs=1e-5)
        assert all(0 <= each[share] <= 1 for each in pair["groups"])
    groups = {"features", "error", "bias"} if with_sae else {"written", "bias", "rounding"}
    assert {each["query"] for each in pair["groups"]} == groups
    sizes = [abs(each[3]) for each in pair["pairs"]]
    assert len(sizes) == listed or listed == 50
    assert sizes == sorted(sizes, reverse=True)
    assert sizes == [abs(each[3]) for each in every["pairs"]][:listed]
    for q, k, _, _ in pair["pairs"]:
        assert pair["query"][q]["kind"] != "other" and pair["key"][k]["kind"] != "other"


def test_a_chat_and_an_sae_without_bos(planted: Planted, client: TestClient) -> None:
    chat = {"text": None, "messages": [{"role": "user", "content": "Whales?"}]}
    assert asked(client, body(planted, **chat))["features"]
    found = asked(client, body(planted, bos=False))
    assert found["bos"] is None and {each["bos"] for each in found["features"]} == {None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": "a"}, "The prompt has 1 token; at least 2"),
        ({"text": "whales " * 300}, "can be read"),
        ({"tokens": [99]}, "tokens: the prompt has tokens 0 to"),
        ({"features": [64]}, "this SAE has 0 to 63"),
        ({"pair": {"head": 4, "source": 0}}, "heads 0 to 3"),
        ({"pair": {"head": 0, "token": 2, "source": 5}}, "a token looks back"),
        ({"pair": {"head": 0, "source": 500}}, "pair.source: the prompt has tokens"),
    ],
)
def test_bad_questions_are_refused(
    planted: Planted, client: TestClient, changes: dict[str, Any], words: str
) -> None:
    answer = client.post("/attention", json=body(planted, **changes))
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["detail"]


def test_a_feature_that_does_not_fire_is_refused_with_those_that_do(
    planted: Planted, client: TestClient
) -> None:
    (fires,) = asked(client, body(planted, top_k=1))["features"]
    silent = (fires["index"] + 32) % 64
    answer = client.post("/attention", json=body(planted, features=[silent]))
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert f"{silent} does not fire at token" in detail and f"there: {fires['index']}," in detail


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sae": "blocks.2.hook_resid_post"}, "has no heads"),
        ({"through": ["blocks.1.hook_mlp_out"]}, "not the stream"),
        ({"through": [STREAM, "blocks.1.hook_resid_post"]}, "Two SAEs stand at blocks.2"),
        ({"bos": False, "pair": {"head": 0, "source": -1}}, "no BOS was read"),
    ],
)
def test_saes_in_the_wrong_place_are_refused(
    planted: Planted, client: TestClient, changes: dict[str, Any], words: str
) -> None:
    question = body(planted, *changes.pop("through", ()), bos=changes.pop("bos", True))
    if "sae" in changes:
        changes = {"sae": planted.sae(changes["sae"])}
    answer = client.post("/attention", json={**question, **changes})
    assert answer.status_code == 422 and words in answer.json()["detail"], answer.text


def test_the_longest_prompt_is_below_what_the_server_reads() -> None:
    from workers.warm_host import MAX_TOKENS

    assert MAX_ATTENTION_TOKENS < MAX_TOKENS
