"""Labelling by the keyboard: nothing is lost, blind is blind, a person's test is summed up as a
judge's."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from monosemy.interp.scorers.balanced_accuracy import balanced_accuracy
from monosemy.interp.sitting import RADIUS
from monosemy.interp.tiers import ACTIVATING, RANDOM
from service.database.session import transaction
from service.database.tables import Explanation, Sae, Score
from service.pages.format import interval
from service.settings import Settings
from service.sittings.repository import find_sitting
from service.sittings.service import judgements_of
from tests.support.browser import holds, scrolls_sideways, violations
from tests.support.campaign import wider
from tests.support.gathered_rows import add_list
from tests.support.library_rows import Library, add_explanation
from tests.support.planted_index import random_text

ROOT = Path(__file__).resolve().parents[2]
HTML = {"Accept": "text/html"}
SECRET_WORDS = ("xylophone zeppelins", "Any xylophone in a zeppelin.")
"""An LLM's label and text; in no other place."""


@pytest.fixture
def told(module_engine: Engine, library: Library) -> Iterator[dict[int, uuid.UUID]]:
    """Explanations of three features, which are a list."""
    with transaction(module_engine) as session:
        session.execute(text("DELETE FROM explanations"))
        add_list(session, library, "told", [21, 22, 23])
        made = {
            feature: add_explanation(session, library, feature, *SECRET_WORDS, value=0.9)
            for feature in (21, 22, 23)
        }
    yield made
    with transaction(module_engine) as session:
        session.execute(text("DELETE FROM explanations"))
        session.execute(text("DELETE FROM feature_lists WHERE name = 'told'"))


@dataclass
class Killable:
    """An API of its own process, always on the same port."""

    port: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.edge.server", "--port", str(self.port)],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 120
        while not self._answers():
            assert time.monotonic() < end and self.process.poll() is None, "it did not start"
            time.sleep(0.1)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz").status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture
def killable(page_settings: Settings) -> Iterator[Killable]:
    import os

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MONOSEMY_")},
        "PYTHONPATH": str(ROOT),
        "MONOSEMY_HOME": str(page_settings.home),
        "MONOSEMY_DATABASE_URL": str(page_settings.database_url),
        "MONOSEMY_LOG_LEVEL": "ERROR",
    }
    api = Killable(port, environment)
    api.start()
    yield api
    api.kill()


def task(page: Any, feature: int) -> None:
    """Waits until the feature is shown."""
    page.locator("#at", has_text=re.compile(rf"demo {feature}$")).wait_for()


def saved(page: Any, words: str) -> None:
    page.locator("#saving", has_text=words).wait_for()


def written(engine: Engine) -> dict[int, tuple[str, str]]:
    with transaction(engine) as session:
        rows = session.query(Explanation).filter_by(explainer="human")
        return {row.feature: (row.label, row.text) for row in rows}


@pytest.mark.parametrize(
    ("count", "killed_storing", "killed_leading_on"), [(4, 1, None), *wider((20, 6, 12))]
)
def test_label_by_keyboard(
    killable: Killable,
    module_engine: Engine,
    library: Library,
    open_page: Any,
    count: int,
    killed_storing: int,
    killed_leading_on: int | None,
) -> None:
    """Features without a mouse; the API is killed meanwhile, and nothing at all is lost."""
    features = list(range(60 - count, 60))
    with transaction(module_engine) as session:
        session.execute(text("DELETE FROM explanations"))
        made = add_list(session, library, f"a walk of {count}", features)
    address = f"http://127.0.0.1:{killable.port}/label?list={made}&mode=write&blind=1&todo=1"
    page = open_page(address, allowed=["Failed to load resource"])
    for number, feature in enumerate(features):
        task(page, feature)
        page.keyboard.type(f"label {feature}")
        page.keyboard.press("Enter")
        page.keyboard.type(f"about {feature}")
        if number == killed_storing:  # before it can be stored
            killable.kill()
            page.keyboard.press("Enter")
            saved(page, "Not saved yet")
            assert feature not in written(module_engine)
            holds(page.get_by_label("In a sentence or two"), f"about {feature}")
            killable.start()
        else:
            page.keyboard.press("Enter")
        saved(page, "Saved.")
        page.locator("#task .badge", has_text="done").wait_for()
        if number == killed_leading_on:  # before the next feature comes
            killable.kill()
            page.keyboard.press("Enter")
            saved(page, "not here yet")
            killable.start()
        elif feature != features[-1]:
            page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.locator("#at", has_text="That is all of it").wait_for()
    assert written(module_engine) == {
        feature: (f"label {feature}", f"about {feature}") for feature in features
    }


def test_what_was_written_and_not_saved_comes_back(
    explorer: str, open_page: Any, told: dict[int, uuid.UUID]
) -> None:
    page = open_page(f"{explorer}/label?list=told&mode=write")
    page.keyboard.type("half a thou")
    page.reload()
    saved(page, "is back")
    holds(page.get_by_label("In a few words"), "half a thou")


