"""/try in a real browser: a text is read, walked through by keyboard, coloured, shared."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.orm import Session

from service.database.session import transaction
from service.database.tables import Feature, Sae
from service.pages import format
from service.pages.sae_choice import chosen_saes, one_sae
from service.pages.static import static_files
from service.saes.repository import newest_indexed
from tests.pages.answers import TEXT, reading
from tests.pages.fragments import fragment
from tests.service.conftest import FakeInference
from tests.support.browser import holds, scrolls_sideways, violations
from tests.support.campaign import wider
from tests.support.library_rows import Library, add_library, make_feature


@pytest.fixture(autouse=True)
def answers(inference: FakeInference) -> Iterator[FakeInference]:
    inference.answers = {"/activations": reading()}
    yield inference
    inference.answers, inference.away = {}, False


def read(page: Any, text: str = TEXT) -> None:
    page.get_by_label("The text to be read").fill(text)
    page.get_by_role("button", name="Read").click()
    page.locator("[data-read] span").first.wait_for()


def panel(page: Any) -> str:
    return str(page.locator("[data-panel]").inner_text())


def test_without_a_script_it_says_how_else(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/try?sae=demo&top_k=3", java_script_enabled=False)
    assert page.get_by_text("needs JavaScript").is_visible()
    assert page.get_by_text("monosemy activations demo").is_visible()
    assert page.get_by_text("/api/v1/inference/read").is_visible()
    assert not page.get_by_role("button", name="Read").is_visible()


def test_it_opens_with_an_sae_that_is_indexed(module_engine: Engine, library: Library) -> None:
    with transaction(module_engine) as session:
        add_library(session, "newest", 1)
        session.execute(text("UPDATE saes SET index = NULL WHERE name = 'newest'"))
        session.execute(
            text("UPDATE saes SET created_at = now() + interval '1 hour' WHERE name = 'newest'")
        )
    with Session(module_engine) as session:
        assert session.scalar(select(Sae.name).order_by(Sae.created_at.desc())) == "newest"
        for choices in (chosen_saes(session, []), one_sae(session, None)):
            (chosen,) = choices.chosen
            assert chosen.index is not None and chosen.name != "newest"
        assert "newest" in [each.name for each in one_sae(session, None).others]
        row = newest_indexed(session)
        assert row is not None and row[0].name == chosen.name
    with transaction(module_engine) as session:
        session.execute(text("DELETE FROM saes WHERE name = 'newest'"))


def test_a_text_is_read_and_every_token_is_reached_by_keyboard(
    explorer: str, open_page: Any, answers: FakeInference
) -> None:
    page = open_page(f"{explorer}/try?sae=demo")
    read(page)
    shown = page.locator("[data-read] span[data-i]").all_inner_texts()
    assert shown == ["The", " king", " sat", "↵", " on", " the", " throne"]
    page.locator("[data-read]").focus()
    rest = httpx.post(
        f"{explorer}/api/v1/inference/activations", json={"sae": "demo", "text": TEXT}
    ).json()
    for place, token in enumerate(rest["tokens"]):
        if place:
            page.keyboard.press("ArrowRight")
        assert page.evaluate("document.querySelector('.here').dataset.i") == str(place)
        panel_text = panel(page)
        assert f"token {place + 1}" in panel_text and f"id {token['id']}" in panel_text
        rows = page.locator("[data-panel] tbody tr")
        assert rows.count() == len(token["features"])
        for row, feature in zip(rows.all(), token["features"], strict=True):
            cells = row.inner_text()
            assert str(feature["index"]) in cells and feature["label"] in cells
            most = feature["index"] % 7
            share = feature["activation"] / most
            assert format.number(feature["activation"]) in cells
            assert format.percent(share) in cells
    page.keyboard.press("Home")
    assert "token 1 " in panel(page)
    assert "Nothing fires" not in panel(page)


def test_features_are_pinned_by_number_and_kept_in_the_address(
    explorer: str, open_page: Any, answers: FakeInference
) -> None:
    page = open_page(f"{explorer}/try?sae=demo")
    read(page)
    followed = [3.0, 0, 0, 6.0, 0, 0, 1.0]
    answers.answers = {"/activations": reading(chosen=[followed])}
    page.locator("[data-read]").focus()
    page.keyboard.press("1")
    lane = page.locator(".lane")
    lane.wait_for()
    assert "13" in lane.inner_text() and "3 of 7 tokens, at most 6" in lane.inner_text()
    assert lane.locator("rect[class^=h]").count() == 3
    assert lane.locator("rect.h9").count() == 1
    assert "pin=13" in page.url
    asked = [body for path, body in answers.requests if path == "/activations"][-1]
    assert asked["saes"][0]["features"] == [13] and asked["saes"][0]["only"] is False
    page.get_by_label("coloured by").select_option("pinned")
    assert page.locator("[data-read] .h9").all_inner_texts() == ["↵"]
    assert page.get_by_role("link", name="Steer with it").get_attribute("href") == (
        "/steer?sae=demo&f=13%3D1"
    )
    page.reload()
    page.locator(".lane").wait_for()
    page.keyboard.press("Escape")
    page.locator("[data-read]").focus()
    page.keyboard.press("1")
    page.locator(".lane").wait_for(state="detached")
    assert "pin=" not in page.url


def test_pins_that_no_sae_has_are_left_out(
    explorer: str, open_page: Any, answers: FakeInference
) -> None:
    link = f"{explorer}/try?sae=demo&pin=60&pin=13@none&pin=x#t={fragment({'text': TEXT})}"
    page = open_page(link)
    page.locator(".here").wait_for()
    asked = [body for path, body in answers.requests if path == "/activations"][-1]
    assert asked["saes"][0]["features"] is None
    # Enter on a link follows it, whatever else there is on the page.
    page.locator("[data-panel] a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/saes/demo/features/13")


def test_tokens_are_coloured_in_four_ways(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/try?sae=demo&colour=unexplained")
    read(page)

    def levels() -> list[int]:
        return [
            int(next((c[1:] for c in each.split() if c[0] == "h" and c[1:].isdigit()), "0"))
            for each in page.eval_on_selector_all(
                "[data-read] span[data-i]", "spans => spans.map(each => each.className)"
            )
        ]

    assert levels() == [math.ceil(9 * n / 10) for n in range(7)]
    page.get_by_label("coloured by").select_option("strongest")
    shares = [0.9, 0.5, 0, 1.0, 0.5, 1.0, 1 / 6]
    assert levels() == [math.ceil(9 * share - 1e-9) for share in shares]
    page.get_by_label("coloured by").select_option("count")
    assert levels() == [0, 3, 6, 9, 0, 3, 6]
    assert "from 0 to 3 features" in page.locator("[data-scale]").inner_text()


@pytest.fixture
def log(explorer: str) -> Iterator[list[str]]:
    """All that is logged, at the level of requests."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.getMessage()} {record.__dict__}")

    root, handler = logging.getLogger(), Kept()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lines
    root.removeHandler(handler)
    root.setLevel(before)


