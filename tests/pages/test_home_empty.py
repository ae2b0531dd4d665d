"""Home of a deployment in which nothing is yet."""

from __future__ import annotations

import httpx

from service.app import create_app
from service.settings import Settings
from tests.support.served import served


def test_it_says_how_to_begin(page_settings: Settings) -> None:
    """Three ways, each with a command to copy and a button that fills the form in."""
    with served(create_app(page_settings)) as address:
        home = httpx.get(f"{address}/", headers={"Accept": "text/html"}).text
        for command in ("monosemy demo", "--set text.source=your.jsonl", "--kind import"):
            assert command in home
        assert home.count('class="button"') == 3
        form = httpx.get(
            f"{address}/runs/new?kind=pipeline&set=text.source%3Dyour.jsonl",
            headers={"Accept": "text/html"},
        ).text
    assert "source: your.jsonl" in form