def test_blind_hides_words(explorer: str, open_page: Any, told: dict[int, uuid.UUID]) -> None:
    """They are not sent at all: neither in the page, nor in what its script is given."""
    path = "/label?list=told&mode=write&blind=1"
    for words in (*SECRET_WORDS, "0.90"):
        assert words not in httpx.get(explorer + path, headers=HTML).text
        assert (
            words in httpx.get(explorer + path.replace("&blind=1", "&blind=0"), headers=HTML).text
        )
    page = open_page(explorer + path)
    received: list[str] = []
    page.on("response", lambda answer: received.append(answer.url))
    task(page, 21)
    assert SECRET_WORDS[1] not in page.content()
    assert not violations(page)
    page.keyboard.type("mine")
    page.keyboard.press("Tab")
    page.keyboard.type("What I think of it.")
    page.keyboard.press("Enter")
    page.get_by_text(SECRET_WORDS[1]).wait_for()
    assert page.get_by_text("What I think of it.").count() == 1
    assert not violations(page)
    page.keyboard.press("j")
    task(page, 22)
    assert SECRET_WORDS[1] not in page.content()
    page.go_back()
    task(page, 21)


def test_a_blind_vote_shows_nothing_but_the_words(
    explorer: str, module_engine: Engine, open_page: Any, told: dict[int, uuid.UUID]
) -> None:
    page = open_page(f"{explorer}/label?list=told&mode=vote&blind=1")
    task(page, 21)
    page.get_by_text(SECRET_WORDS[1]).wait_for()
    assert "detection" not in page.content() and "0.90" not in page.content()
    page.keyboard.press("-")
    page.locator(".votes", has_text="0 for, 1 against").wait_for()
    assert "detection" in page.content()
    page.keyboard.press("Enter")  # the focus is on what comes next
    task(page, 22)
    page.keyboard.press("+")
    page.locator(".votes", has_text="1 for, 0 against").wait_for()
    page.keyboard.press("j")
    task(page, 23)
    page.keyboard.press("u")  # the vote on 22 is taken back, and asked for again
    task(page, 22)
    saved(page, "Taken back.")
    page.locator("#done", has_text="1").wait_for()
    assert not page.locator("#task .badge", has_text="done").count()
    page.keyboard.press("u")
    task(page, 21)
    page.keyboard.press("u")
    saved(page, "nothing to take back")
    with transaction(module_engine) as session:
        assert session.execute(text("SELECT count(*) FROM explanation_votes")).scalar() == 0


def test_undo_takes_what_was_written_back(
    explorer: str, module_engine: Engine, open_page: Any, told: dict[int, uuid.UUID]
) -> None:
    page = open_page(f"{explorer}/label?list=told&mode=write&todo=1")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.keyboard.type("All wrong.")
    page.keyboard.press("Enter")
    saved(page, "Saved.")
    page.locator("#task .badge", has_text="done").wait_for()
    assert written(module_engine) == {21: ("wrong", "All wrong.")}
    page.keyboard.press("u")
    saved(page, "Taken back.")
    task(page, 21)
    assert written(module_engine) == {}


@pytest.fixture
def indexed(
    module_engine: Engine,
    library: Library,
    page_settings: Settings,
    told: dict[int, uuid.UUID],
    tmp_path: Path,
) -> dict[int, uuid.UUID]:
    """The index of the SAE ``demo`` lies where the service looks for it."""
    if not (page_settings.artifacts / "indexes" / "planted").exists():
        random_text(n_documents=120).write(page_settings.artifacts)
    with transaction(module_engine) as session:
        sae = session.get_one(Sae, library.sae)
        sae.index = {**(sae.index or {}), "path": "indexes/planted"}
    return told


def answer_texts(page: Any, keys: str) -> None:
    """Presses one key for each text, in turn."""
    total = 20
    for number in range(total):
        page.locator("#count", has_text=f"text {number + 1} of {total}").wait_for()
        page.keyboard.press(keys[number % len(keys)])


