"""Chats, several SAEs, and rows read in company: planted SAEs tell the activations themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from torch import Tensor

from monosemy.errors import DataError
from monosemy.formats.saelens import load_sae
from monosemy.models.host import HostModel
from monosemy.saes.registry import create
from monosemy.specs import TopKSpec
from service.settings import Settings
from tests.support.loopback import loopback_client
from tests.support.planted_saes import Planted
from workers import warm_host
from workers.inference import create_app
from workers.warm_host import Row, Use, WarmHost

TEXT = "The clockmaker repaired a map of stars (日本語) before sunrise."
CHAT = [{"role": "user", "content": "Who counted the whales?"}]
SITES = ["blocks.2.hook_resid_post", "blocks.0.hook_mlp_out", "blocks.1.hook_resid_mid"]


@pytest.fixture(scope="module")
def client(planted: Planted) -> Iterator[TestClient]:
    settings = Settings(home=planted.workspace.root.parent, log_level="WARNING")
    yield loopback_client(create_app(settings))


def dense(answer: dict[str, Any], tokens: int) -> Tensor:
    """``[tokens, 64]`` out of an answer's ``features``."""
    full = torch.zeros(tokens, 64)
    for place, pairs in enumerate(answer["features"]):
        for index, activation in pairs:
            full[place, index] = activation
    return full


