"""Contrasts on the inference server: planted SAEs against the host model's own activations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from monosemy.interp.contrast import contrast
from monosemy.saes.codes import Codes
from service.settings import Settings
from tests.support.loopback import loopback_client
from tests.support.planted_saes import Planted
from workers import contrasting, warm_host
from workers.contrasting import pool
from workers.inference import create_app
from workers.warm_host import WarmHost

SITE = "blocks.2.hook_resid_post"
WHALES = [f"Dr. Müller counted {n} grey whales in the bay." for n in ("two", "nine", "sixty")]
CLOCKS = [
    f"The clockmaker repaired a {n} before sunrise." for n in ("map", "very old clock", "bell")
]


@pytest.fixture(scope="module")
def client(planted: Planted) -> Iterator[TestClient]:
    settings = Settings(home=planted.workspace.root.parent, log_level="WARNING")
    yield loopback_client(create_app(settings))


def body(planted: Planted, **changes: Any) -> dict[str, Any]:
    return {
        "sae": planted.sae(SITE),
        "model": planted.spec,
        "positive": WHALES,
        "negative": CLOCKS,
        "top": 64,
        **changes,
    }


def directly(planted: Planted, rows: list[list[int]], pooling: str, statistic: Any) -> Any:
    """The library's contrast of the host model's own activations, each text read alone."""
    codes = [planted.codes(ids, SITE, 1) for ids in rows]
    pooled = [each.mean(0) if pooling == "mean" else each.amax(0) for each in codes]
    values = torch.stack(pooled).double().numpy()
    return contrast(
        values, np.arange(len(rows)) < len(WHALES), np.arange(64), statistic, 64, with_values=True
    )


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("statistic", ["standardised", "auroc", "share"])
def test_it_is_that_of_the_library(
    planted: Planted, client: TestClient, pooling: str, statistic: str
) -> None:
    asked = body(planted, pooling=pooling, statistic=statistic)
    plain = client.post("/contrast", json=asked).json()
    answer = client.post("/contrast", json={**asked, "values": True})
    assert answer.status_code == 200, answer.text
    response = answer.json()
    tokenizer, bos = planted.host.tokenizer, planted.host.bos_id
    rows = [
        [bos, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in WHALES + CLOCKS
    ]
    expected = directly(planted, rows, pooling, statistic)
    assert (response["relabellings"], response["exact"]) == (20, True)
    assert response["tokens"] == sum(len(row) - 1 for row in rows)
    for side in ("positive", "negative"):
        by_feature = {each.feature: each.model_dump() for each in getattr(expected, side)}
        assert {each["feature"] for each in response[side]} == set(by_feature)
        for each, without in zip(response[side], plain[side], strict=True):
            assert without == {**each, "values": None}
            own = by_feature[each["feature"]]
            assert each.pop("values") == pytest.approx(own.pop("values"), abs=1e-3, rel=1e-3)
            # Texts read together and alone differ by rounding, on some processors by this much.
            assert each == pytest.approx(own, abs=2e-3, rel=1e-3)
    assert len(response["positive"]) + len(response["negative"]) > 5
    largest = [each["statistic"] for each in response["positive"]]
    assert largest == sorted(largest, reverse=True) and min(largest) > 0


def test_chats_and_the_classes_turned_about(planted: Planted, client: TestClient) -> None:
    response = client.post("/contrast", json=body(planted, chat=True, top=3)).json()
    rows = [
        planted.host.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], return_dict=False
        )
        for text in WHALES + CLOCKS
    ]
    assert response["tokens"] == sum(len(row) - 1 for row in rows)
    expected = directly(planted, rows, "mean", "standardised")
    best = {each.feature: each.statistic for each in expected.positive}
    assert len(response["positive"]) == 3
    for each in response["positive"]:
        assert each["statistic"] == pytest.approx(best[each["feature"]], abs=1e-3)
    turned = body(planted, chat=True, top=3, positive=CLOCKS, negative=WHALES)
    other = client.post("/contrast", json=turned).json()
    assert [e["feature"] for e in other["negative"]] == [e["feature"] for e in response["positive"]]


def test_texts_are_read_a_batch_at_a_time(
    planted: Planted, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = client.post("/contrast", json=body(planted)).json()
    monkeypatch.setattr(contrasting, "BATCH_TOKENS", 40)
    monkeypatch.setattr(warm_host, "BATCH_TOKENS", 40)
    calls: list[int] = []
    read = WarmHost.read

    def noted(host: WarmHost, rows: Any) -> Any:
        calls.append(len(rows))
        return read(host, rows)

    monkeypatch.setattr(WarmHost, "read", noted)
    parts = client.post("/contrast", json=body(planted)).json()
    assert len(calls) > 2 and sum(calls) == 6
    for one, other in zip(whole["positive"], parts["positive"], strict=True):
        assert one["statistic"] == pytest.approx(other["statistic"], abs=1e-3)


def test_pooling_of_planted_codes() -> None:
    indices = torch.tensor([[3, 5], [3, 9], [5, 5]])
    values = torch.tensor([[2.0, 1.0], [4.0, 0.0], [7.0, 0.0]])  # 0 stands for nothing
    latents, means = pool(Codes(indices, values), "mean")
    assert latents.tolist() == [3, 5]
    assert means.tolist() == pytest.approx([6 / 3, 8 / 3])
    assert pool(Codes(indices, values), "max")[1].tolist() == [4.0, 7.0]
    nothing = pool(Codes(indices, torch.zeros(3, 2)), "max")
    assert [len(each) for each in nothing] == [0, 0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"positive": []}, "positive"),
        ({"negative": [""]}, "negative"),
        ({"positive": ["word " * 400]}, "1 to 255 can be read"),
        ({"statistic": "magic"}, "statistic"),
        ({"positive": ["word"] * 65}, "at most 64 items"),
    ],
)
def test_what_cannot_be_contrasted(
    planted: Planted, client: TestClient, changes: dict[str, Any], words: str
) -> None:
    answer = client.post("/contrast", json=body(planted, **changes))
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["detail"]


def test_too_many_tokens_in_all(
    planted: Planted, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrasting, "MAX_CONTRAST_TOKENS", 500)
    answer = client.post("/contrast", json=body(planted, positive=["many words of it " * 12] * 20))
    assert answer.status_code == 422, answer.text
    assert "500 can be contrasted" in answer.json()["detail"]
