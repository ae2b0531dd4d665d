"""/steer over the real inference server: it shows what REST writes, and Stop frees the server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.app import create_app
from tests.pages.fragments import fragment
from tests.support.browser import PATIENCE_MS, launched
from tests.support.served import served
from tests.support.trained_library import Trained
from workers import steered_text
from workers.inference import create_app as create_inference

pytestmark = pytest.mark.integration

PROMPT = "The clockmaker repaired"
TOKENS = 40


@dataclass
class Explorer:
    address: str
    app: FastAPI


@pytest.fixture(scope="module")
def explorer(trained: Trained) -> Iterator[Explorer]:
    with served(create_inference(trained.settings)) as inference:
        app = create_app(trained.settings.model_copy(update={"inference_url": inference}))
        with served(app) as address:
            yield Explorer(address, app)


@pytest.fixture
def page(explorer: Explorer) -> Iterator[Any]:
    with launched() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(
            f"{explorer.address}/steer?sae=tiny&f=5=2&seeds=2&tokens={TOKENS}"
            f"#p={fragment({'text': PROMPT})}"
        )
        yield page


class Steps:
    """Counts the steps of texts that are written, and takes its time over each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken = 0
        generate = steered_text.generate

        def slowly(*given: Any) -> Any:
            for step in generate(*given):
                self.taken += 1
                time.sleep(0.05)
                yield step

        monkeypatch.setattr(steered_text, "generate", slowly)


def words(page: Any, name: str) -> str:
    return "".join(page.get_by_label(name, exact=True).locator("span").all_text_contents())


def test_texts_equal_rests_by_seed(
    explorer: Explorer, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)
    page.get_by_role("button", name="Write").click()
    page.get_by_label("With, seed 0", exact=True).locator("span").first.wait_for()
    assert steps.taken < 2 * TOKENS  # the first is shown before the last is made
    page.get_by_text("All is written.").wait_for()
    monkeypatch.undo()
    for seed in (0, 1):
        body = {
            "sae": "tiny", "prompt": PROMPT, "features": [{"index": 5, "strength": 2.0}],
            "seed": seed, "new_tokens": TOKENS,
        }  # fmt: skip
        told = httpx.post(
            f"{explorer.address}/api/v1/inference/steer", json=body, timeout=60
        ).json()
        shown = _shown(page)
        assert words(page, f"With, seed {seed}") == shown(told["steered"])
        assert words(page, f"Without, seed {seed}") == shown(told["plain"])
        assert told["steered"]["text"] != told["plain"]["text"]


def _shown(page: Any) -> Any:
    """As tokens are shown: controls made visible."""
    from service.pages.tokens import clipped

    return lambda text: "".join(clipped(token["text"]) for token in text["tokens"])


def test_stop_frees_the_server(
    explorer: Explorer, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)
    page.get_by_role("spinbutton", name="tokens").fill("200")
    page.get_by_role("button", name="Write").click()
    page.get_by_label("With, seed 0", exact=True).locator("span").first.wait_for()
    places = explorer.app.state.context.lanes.inference
    assert places.taken >= 1
    stopped = time.monotonic()
    page.get_by_role("button", name="Stop").click()
    while places.taken and time.monotonic() - stopped < 30:
        time.sleep(0.01)
    assert time.monotonic() - stopped < 2.0 + 8.0, "2 s, and what a busy machine takes"
    at_once = steps.taken
    time.sleep(1.0)
    assert steps.taken <= at_once + 2
    page.get_by_text("Stopped.").wait_for()
    assert page.get_by_text("stopped", exact=True).count() >= 1