def test_human_judge_score(
    explorer: str,
    module_engine: Engine,
    library: Library,
    open_page: Any,
    indexed: dict[int, uuid.UUID],
) -> None:
    """The interval is the library's, and is drawn beside the judge's."""
    page = open_page(f"{explorer}/label?list=told&mode=judge&blind=1")
    task(page, 21)
    assert SECRET_WORDS[1] in page.content() and "0.90" not in page.content()
    page.keyboard.press("Enter")
    page.locator("#count", has_text="text 1 of 20").wait_for()
    page.keyboard.press("y")
    page.locator("#count", has_text="text 2 of 20").wait_for()
    first = page.locator("#text").inner_text()
    page.keyboard.press("n")
    page.locator("#count", has_text="text 3 of 20").wait_for()
    page.keyboard.press("u")
    page.locator("#count", has_text="text 2 of 20").wait_for()
    assert page.locator("#text").inner_text() == first
    page.keyboard.press("u")
    assert not violations(page)
    answer_texts(page, "ynyys")
    page.locator(".told").wait_for()
    with transaction(module_engine) as session:
        score = session.query(Score).filter_by(scorer="detection:human").one()
        sitting = find_sitting(session, uuid.UUID(score.details["imported"]["sitting"]))
        assert sitting is not None
        wanted = balanced_accuracy(judgements_of(sitting), RANDOM)
        assert (score.value, score.low, score.high) == (wanted.value, wanted.low, wanted.high)
        assert (score.n, score.n_failed) == (16, 4)
        assert {each["tier"] for each in sitting.questions} == {ACTIVATING, RANDOM}
        assert max(len(each["text"].split()) for each in sitting.questions) <= 2 * RADIUS + 1
    figures = page.locator(".scores").inner_text()
    assert interval(wanted.low, wanted.high) in figures and "detection:human" in figures
    assert "0.90" in figures  # the judge's, which was out of sight
    assert page.locator(".told tbody tr").count() == 20
    assert not violations(page)
    page.keyboard.press("Enter")
    task(page, 22)


def test_a_sitting_goes_on_where_it_stopped(
    explorer: str, open_page: Any, indexed: dict[int, uuid.UUID]
) -> None:
    page = open_page(f"{explorer}/label?list=told&mode=judge&todo=1")
    page.keyboard.press("Enter")
    for number in (1, 2, 3):
        page.locator("#count", has_text=f"text {number} of").wait_for()
        page.keyboard.press("n")
    page.locator("#count", has_text="text 4 of").wait_for()
    page.reload()
    page.get_by_text("You have answered 3 of 20 texts").wait_for()
    page.keyboard.press("Enter")
    page.locator("#count", has_text="text 4 of 20").wait_for()


def test_a_feature_with_too_few_texts_says_so(
    explorer: str, module_engine: Engine, library: Library, open_page: Any,
    indexed: dict[int, uuid.UUID],
) -> None:  # fmt: skip
    with transaction(module_engine) as session:
        made = add_list(session, library, f"told {uuid.uuid4().hex[:4]}", [0])
        add_explanation(session, library, 0, "never", "Never.", key="never")
    page = open_page(
        f"{explorer}/label?list={made}&mode=judge", allowed=["Failed to load resource"]
    )
    page.keyboard.press("Enter")
    saved(page, "too few")
    assert page.evaluate("document.activeElement.id") == "next"


def test_the_choice_leads_to_the_first_feature(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/label")
    form = page.locator("form.stack").nth(1)
    form.locator("select[name=sae]").select_option("demo")
    form.get_by_label("Fires on at least").fill("0.04")
    form.get_by_label("Order").select_option("density")
    form.get_by_role("button", name="Begin").click()
    page.wait_for_url(re.compile("sae=demo"))
    rest = httpx.get(
        f"{explorer}/api/v1/labelling",
        params={"sae": "demo", "min_density": 0.04, "sort": "density", "todo": True, "limit": 1},
    ).json()
    task(page, rest["items"][0]["feature"])
    assert f"of {rest['total']} done by you" in page.locator("#task").inner_text()


def test_label_pages_without_script_on_a_telephone(
    explorer: str, open_page: Any, told: dict[int, uuid.UUID]
) -> None:
    page = open_page(
        f"{explorer}/label?list=told&mode=vote",
        java_script_enabled=False,
        viewport={"width": 390, "height": 800},
    )
    assert page.get_by_text(SECRET_WORDS[1]).is_visible()
    page.get_by_role("link", name="Skip ›").click()
    task(page, 22)
    with_script = open_page(
        f"{explorer}/label?list=told&mode=write", viewport={"width": 390, "height": 800}
    )
    task(with_script, 21)
    assert not scrolls_sideways(with_script)


def test_agreement_is_drawn(
    explorer: str, module_engine: Engine, library: Library, told: dict[int, uuid.UUID]
) -> None:
    voters = [str(uuid.UUID(int=1)), "local"]
    with transaction(module_engine) as session:
        for number, explanation in enumerate(told.values()):
            for voter in voters:
                session.execute(
                    text(
                        "INSERT INTO explanation_votes (sae_id, explanation_id, voter, value)"
                        " VALUES (:sae, :explanation, :voter, :value)"
                    ),
                    {
                        "sae": library.sae,
                        "explanation": explanation,
                        "voter": voter,
                        "value": 1 if number else -1,
                    },
                )
    shown = httpx.get(f"{explorer}/agreement?list=told", headers=HTML).text
    (pair,) = httpx.get(f"{explorer}/api/v1/agreement?list=told").json()["pairs"]
    assert pair["kappa"] == 1.0 and "<b>1.00</b>" in shown and "this machine" in shown
    assert interval(pair["low"], pair["high"]) in shown
    assert "There is nothing to compare yet: no question of a detection test" in httpx.get(
        f"{explorer}/agreement?of=sittings&list=told", headers=HTML
    ).text  # fmt: skip
