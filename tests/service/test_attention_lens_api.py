"""POST /inference/attention: what is sent on, how features get their labels, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.database.session import transaction
from tests.support.lens_rows import ANSWER, STREAM_SITE, add_attention_sae
from tests.support.library_rows import Library, add_library

pytestmark = pytest.mark.integration

URL = "/api/v1/inference/attention"
TEXT = {"text": "the king sat."}


@pytest.fixture(scope="module", autouse=True)
def heads(module_engine: Engine, library: Library) -> None:
    with transaction(module_engine) as session:
        add_attention_sae(session, library)
        add_attention_sae(session, library, "below", "blocks.1.attn.hook_z")
        add_attention_sae(session, library, "mlp", "blocks.1.hook_mlp_out")
        add_library(session, "elsewhere", 3)


def test_parts_come_with_labels_and_saes(
    client: TestClient, inference: Any, library: Library
) -> None:
    inference.answer = ANSWER
    asked = {**TEXT, "sae": "heads", "residual_sae": "demo", "through": ["below"], "depth": 2}
    pair = {"head": 1, "token": 2, "source": 0}
    answer = client.post(URL, json={**asked, "pair": pair, "tokens": [2], "listed": 3})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [each["name"] for each in body["saes"]] == ["heads", "demo", "below"]
    assert body["sae"]["name"] == "heads" and body["sae"]["site"] == "blocks.2.attn.hook_z"
    first = body["features"][0]
    total = sum(first["by_head"]) + sum(first["bias_by_head"]) + first["b_enc"] + first["b_dec"]
    assert total == pytest.approx(first["pre"])
    assert sum(first["by_source"]) + first["bos"] == pytest.approx(sum(first["by_head"]))
    assert first["label"] == 'token " king" (90 %)'
    behind = first["parts"][0]["parts"][0]
    assert (behind["sae"], behind["feature"], behind["label"]) == (1, 3, 'token " king" (90 %)')
    assert body["pair"]["query"][0]["label"] == 'token " king" (90 %)'
    assert body["pair"]["key"][0]["label"] is None
    ((path, sent),) = inference.requests
    assert path == "/attention"
    assert sent["sae"]["site"] == "blocks.2.attn.hook_z"
    assert [each["site"] for each in sent["through"]] == [STREAM_SITE, "blocks.1.attn.hook_z"]
    wanted = {"tokens": [2], "depth": 2, "listed": 3, "features": None, "top_k": 5}
    assert {name: sent[name] for name in wanted} == wanted
    assert sent["pair"] == pair


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"sae": "demo"}, "sae", "has no heads; take one on attn.hook_z"),
        ({"residual_sae": "mlp"}, "residual_sae", "take one on blocks.2.hook_resid_pre or"),
        ({"residual_sae": "below"}, "residual_sae", "reads blocks.1.attn.hook_z"),
        ({"through": ["heads"]}, "through.0", "of a block below 2"),
        ({"through": ["mlp"]}, "through.0", "reads blocks.1.hook_mlp_out"),
        ({"residual_sae": "elsewhere"}, "residual_sae", "its host model is 'tiny-elsewhere'"),
        ({"tokens": []}, "tokens", "at least 1"),
        ({"tokens": [1, 1]}, "", "tokens names something twice"),
        ({"tokens": [-1]}, "tokens.0", "greater than or equal to 0"),
        ({"depth": 7}, "depth", "less than or equal to 6"),
        ({"top_k": 0}, "top_k", "greater than or equal to 1"),
        ({"pair": {"head": 1}}, "pair.source", "required"),
        ({"pair": {"head": 1, "source": -2}}, "pair.source", "greater than or equal to -1"),
        ({"messages": [{"role": "user", "content": "x"}]}, "", "text or messages"),
        ({"tokns": [1]}, "tokns", "did you mean 'tokens'"),
    ],
)
def test_bad_questions_are_refused_at_their_field(
    client: TestClient, inference: Any, changes: dict[str, Any], path: str, words: str
) -> None:
    answer = client.post(URL, json={**TEXT, "sae": "heads", **changes})
    assert answer.status_code == 422, answer.text
    (fault,) = answer.json()["errors"]
    assert fault["path"] == path and words in fault["message"]
    assert inference.requests == []


def test_what_the_inference_server_refuses_is_passed_on(client: TestClient, inference: Any) -> None:
    inference.status = 422
    inference.answer = {"detail": "features: 3 does not fire at token 1 (' sat')."}
    answer = client.post(URL, json={**TEXT, "sae": "heads", "features": [3]})
    assert answer.status_code == 422
    assert "does not fire at token 1" in answer.json()["detail"]


def test_an_sae_that_is_not_there_and_an_answer_of_another_form(
    client: TestClient, inference: Any
) -> None:
    assert client.post(URL, json={**TEXT, "sae": "nobody"}).status_code == 404
    inference.answer = {**ANSWER, "layer": "2"}
    answer = client.post(URL, json={**TEXT, "sae": "heads"})
    assert answer.status_code == 503 and "layer" in answer.json()["detail"]