def test_try_share_link(
    explorer: str, open_page: Any, log: list[str], answers: FakeInference
) -> None:
    """In a fresh profile it shows the same; the text is in no log and in no address."""
    secret = "The xylophone of Zanzibar sat"
    page = open_page(f"{explorer}/try?sae=demo")
    read(page, secret)
    page.locator("[data-read] span[data-i='3']").click()
    before, link = panel(page), page.url
    assert "#t=" in link and "at=3" in link and "xylophone" not in link
    requested: list[str] = []
    other = open_page(f"{explorer}/models")
    other.on("request", lambda request: requested.append(request.url))
    other.goto(link)
    other.locator(".here").wait_for()
    holds(other.get_by_label("The text to be read"), secret)
    assert panel(other) == before
    assert answers.requests[-1][1]["text"] == secret
    assert requested and not any("xylophone" in url or "#t=" in url for url in requested)
    logged = "\n".join(log)
    assert "/inference/read" in logged and "xylophone" not in logged
    assert link.split("#t=")[1] not in logged


def test_try_context_end_marked(explorer: str, open_page: Any, answers: FakeInference) -> None:
    answers.answers = {"/activations": {**reading(), "left_out": 2}}
    page = open_page(f"{explorer}/try?sae=demo")
    read(page, f"{TEXT} and reigned")
    box = page.locator("[data-read]")
    assert "the context ends here: 2 tokens not read" in box.inner_text()
    assert box.locator(".rest").inner_text() == " and reigned"


def test_a_server_that_is_away_is_asked_again(
    explorer: str, open_page: Any, answers: FakeInference
) -> None:
    answers.away = True
    page = open_page(f"{explorer}/try?sae=demo", allowed=["Failed to load resource"])
    page.get_by_label("The text to be read").fill(TEXT)
    page.get_by_role("button", name="Read").click()
    status = page.locator("[data-asked]")
    page.get_by_text("Trying again in").wait_for()
    assert "cannot be reached" in status.inner_text()
    page.get_by_role("button", name="Stop").click()
    assert "Trying again" not in status.inner_text()
    page.get_by_role("button", name="Read").click()
    page.get_by_text("Trying again in").wait_for()
    answers.away = False
    page.get_by_role("button", name="Try now").click()
    page.locator("[data-read] span").first.wait_for()


def test_a_chat_and_hostile_tokens(explorer: str, open_page: Any, answers: FakeInference) -> None:
    hostile = ["</script><img src=x onerror=alert(1)>", "\u202e", "\0", "<b>"]
    answers.answers = {"/activations": reading(hostile)}
    page = open_page(f"{explorer}/try?sae=demo")
    page.get_by_label("chat").check()
    page.get_by_label("What is said").fill("Who sat?")
    page.get_by_label("what the template puts").check()
    page.get_by_role("button", name="Read").click()
    page.locator("[data-read] span").first.wait_for()
    assert answers.requests[-1][1]["messages"] == [{"role": "user", "content": "Who sat?"}]
    assert answers.requests[-1][1]["generation_prompt"] is True
    shown = page.locator("[data-read] span[data-i]").all_inner_texts()
    assert shown == [hostile[0], "[RLO]", "␀", "<b>"]
    assert page.locator("main img, main b").count() == 0


