"""What holds for every address of the explorer: axe, the policy, the width of a telephone, no
script."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.pages.addresses import ADDRESSES
from tests.support.browser import scrolls_sideways, violations

REFUSED = ["Failed to load resource: the server responded with a status of 4"]
"""What Chromium says of a page that is itself an error."""


def test_axe_clean_keeps_csp_nothing_leaves(explorer: str, open_page: Any) -> None:
    """One state of each address, light, 1,440 pixels wide."""
    faults = []
    page = open_page(explorer + "/models", color_scheme="light", allowed=REFUSED)
    for path in ADDRESSES:
        page.goto(explorer + path)
        faults += [f"{path}: {each}" for each in violations(page)]
        faults += [f"{path}: no main heading"] * (page.locator("h1").count() != 1)
    assert not faults, "\n".join(faults)


@pytest.mark.campaign
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_axe_clean_in_every_theme_and_width(
    explorer: str, open_page: Any, scheme: str, width: int
) -> None:
    faults = []
    page = open_page(
        explorer + "/models",
        color_scheme=scheme,
        viewport={"width": width, "height": 800},
        allowed=REFUSED,
    )
    for path in ADDRESSES:
        page.goto(explorer + path)
        faults += [f"{path}: {each}" for each in violations(page)]
    assert not faults, "\n".join(faults)


def test_no_sideways_scroll_at_390(explorer: str, open_page: Any) -> None:
    page = open_page(
        explorer + "/models",
        color_scheme="dark",
        viewport={"width": 390, "height": 800},
        allowed=REFUSED,
    )
    wide = []
    for path in ADDRESSES:
        page.goto(explorer + path)
        if scrolls_sideways(page):
            wide.append(path)
    assert not wide


def test_reading_without_javascript(explorer: str, open_page: Any) -> None:
    """The same words are there without script, but for what the script adds and times of day."""
    with_script = open_page(explorer + "/models", allowed=REFUSED)
    without = open_page(explorer + "/models", java_script_enabled=False, allowed=REFUSED)
    for path in ADDRESSES:
        without.goto(explorer + path)
        main = without.locator("main")
        assert main.inner_text().strip(), path
        assert without.locator("h1").is_visible(), path
        with_script.goto(explorer + path)
        for table in range(min(main.locator("table").count(), 5)):
            mine = main.locator("table").nth(table)
            if not mine.is_visible() or mine.locator("time").count():
                continue
            shown = " ".join(with_script.locator("main").inner_text().split())
            assert " ".join(mine.inner_text().split()) in shown, path


def test_scripts_of_every_page_are_small(explorer: str, open_page: Any) -> None:
    """At most 25 KB of script, compressed, on any page."""
    import gzip

    from service.pages.static import static_files, tree_digest

    sizes = {name: len(gzip.compress(body)) for name, body in static_files().items()}
    page = open_page(explorer + "/models", allowed=REFUSED)
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(urlsplit(request.url).path))
    for path in ADDRESSES:
        loaded.clear()
        page.goto(explorer + path)
        page.wait_for_load_state("networkidle")
        names = {each.removeprefix(f"/static/{tree_digest()}/") for each in loaded}
        scripts = {name: sizes[name] for name in names if name.endswith(".js")}
        assert sum(scripts.values()) <= 25_000, (path, scripts)
