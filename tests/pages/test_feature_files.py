"""A feature on other people's pages, and in files."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from service.app import create_app
from service.database.session import transaction
from service.keys.service import create_key, revoke_key
from service.pages.feature.embeds import token
from service.pages.format import fixed, interval, number
from service.settings import Settings
from tests.support.browser import violations
from tests.support.hostile_rows import NAME, add_hostile
from tests.support.library_rows import Library
from tests.support.other_site import other_site
from tests.support.scored_rows import DEAD, GOOD
from tests.support.served import served

HTML = {"Accept": "text/html"}
EMBED = f"/embed/saes/demo/features/{GOOD}"
FEATURE = f"/saes/demo/features/{GOOD}"
SECRET = "a secret of the tests, long enough"


@pytest.fixture(scope="module")
def framing() -> Iterator[str]:
    """A page of somebody else's, which frames what its query names."""
    frame = '<iframe id="frame" src="{}" width="600" height="400"></iframe>'
    with other_site(frame.format) as address:
        yield address


@pytest.fixture(scope="module")
def guarded(
    page_settings: Settings, library: Library, framing: str, explorer: str
) -> Iterator[tuple[str, Settings]]:
    """The explorer where keys are asked for, which lets ``framing`` frame features."""
    del library, explorer
    update = {"require_keys": True, "secret": SECRET, "embed_ancestors": framing}
    settings = Settings(**{**page_settings.model_dump(), **update})
    with served(create_app(settings)) as address:
        yield address, settings


def key(engine: Engine, scopes: list[str]) -> str:
    with transaction(engine) as session:
        return create_key(session, f"embeds {time.time()}", scopes, SECRET)


def made(address: str, key: str, **wanted: Any) -> httpx.Response:
    url = f"{address}/api/v1{FEATURE}/embed"
    return httpx.post(url, json=wanted, headers={"Authorization": f"Bearer {key}"})


def test_an_embed_is_small_and_says_where_it_is_from(explorer: str, open_page: Any) -> None:
    answer = httpx.get(explorer + EMBED, headers=HTML)
    assert answer.status_code == 200 and len(answer.content) < 20_000
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert "x-frame-options" not in answer.headers
    page = open_page(explorer + EMBED + "?theme=dark&n=2")
    assert page.locator(".examples li").count() == 2
    assert page.locator(f"h1 a[href='{FEATURE}'][target=_top]").count() == 1
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    assert not violations(page)
    page.goto(explorer + EMBED + "?parts=histogram&parts=writes")
    assert page.locator("svg.bars").count() == 1 and page.locator(".examples").count() == 0
    assert page.locator("table.writes").count() == 1 and page.locator(".scores").count() == 0
    assert httpx.get(f"{explorer}/embed/saes/demo/features/{DEAD}").status_code == 200
    for wrong in ("?parts=all", "?n=0", "?theme=pink"):
        assert httpx.get(explorer + EMBED + wrong, headers=HTML).status_code == 422


def test_embed_only_where_allowed(
    explorer: str,
    browser: Any,
    framing: str,
    guarded: tuple[str, Settings],
    module_engine: Engine,
) -> None:
    address, _ = guarded
    path = made(address, key(module_engine, ["read"]), parts=["explanation"]).json()["path"]
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{framing}/?{address}{path}")
    assert f"Feature {GOOD}" in page.frame_locator("#frame").locator("h1").inner_text()
    page.goto(f"{framing}/?{explorer}{EMBED}")  # which lets nobody but itself
    assert page.frames[1].url.startswith("chrome-error:")
    page.goto(f"{framing}/?{explorer}{FEATURE}")
    assert page.frames[1].url.startswith("chrome-error:")
    context.close()
    for each in (FEATURE, "/models", "/api/v1/readyz"):
        headers = httpx.get(explorer + each, headers=HTML).headers
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_embed_needs_a_signature_where_keys_are_asked_for(
    guarded: tuple[str, Settings], module_engine: Engine, library: Library
) -> None:
    address, settings = guarded
    reader = key(module_engine, ["read"])
    assert made(address, "mnsy_" + "x" * 38).status_code == 401
    answer = made(address, reader, parts=["examples"], n=3, hours=1)
    path = answer.json()["path"]
    shown = httpx.get(address + path)
    assert shown.status_code == 200 and "embed" in shown.text
    assert settings.embed_ancestors in shown.headers["content-security-policy"]
    given = path.rpartition("t=")[2]
    expiry, own, signature = given.split(".")
    refused = {
        "without": EMBED,
        "garbage": f"{EMBED}?parts=examples&t=x",
        "half": f"{EMBED}?parts=examples&t={expiry}.{own}",
        "another feature": path.replace(f"features/{GOOD}", f"features/{GOOD + 1}"),
        "other parts": path.replace("parts=examples", "parts=explanation"),
        "more parts": path.replace("parts=examples", "parts=examples&parts=explanation"),
        "later": path.replace(f"t={expiry}", f"t={int(expiry) + 1}"),
        "another key": path.replace(own, "0" * 32),
        "no such SAE": f"/embed/saes/none/features/1?parts=examples&t={given}",
    }
    for why, each in refused.items():
        assert httpx.get(address + each).status_code == 404, why
    with transaction(module_engine) as session:
        from service.keys.repository import by_digest
        from service.keys.service import digest

        stored = by_digest(session, digest(reader, SECRET)).id
    old = token(settings, stored, library.sae, GOOD, ["examples"], int(time.time()) - 5)
    expired = httpx.get(f"{address}{EMBED}?parts=examples&t={old}")
    assert expired.status_code == 404 and "expired" in expired.json()["detail"]
    assert httpx.get(address + path).status_code == 200
    with transaction(module_engine) as session:
        revoke_key(session, str(stored))
    assert httpx.get(address + path).status_code == 404
    assert signature not in httpx.get(address + path).text