@pytest.mark.parametrize("scheme", ["light", *wider("dark")])
def test_it_is_accessible_and_fits_a_telephone(
    explorer: str, open_page: Any, answers: FakeInference, scheme: str
) -> None:
    answers.answers = {"/activations": reading(chosen=[[3.0, 0, 0, 6.0, 0, 0, 1.0]])}
    page = open_page(
        f"{explorer}/try?sae=demo&pin=13#t={fragment({'text': TEXT})}",
        viewport={"width": 390, "height": 800},
        color_scheme=scheme,
    )
    page.locator(".here").wait_for()
    assert violations(page) == []
    assert not scrolls_sideways(page)


@pytest.fixture(scope="module")
def wide(module_engine: Engine, library: Library) -> str:
    """An SAE of 2,000 features with labels as long as real ones."""
    with transaction(module_engine) as session:
        name = add_library(session, "wide", features=1).name
        sae = session.connection().exec_driver_sql("SELECT id FROM saes WHERE name = 'wide'")
        (sae_id,) = sae.one()
        rows = []
        for index in range(1, 2000):
            feature = make_feature(sae_id, index, 2000)
            row = {c.name: getattr(feature, c.name) for c in Feature.__table__.columns
                   if c.computed is None}  # fmt: skip
            row["label"] = f'mixed: " number {index}" (1.3 %), " a" (1.2 %), " ark" (0.89 %)'
            row["max_activation"] = 20.0 + index / 997
            row["density"] = (index + 1) / 1e5
            rows.append(row)
        session.execute(insert(Feature), rows)
        session.connection().exec_driver_sql("UPDATE saes SET d_sae = 2000 WHERE name = 'wide'")
    return name


def test_try_1000_tokens(explorer: str, open_page: Any, answers: FakeInference, wide: str) -> None:
    """The times are the plan's budgets, four times over: machines of tests are busy."""
    words = [f" word{n}" for n in range(1000)]
    fires = [
        [[(7 * n + 391 * k) % 2000, round(20 / (k + 1) + n / 7919, 6)] for k in range(5)]
        for n in range(1000)
    ]
    answers.answers = {"/activations": reading(words, features=fires)}
    page = open_page(f"{explorer}/try?sae={wide}")
    sizes: list[int] = []
    page.on(
        "requestfinished",
        lambda request: (
            sizes.append(request.sizes()["responseBodySize"])
            if request.url.endswith("/inference/read")
            else None
        ),
    )
    read(page, "".join(words))
    page.locator("[data-read] span[data-i='999']").wait_for()
    assert page.locator("[data-read] span[data-i]").count() == 1000
    times = page.evaluate(_MEASURE, [explorer, json.dumps(len(words))])
    page.wait_for_timeout(50)
    assert sizes and sizes[0] <= 150_000
    assert times["build"] <= 400 and times["hover"] <= 20 and times["recolour"] <= 80, times


_MEASURE = """async () => {
  const base = document.querySelector('script[src*="try.js"]').src.replace("pages/try.js", "lib/");
  const { TokenText } = await import(base + "token_text.js");
  const median = (times) => times.sort((a, b) => a - b)[times.length >> 1];
  const timed = (work) => {
    const begun = performance.now();
    work();
    return performance.now() - begun;
  };
  const laidOut = (element) => element.getBoundingClientRect().height;
  const shown = document.querySelectorAll("[data-read] span[data-i]");
  const texts = [...shown].map((each) => each.textContent);
  const box = document.querySelector("[data-read]").cloneNode(false);
  document.querySelector("[data-read]").after(box);
  const text = new TokenText(box, { look: () => {}, choose: () => {} });
  const build = median([1, 2, 3].map(() => timed(() => { text.show(texts); laidOut(box); })));
  const shades = [0, 1, 2, 3, 4].map((k) => Uint8Array.from(texts, (_, n) => (n * 7 + k) % 10));
  const recolour = median(shades.map((each) => timed(() => { text.colour(each); laidOut(box); })));
  box.remove();
  const spans = document.querySelectorAll("[data-read] span[data-i]");
  const panel = document.querySelector("[data-panel]");
  const hover = median([...Array(21).keys()].map((k) => timed(() => {
    spans[k * 40].dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
    laidOut(panel);
  })));
  if (!panel.textContent.includes("token 801")) throw new Error("the pointer was not followed");
  return { build, hover, recolour };
}"""


def test_its_scripts_are_small() -> None:
    import gzip

    names = ["pages/try.js", *(f"lib/{name}.js" for name in
             ("api", "ask", "format", "http", "keys", "lanes", "reading", "shell", "state",
              "token_text", "tokens"))]  # fmt: skip
    files = static_files()
    assert sum(len(gzip.compress(files[name])) for name in names) <= 25_000
