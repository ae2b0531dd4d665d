"""What a feature's page says of the places of its SAE."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, select

from service.cli.feature_text import place_lines
from service.crosscoders.repository import replace_latents
from service.database.session import transaction
from service.database.tables import Feature, Sae
from tests.support.browser import violations
from tests.support.crosscoder_rows import BASE, CLASSES, MEASURED, TUNED, add_crosscoder

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def crosscoder(module_engine: Engine, explorer: str) -> str:
    with transaction(module_engine) as session:
        add_crosscoder(session)
    return f"{explorer}/saes/crosscoder/features"


def words(address: str) -> str:
    answer = httpx.get(address, headers=HTML)
    assert answer.status_code == 200, answer.text
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())


@pytest.mark.parametrize(
    ("feature", "text"),
    [
        (0, "1 of 2 places; shares of the squared length of its encoder and decoder rows"),
        (0, f"{BASE} 100.0 % 100.0 % 1.00 king +2.50"),
        (1, "It writes one place alone"),
        (2, f"{BASE} 3.8 % 3.8 % 0.20"),
        (2, f"{TUNED} 96.2 % 96.2 % 1.00"),
        (2, "By its decoder norms it is weak."),
        (3, "It writes all places alike"),
        (4, "Its index has no lengths by place"),
    ],
)
def test_shares_and_classes(crosscoder: str, feature: int, text: str) -> None:
    assert text in words(f"{crosscoder}/{feature}")


def test_rest_and_the_command_line_say_the_same(crosscoder: str, explorer: str) -> None:
    address = f"{explorer}/api/v1/saes/crosscoder/features"
    pages = [httpx.get(f"{address}/{index}").json() for index in range(len(CLASSES))]
    assert [page["latent_class"] for page in pages] == CLASSES
    assert pages[0]["evidence"]["places"] == [
        {
            "place": BASE,
            "reads": 0.5,
            "writes": 1.0,
            "promoted": [
                {"id": 2, "text": " king", "effect": 2.5},
                {"id": 3, "text": "<b>queen", "effect": 0.5},
            ],
        }
    ]
    lines = place_lines(pages[2])
    assert len(lines) == 5 and lines[-1].endswith("weak, by its decoder norms; not evaluated")
    assert f"{BASE} 3.8%" in lines[0] and "promotes" not in lines[0] and "96.2%" in lines[1]
    assert "3.8%, promotes ' king', '<b>queen'" in lines[2] and "promotes" not in lines[3]


def test_an_sae_of_one_place_says_nothing_of_places(explorer: str) -> None:
    page = httpx.get(f"{explorer}/api/v1/saes/demo/features/11").json()
    assert page["latent_class"] is None and page["evidence"]["places"] == []
    assert "Where it reads and writes" not in words(f"{explorer}/saes/demo/features/11")
    assert not place_lines(page)


def test_a_feature_in_one_file_says_it_too(crosscoder: str) -> None:
    assert f"{BASE} 3.8 % 3.8 % 0.20" in words(f"{crosscoder}/2.html")


def test_an_index_of_an_earlier_version(crosscoder: str, module_engine: Engine) -> None:
    with transaction(module_engine) as session:
        sae = session.scalars(select(Sae).where(Sae.name == "crosscoder")).one()
        row = session.get_one(Feature, (sae.id, 7))
        row.evidence = {k: v for k, v in row.evidence.items() if k != "places"}
    assert "Its index has no lengths by place" in words(f"{crosscoder}/7")


def test_looks(crosscoder: str, open_page: Any) -> None:
    page = open_page(f"{crosscoder}/2")
    section = page.locator(".at-places")
    assert section.locator("tbody tr").count() == 2
    assert section.locator("svg").first.bounding_box()["width"] > 0
    assert violations(page) == []


def test_classes_are_counted_filtered_and_told(
    crosscoder: str, explorer: str, module_engine: Engine
) -> None:
    sae = f"{explorer}/saes/crosscoder"
    assert "is unknown: no evaluation has measured it." in words(f"{crosscoder}/0")
    with transaction(module_engine) as session:
        row = session.scalars(select(Sae).where(Sae.name == "crosscoder")).one()
        row.metrics = {"evaluation": {"crosscoder": {"exclusive": {}, "weak": 1, "shared": 1}}}
        replace_latents(session, row.id, MEASURED)
    counted = "3 exclusive ( 2 in truth ), 1 weak , 1 shared , 3 unknown , which never fired"
    assert counted in words(sae)
    table = httpx.get(crosscoder, params={"genuine": "true", "q": ""}, headers=HTML).text
    shown = re.findall(r"/saes/crosscoder/features/(\d+)\?[^\"]*genuine=true", table)
    assert sorted(set(shown)) == ["0", "5"]
    assert '<option value="true" selected>yes' in table and "exclusive (3)" in table
    assert "It is so by latent scaling: elsewhere the error has 0.02" in words(f"{crosscoder}/0")
    assert "It only looks so by latent scaling" in words(f"{crosscoder}/1")
    answer = httpx.get(f"{explorer}/saes/demo/features?latent_class=weak", headers=HTML)
    assert answer.status_code == 409 and "latent_class: " in answer.text
    assert "is no crosscoder" in answer.text
