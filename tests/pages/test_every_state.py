"""Campaign: every state of every page, light and dark, wide and 390 pixels, in forced colours and
on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.pages.addresses import ADDRESSES
from tests.pages.states import STATES, State
from tests.pages.worlds import World, Worlds, worlds_over
from tests.support.browser import (
    PATIENCE_MS,
    TELEPHONE,
    WIDE,
    Watch,
    scrolls_sideways,
    violations,
)
from tests.support.library_rows import Library

LOADING = ["Failed to load resource"]
"""What Chromium says of what is refused: the page itself, or a call of its script."""


@pytest.fixture(scope="module")
def worlds(
    postgres: str,
    template_database: str,
    stocked: tuple[str, Library],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Worlds]:
    home: Path = tmp_path_factory.mktemp("home")
    with worlds_over(postgres, stocked[0], template_database, home) as worlds:
        yield worlds


@pytest.fixture(scope="module")
def profiles(browser: Any) -> Iterator[dict[str, Any]]:
    """A page by world."""
    made: dict[str, Any] = {}
    yield made
    for page in made.values():
        page.context.close()


def page_in(profiles: dict[str, Any], browser: Any, name: str, world: World) -> Any:
    if name not in profiles:
        context = browser.new_context()
        context.set_default_timeout(PATIENCE_MS)
        if world.cookie is not None:
            context.add_cookies([world.cookie])
        profiles[name] = context.new_page()
    return profiles[name]


_STRANGE = """() => [...document.querySelectorAll(
  "main :is(img, iframe, style, link, script:not([type='application/json']))")].map(
  each => each.outerHTML.slice(0, 100))"""
ALL = [(world, state) for world, states in STATES.items() for state in states]


@pytest.mark.campaign
@pytest.mark.parametrize(("name", "state"), ALL, ids=lambda each: str(each))
def test_every_state(
    worlds: Worlds, profiles: dict[str, Any], browser: Any, name: str, state: State
) -> None:
    world = worlds[name]
    page = page_in(profiles, browser, name, world)
    faults: list[str] = []
    allowed = LOADING if state.status >= 400 or state.act else []
    watch = Watch(urlsplit(world.address).netloc, allowed=list(allowed))
    with watch.over(page):
        for size in (TELEPHONE, WIDE):
            page.set_viewport_size(size)
            seen_as(page, color_scheme="light", media="screen", forced_colors="none")
            reach(page, world, state)
            where = f"{size['width']} px"
            for scheme in ("light", "dark"):
                seen_as(page, color_scheme=scheme)
                faults += [f"{where}, {scheme}: {each}" for each in violations(page)]
            faults += [f"{where}: scrolls sideways"] * scrolls_sideways(page)
        faults += [f"forced colours: {each}" for each in in_forced_colors(page)]
        faults += on_paper(page)
        faults += [f"texts of strangers made {each}" for each in page.evaluate(_STRANGE)]
        page.goto("about:blank")
    faults += [each for each in watch.faults if "about:blank" not in each]
    assert not faults, "\n".join(faults)


def reach(page: Any, world: World, state: State) -> None:
    page.goto("about:blank")  # an address that differs by its fragment alone is not loaded anew
    answer = page.goto(world.address + state.path.format(**world.names))
    assert answer.status == state.status
    if state.act is not None:
        state.act(page)
    assert state.says in " ".join(page.locator("body").inner_text().split())


def in_forced_colors(page: Any) -> list[str]:
    """But for contrasts: the colours are the system's, and axe reads what Chromium reports as the
    text's fill, which is the page's own colour still."""
    seen_as(page, forced_colors="active")
    violated = violations(page)
    seen_as(page, forced_colors="none")
    return [each for each in violated if not each.startswith("color-contrast:")]


def on_paper(page: Any) -> list[str]:
    """Headings are there, and nothing is to be pressed."""
    seen_as(page, media="print")
    faults = [] if page.locator("h1").first.is_visible() else ["on paper: no heading"]
    pressed = page.locator("main :is(button, input, select, textarea):visible").count()
    faults += [f"on paper: {pressed} controls"] * bool(pressed)
    seen_as(page, media="screen")
    return faults


def seen_as(page: Any, **media: str) -> None:
    """Once it is drawn so: axe would read colours of both ways otherwise."""
    page.emulate_media(**media)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")


def test_every_address_is_among_the_states() -> None:
    assert {state.path for state in STATES["library"]} >= set(ADDRESSES)
