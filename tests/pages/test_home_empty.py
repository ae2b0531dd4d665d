"""Home of a deployment in which nothing is yet."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.support.fixtures_database import copied_database
from tests.support.served import served


@pytest.fixture(scope="module")
def database_url(postgres: str, template_database: str) -> Iterator[str]:
    with copied_database(postgres, template_database) as url:
        yield url


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
