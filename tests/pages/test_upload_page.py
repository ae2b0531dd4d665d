"""SAEs that come in from outside, and that are deleted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from service.database.session import transaction
from service.settings import Settings
from tests.support.browser import violations
from tests.support.gathered_rows import add_list
from tests.support.hostile import CONFIG, safetensors
from tests.support.library_rows import add_library

HTML = {"Accept": "text/html"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "my-sae"
    made.mkdir()
    (made / "cfg.json").write_bytes(CONFIG)
    (made / "sae_weights.safetensors").write_bytes(safetensors())
    (made / "weights.pt").write_bytes(b"pickled")
    return made


def test_a_folder_is_uploaded_and_leads_to_its_import(
    explorer: str, open_page: Any, folder: Path, page_settings: Settings
) -> None:
    page = open_page(f"{explorer}/saes/upload")
    page.get_by_label("or a whole folder").set_input_files(str(folder))
    page.get_by_role("button", name="Upload").click()
    page.locator("#receipt").wait_for()
    assert not violations(page)
    assert "weights.pt" in page.locator("#said").inner_text()  # which was not sent
    assert "sae_weights.safetensors" in page.locator("#files").inner_text()
    source = page.locator("#source").inner_text()
    identity = source.removeprefix("upload:")
    assert (page_settings.artifacts / "uploads" / identity).is_dir()
    assert page.locator("#import").get_attribute("href") == (
        f"/runs/new?kind=import&set=source%3Dupload%3A{identity}"
    )
    page.get_by_role("button", name="Delete the upload").click()
    page.locator("#said", has_text="is deleted").wait_for()
    assert not (page_settings.artifacts / "uploads" / identity).exists()


def test_what_is_not_taken_is_said_before_and_after_sending(
    explorer: str, open_page: Any, folder: Path, tmp_path: Path
) -> None:
    page = open_page(f"{explorer}/saes/upload", allowed=["Failed to load resource"])
    page.get_by_role("button", name="Upload").click()
    page.locator("#said", has_text="Choose the files first").wait_for()
    files = page.get_by_label("An archive, or the single files")
    files.set_input_files(str(folder / "weights.pt"))
    page.get_by_role("button", name="Upload").click()
    page.locator("#said", has_text="None of these files is taken").wait_for()
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(b"PK no archive")
    files.set_input_files(str(damaged))
    page.get_by_role("button", name="Upload").click()
    page.locator("#said.error", has_text=re.compile("archive|zip")).wait_for()
    assert page.locator("#receipt").is_hidden()


def test_an_sae_is_deleted_by_its_name_alone(
    explorer: str, module_engine: Engine, open_page: Any
) -> None:
    with transaction(module_engine) as session:
        made = add_library(session, "doomed", features=4)
        add_list(session, made, "holds doomed", [1, 2])
    page = open_page(
        f"{explorer}/saes/doomed/delete",
        java_script_enabled=False,
        allowed=["Failed to load resource"],
    )
    words = page.locator("main").inner_text()
    assert "4 features" in words and "holds doomed" in words
    page.get_by_label("Its name, to be sure").fill("demo")
    page.get_by_role("button", name="Delete it").click()
    assert "nothing was deleted" in page.locator("main").inner_text()
    for name in ("doomed", "demo"):
        assert httpx.get(f"{explorer}/api/v1/saes/{name}").status_code == 200
    page.get_by_label("Its name, to be sure").fill("doomed")
    page.get_by_role("button", name="Delete it").click()
    page.wait_for_url(f"{explorer}/saes")
    assert httpx.get(f"{explorer}/api/v1/saes/doomed").status_code == 404
    assert httpx.get(f"{explorer}/saes/doomed/delete", headers=HTML).status_code == 404
    listed = httpx.get(f"{explorer}/api/v1/lists/holds doomed").json()
    assert listed["size"] == 0