def test_several_saes_share_one_forward(
    planted: Planted, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwards: list[list[str]] = []
    capture = HostModel.capture

    def counted(host: HostModel, ids: Tensor, mask: Tensor, sites: list[str]) -> Any:
        forwards.append(list(sites))
        return capture(host, ids, mask, sites)

    chosen = [40, 3, 63]
    saes = [
        {**planted.sae(site), "features": chosen if site == SITES[1] else None} for site in SITES
    ]
    asked = {"model": planted.spec, "saes": saes, "text": TEXT, "top_k": 64}
    monkeypatch.setattr(HostModel, "capture", counted)
    answer = client.post("/activations", json=asked)
    assert answer.status_code == 200, answer.text
    assert forwards == [sorted(SITES)]
    monkeypatch.undo()
    ids = planted.host.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    body = answer.json()
    assert [token["id"] for token in body["tokens"]] == ids
    for site, of_sae in zip(SITES, body["saes"], strict=True):
        expected = planted.codes([planted.host.bos_id, *ids], site, 1)
        if site == SITES[1]:
            rows = torch.tensor(of_sae["chosen"])
            torch.testing.assert_close(rows, expected[:, chosen].T, atol=2e-5, rtol=1e-4)
            expected = torch.zeros_like(expected).index_copy(
                1, torch.tensor(chosen), expected[:, chosen]
            )
        else:
            assert of_sae["chosen"] is None
        torch.testing.assert_close(dense(of_sae, len(ids)), expected, atol=2e-5, rtol=1e-4)
        assert expected.any()
        if site != SITES[1]:
            assert of_sae["fires"] == (expected > 0).sum(1).tolist()


def test_saes_with_and_without_bos_each_get_their_own(planted: Planted, client: TestClient) -> None:
    saes = [planted.sae(SITES[0]), planted.sae(SITES[0], prepend_bos=False)]
    asked = {"model": planted.spec, "saes": saes, "text": TEXT, "top_k": 64}
    body = client.post("/activations", json=asked).json()
    ids = planted.host.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    rows = [([planted.host.bos_id, *ids], 1), (ids, 0)]
    for of_sae, (row, skip) in zip(body["saes"], rows, strict=True):
        expected = planted.codes(row, SITES[0], skip)
        torch.testing.assert_close(dense(of_sae, len(ids)), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("ask_for_answer", [False, True])
def test_a_chat_is_read_as_the_template_writes_it(
    planted: Planted, client: TestClient, ask_for_answer: bool
) -> None:
    saes = [planted.sae(SITES[0], prepend_bos=False)]
    asked = {
        "model": planted.spec, "saes": saes, "messages": CHAT, "top_k": 64,
        "generation_prompt": ask_for_answer,
    }  # fmt: skip
    answer = client.post("/activations", json=asked)
    assert answer.status_code == 200, answer.text
    ids = planted.host.tokenizer.apply_chat_template(
        CHAT, return_dict=False, add_generation_prompt=ask_for_answer
    )
    assert ids[0] == planted.host.bos_id
    body = answer.json()
    # Its BOS is read and not shown, however the SAE was trained.
    assert [token["id"] for token in body["tokens"]] == ids[1:]
    shown = "".join(token["text"] for token in body["tokens"])
    assert shown.endswith("<s>assistant\n") == ask_for_answer
    expected = planted.codes(ids, SITES[0], 1)
    torch.testing.assert_close(dense(body["saes"][0], len(ids) - 1), expected, atol=2e-5, rtol=1e-4)


def test_what_the_template_refuses_is_said(planted: Planted, client: TestClient) -> None:
    bad = [{"role": "pirate", "content": "x"}]
    asked = {"model": planted.spec, "saes": [planted.sae(SITES[0])], "messages": bad}
    answer = client.post("/activations", json=asked)
    assert answer.status_code == 422 and "unknown role pirate" in answer.json()["detail"]


@pytest.mark.parametrize("warm", [False, True])
def test_tokens_need_no_weights(
    planted: Planted, monkeypatch: pytest.MonkeyPatch, warm: bool
) -> None:
    settings = Settings(home=planted.workspace.root.parent, log_level="WARNING")
    client = loopback_client(create_app(settings))
    sae = planted.sae(SITES[0])
    if warm:
        read = {"model": planted.spec, "saes": [sae], "text": "x"}
        assert client.post("/activations", json=read).status_code == 200
    else:
        monkeypatch.delattr(HostModel, "load")
    tokenizer = planted.host.tokenizer
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    body = client.post("/tokenize", json={"model": planted.spec, "text": TEXT, "sae": sae}).json()
    assert [token["id"] for token in body["tokens"]] == ids
    assert "".join(token["text"] for token in body["tokens"]) == TEXT
    assert body["bos"] == {"id": 0, "text": "<s>"}
    for other in (None, planted.sae(SITES[0], prepend_bos=False)):
        asked = {"model": planted.spec, "text": TEXT, "sae": other}
        assert client.post("/tokenize", json=asked).json() == {**body, "bos": None}
    chat = {"model": planted.spec, "messages": CHAT, "sae": sae, "generation_prompt": True}
    body = client.post("/tokenize", json=chat).json()
    ids = tokenizer.apply_chat_template(CHAT, return_dict=False, add_generation_prompt=True)
    assert [token["id"] for token in body["tokens"]] == ids and body["bos"] is None


def test_tokens_of_a_model_that_is_not_there(planted: Planted, client: TestClient) -> None:
    answer = client.post("/tokenize", json={"model": {"name": "/no/such/model"}, "text": "x"})
    assert answer.status_code == 422 and "/no/such/model" in answer.json()["detail"]


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Shapes of all forwards to come."""
    shapes: list[tuple[int, int]] = []
    capture = HostModel.capture

    def noted(host: HostModel, ids: Tensor, *rest: Any) -> Any:
        shapes.append((ids.shape[0], ids.shape[1]))
        return capture(host, ids, *rest)

    monkeypatch.setattr(HostModel, "capture", noted)
    return shapes


class Company:
    """A warm host whose thread is held up, so that what is asked for meanwhile waits together."""

    def __init__(self, planted: Planted) -> None:
        self.host = WarmHost(planted.host)
        self.sae = load_sae(planted.workspace.locate(planted.sae(SITES[0])["path"]))
        self.planted = planted
        self._pool = ThreadPoolExecutor(32)
        self._gate = threading.Event()
        self._pool.submit(self.host.turn, lambda: self._gate.wait(20))

    def ask(self, ids: list[int], site: str = SITES[0]) -> Any:
        row = Row(ids, 0, (Use(self.sae, site),))
        return self._pool.submit(lambda: self.host.read([row])[0][0].codes.dense(64))

    def turn(self, work: Any) -> Any:
        return self._pool.submit(self.host.turn, work)

    def waiting(self) -> int:
        return len(self.host._waiting)

    def go(self, waiting: int) -> None:
        deadline = time.monotonic() + 10
        while self.waiting() < waiting and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self.waiting() == waiting
        self._gate.set()


@pytest.fixture
def company(planted: Planted) -> Iterator[Company]:
    company = Company(planted)
    yield company
    company._gate.set()
    company._pool.shutdown()


def some_ids(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 400, (length,), generator=generator).tolist()


def test_what_waits_is_read_together_and_as_if_alone(
    company: Company, forwards: list[tuple[int, int]]
) -> None:
    rows = [some_ids(20 + n % 5, n) for n in range(24)]
    asked = [company.ask(row) for row in rows]
    company.go(24)
    answers = [each.result(20) for each in asked]
    assert sum(count for count, _ in forwards) == 24
    assert len(forwards) == 1 and forwards[0][1] == 24
    forwards.clear()
    for row, got in zip(rows, answers, strict=True):
        expected = company.planted.codes(row, SITES[0], 0)
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_lengths_far_apart_and_other_sites_are_read_apart(
    company: Company, forwards: list[tuple[int, int]]
) -> None:
    lengths = [4, 100, 5, 101, 4, 102]
    asked = [company.ask(some_ids(length, length)) for length in lengths]
    other = company.ask(some_ids(5, 9), SITES[2])
    company.go(7)
    answers = [each.result(20) for each in (*asked, other)]
    assert sorted(forwards) == [(1, 5), (3, 5), (3, 102)]
    rows = [*((length, length, SITES[0]) for length in lengths), (5, 9, SITES[2])]
    for (length, seed, site), got in zip(rows, answers, strict=True):
        expected = company.planted.codes(some_ids(length, seed), site, 0)
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_a_batch_has_a_bound(
    company: Company, forwards: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_host, "BATCH_TOKENS", 100)
    asked = [company.ask(some_ids(30, n)) for n in range(7)]
    long = company.ask(some_ids(200, 8))  # longer than a batch: alone
    company.go(8)
    for each in [*asked, long]:
        each.result(20)
    assert sorted(forwards) == [(1, 30), (1, 200), (3, 30), (3, 30)]


def test_steps_of_others_come_between_batches(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five batches wait, and a text is being written: a step comes after each batch."""
    monkeypatch.setattr(warm_host, "BATCH_TOKENS", 40)
    order: list[str] = []
    read = warm_host.read_rows

    def noted(*given: Any) -> Any:
        order.append("batch")
        time.sleep(0.05)  # while the writer asks for its next step
        return read(*given)

    def steps() -> None:
        for _ in range(3):
            company.host.turn(lambda: order.append("step"))

    monkeypatch.setattr(warm_host, "read_rows", noted)
    asked = [company.ask(some_ids(20, n)) for n in range(10)]
    while company.waiting() < 10:
        time.sleep(0.005)
    writing = company._pool.submit(steps)
    while company.host._thread._work_queue.qsize() < 2:  # a batch and the first step
        time.sleep(0.005)
    company.go(10)
    for each in asked:
        each.result(20)
    writing.result(20)
    assert order == ["batch", "step"] * 3 + ["batch"] * 2


def test_one_that_cannot_be_read_costs_the_others_nothing(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = HostModel.capture

    def fails(host: HostModel, ids: Tensor, *rest: Any) -> Any:
        if (ids == 399).any():
            raise torch.OutOfMemoryError("planted")
        return capture(host, ids, *rest)

    monkeypatch.setattr(HostModel, "capture", fails)
    good = [[n for n in some_ids(10, seed) if n != 399] for seed in range(6)]
    asked = [company.ask(row) for row in good]
    poison = company.ask([5, 6, 399, 7, 8, 9, 10, 11, 12])
    company.go(7)
    with pytest.raises(torch.OutOfMemoryError, match="planted"):
        poison.result(20)
    for row, each in zip(good, asked, strict=True):
        expected = company.planted.codes(row, SITES[0], 0)
        torch.testing.assert_close(each.result(20), expected, atol=1e-4, rtol=1e-4)


def test_a_row_that_cannot_be_read_is_refused_before_it_waits(company: Company) -> None:
    for row in ([], [5] * 257):
        with pytest.raises(DataError, match="1 to 256 can be read"):
            company.ask(row).result(5)
    with pytest.raises(DataError, match="reads vectors of length 32"):
        company.ask([5, 6], "blocks.0.mlp.hook_post").result(5)
    assert company.waiting() == 0


def test_the_thread_ends_with_the_host(planted: Planted) -> None:
    host = WarmHost(planted.host)
    thread = host.turn(threading.current_thread)
    assert thread is not threading.current_thread() and thread.is_alive()
    del host
    thread.join(10)
    assert not thread.is_alive()


def test_many_threads_over_http_get_their_own(planted: Planted, client: TestClient) -> None:
    """Chats and texts of several lengths for one or two SAEs, from eight threads."""

    def asked(number: int) -> dict[str, Any]:
        sites = SITES[: 1 + number % 2]
        content = f"{'Dr. Müller counted grey whales. ' * (1 + number % 4)}{number}"
        prompt: dict[str, Any] = {"text": content}
        if number % 3 == 0:
            prompt = {"messages": [{"role": "user", "content": content}]}
        saes = [planted.sae(site) for site in sites]
        return {"model": planted.spec, "saes": saes, "top_k": 64, **prompt}

    def ask(number: int) -> Any:
        return client.post("/activations", json=asked(number)).json()

    alone = [ask(number) for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, [*range(24)] * 2))
    for expected, answer in zip(alone * 2, together, strict=True):
        tokens = len(expected["tokens"])
        assert answer["tokens"] == expected["tokens"]
        for one, other in zip(expected["saes"], answer["saes"], strict=True):
            torch.testing.assert_close(
                dense(one, tokens), dense(other, tokens), atol=1e-4, rtol=1e-4
            )


def test_the_unexplained_share_is_what_the_reconstruction_misses() -> None:
    sae = create(TopKSpec(d_sae=4, k=1), 2)
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([torch.eye(2), -torch.eye(2)]))
        sae.W_enc.copy_(sae.W_dec.T)
        sae.b_dec.copy_(torch.tensor([1.0, 0.0]))
    # About the bias: (3, 4) keeps the 4 of 9 + 16; (0, -2) is one latent; the bias alone is all.
    x = torch.tensor([[4.0, 4.0], [1.0, -2.0], [1.0, 0.0]])
    shares = warm_host.unexplained_share(sae, sae.encode(x), x)
    torch.testing.assert_close(shares, torch.tensor([9 / 25, 0.0, 0.0]))


def test_unexplained_shares_come_where_they_are_asked_for(
    planted: Planted, client: TestClient
) -> None:
    asked = {"model": planted.spec, "saes": [planted.sae(SITES[0])], "text": TEXT}
    plain = client.post("/activations", json=asked).json()
    assert plain["saes"][0]["unexplained"] is None
    body = client.post("/activations", json={**asked, "unexplained": True}).json()
    # A basis with all its latents misses nothing.
    assert body["saes"][0]["unexplained"] == pytest.approx([0.0] * len(body["tokens"]), abs=1e-6)


def test_features_may_come_beside_the_strongest(planted: Planted, client: TestClient) -> None:
    sae = planted.sae(SITES[0])
    alone = {"model": planted.spec, "saes": [sae], "text": TEXT, "top_k": 2}
    strongest = client.post("/activations", json=alone).json()["saes"][0]["features"]
    both = {**alone, "saes": [{**sae, "features": [40, 3], "only": False}]}
    of_sae = client.post("/activations", json=both).json()["saes"][0]
    assert of_sae["features"] == strongest
    only = {**alone, "saes": [{**sae, "features": [40, 3]}]}
    assert of_sae["chosen"] == client.post("/activations", json=only).json()["saes"][0]["chosen"]


def test_the_beginning_of_a_long_text_is_read(planted: Planted, client: TestClient) -> None:
    """Twice the context; what is read is what its beginning alone gives, with and without BOS."""
    room = planted.host.abilities.positions
    assert room is not None
    text = "The clockmaker repaired a map of stars. " * room
    saes = [planted.sae(SITES[0]), planted.sae(SITES[0], prepend_bos=False)]
    asked = {"model": planted.spec, "saes": saes, "text": text, "top_k": 3}
    refused = client.post("/activations", json=asked)
    assert refused.status_code == 422 and "can be read" in refused.json()["detail"]
    body = client.post("/activations", json={**asked, "clip": True}).json()
    ids = planted.host.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [token["id"] for token in body["tokens"]] == ids[: room - 1]
    assert body["left_out"] == len(ids) - (room - 1)
    short = "".join(token["text"] for token in body["tokens"])
    whole = client.post("/activations", json={**asked, "text": short, "clip": True}).json()
    assert whole["left_out"] == 0
    assert body["saes"][0]["features"] == whole["saes"][0]["features"]
