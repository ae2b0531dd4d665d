"""Sets: listed with what they read and write, and their SAEs by layer."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import Engine

from monosemy.figures import ranges
from service.database.session import transaction
from service.database.tables import Run
from tests.pages.conftest import SET
from tests.support.browser import holds, violations
from tests.support.gathered_rows import add_beside
from tests.support.library_rows import Library
from tests.support.scored_rows import RAW


def test_a_set_is_reached_from_its_sae_and_leads_to_it(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/saes/{RAW}")
    page.get_by_role("link", name=SET).click()
    page.wait_for_url("**/sets/every%20layer")
    assert "Not every layer" in page.inner_text(".notice")
    assert page.locator("table.saes tbody th[scope=row]").all_inner_texts() == [RAW]
    assert violations(page) == []
    form = page.get_by_role("link", name="Measure all in place at once")
    form.click()
    page.wait_for_url("**/runs/new**")
    assert "evaluate_set" in page.url and page.locator(".failed").count() == 0
    page.goto(f"{explorer}/sets")
    row = page.locator("tbody tr").first.inner_text()
    assert SET in row and "the same" in row and "(not all)" in row
    assert violations(page) == []


MEASURED = {
    "members": [
        {
            "site": "blocks.1.hook_resid_post",
            "target": "blocks.1.hook_resid_post",
            "fvu": 0.25,
            "l0": 4.0,
            "dead_share": 0.125,
            "alone": {"ce_increase": 0.05, "low": 0.04, "high": 0.06},
        },
        {"site": "<b>", "fvu": "x"},
        3,
    ],
    "all": {"ce_increase": 0.5, "low": 0.4, "high": 0.6, "kl": 0.25, "top1_agreement": 0.75},
    "mean_ablation": {"ce_increase": 2.0, "low": None, "high": None},
    "ce_clean": 3.5,
    "ce_recovered_mean": 0.75,
    "splice_tokens": 4096,
    "splice_rows": 40,
}


def test_a_set_is_made_measured_and_deleted(
    explorer: str, module_engine: Engine, open_page: Any, library: Library
) -> None:
    with transaction(module_engine) as session:
        ids = [str(library.sae), str(add_beside(session, library.name).id)]
    page = open_page(f"{explorer}/sets", allowed=["Failed to load resource"])
    form = page.locator("form[action$='/sets/new']")
    form.get_by_label("Its name").fill("by hand")
    form.locator(f"input[value='{ids[0]}']").check()
    form.get_by_role("button", name="Make the set").click()
    page.get_by_role("alert").wait_for()
    assert "at least 2" in page.inner_text("#saes-error")
    holds(form.get_by_label("Its name"), "by hand")
    assert form.locator("input:checked").count() == 1 and violations(page) == []
    form.locator(f"input[value='{ids[1]}']").check()
    form.get_by_role("button", name="Make the set").click()
    page.wait_for_url("**/sets/by%20hand")
    assert page.locator("table.saes tbody th[scope=row]").all_inner_texts() == ["demo", "beside"]
    assert page.locator("#together").count() == 0
    with transaction(module_engine) as session:
        spec = {"kind": "evaluate_set", "saes": ids}
        run = Run(kind="evaluate_set", queue="gpu", spec=spec, state="succeeded")
        run.result = {"saes": ids, "metrics": MEASURED}
        run.finished_at = dt.datetime.now(dt.UTC)
        session.add(run)
    page.reload()
    together = " ".join(page.locator("#together").inner_text().split())
    assert "0.25 4 12.5 % +0.05" in together and "<b> the same" in together
    assert "4,096 tokens in 40 rows" in together and "75 % of the loss" in together
    assert violations(page) == []
    page.get_by_role("link", name="Delete the set").click()
    page.wait_for_url("**/delete")
    assert "Its 2 SAEs stay" in page.inner_text("main") and violations(page) == []
    page.get_by_role("button", name="Delete the set").click()
    page.wait_for_url("**/sets")
    assert "by hand" not in page.inner_text("main")


def test_layers_in_short() -> None:
    assert ranges([0, 1, 2, 7, 9, 10]) == "0-2, 7, 9-10"
    assert ranges([3]) == "3" and ranges([]) == ""