def test_export_from_disk(explorer: str, browser: Any, tmp_path: Path) -> None:
    answer = httpx.get(f"{explorer}{FEATURE}.html", headers=HTML)
    assert answer.status_code == 200 and len(answer.content) <= 80_000
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="demo-feature-{GOOD}.html"'
    )
    assert "<script" not in answer.text and " style=" not in answer.text
    file = tmp_path / "feature.html"
    file.write_bytes(answer.content)
    known = httpx.get(f"{explorer}/api/v1{FEATURE}").json()
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: faults.append(message.text))
    page.goto(file.as_uri())
    assert asked == [file.as_uri()] and not faults
    text = page.locator("body").inner_text()
    score = known["explanations"][0]["scores"][0]
    assert f"{fixed(score['value'])} {interval(score['low'], score['high'])}" in text
    assert number(known["max_activation"]) in text and known["explanations"][0]["text"] in text
    shown = page.locator(".examples .act").all_inner_texts()
    assert shown == [number(each["activation"]) for each in known["examples"]]
    for each in (known["sae"]["id"], known["explanations"][0]["id"], score["id"], "text-demo"):
        assert each in text
    accent = page.evaluate("getComputedStyle(document.querySelector('svg .bar')).fill")
    assert accent not in ("", "rgb(0, 0, 0)")  # the style is let through by its digest
    context.close()


def test_several_features_in_one_file(explorer: str) -> None:
    whole = httpx.get(f"{explorer}/saes/demo.html", params={"min_density": 0.04})
    assert whole.status_code == 200 and "12 of 60 features" in whole.text
    named = [int(each) for each in re.findall(r"<h2>Feature (\d+) of", whole.text)]
    assert named == [index for index in range(60) if index % 5 == 4]
    assert whole.text.count("</html>") == 1 and whole.text.rstrip().endswith("</html>")
    listed = httpx.get(f"{explorer}/lists/royalty.html")
    assert re.findall(r"<h2>Feature (\d+) of", listed.text) == ["3", "17", "8"]
    assert 'filename="royalty.html"' in listed.headers["content-disposition"]
    for path in ("/saes/none.html", "/lists/none.html", "/saes/demo/features/60.html"):
        assert httpx.get(explorer + path, headers=HTML).status_code == 404, path
    assert httpx.get(f"{explorer}/lists/empty.html").status_code == 200


def test_files_and_embeds_show_hostile_texts_as_text(
    explorer: str, module_engine: Engine, open_page: Any, browser: Any, tmp_path: Path
) -> None:
    with transaction(module_engine) as session:
        add_hostile(session)
    text = httpx.get(f"{explorer}/api/v1/saes/{NAME}/features/0/page").text
    assert "<script" not in text and "<img" not in text and "\u202e" not in text
    file = tmp_path / "hostile.html"
    file.write_text(text)
    context = browser.new_context()
    page = context.new_page()
    dialogs: list[Any] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog))
    page.goto(file.as_uri())
    assert page.evaluate("document.querySelectorAll('img, script, iframe').length") == 0
    assert not dialogs
    context.close()
    page = open_page(f"{explorer}/embed/saes/{NAME}/features/0")
    assert page.evaluate("document.querySelectorAll('img, script').length") == 0
    every = httpx.get(f"{explorer}/saes/{NAME}.html").text
    assert "<script" not in every and "<img" not in every
