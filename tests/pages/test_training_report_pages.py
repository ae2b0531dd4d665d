"""/saes/{sae}/training, /saes/{sae}/report, /saes/{sae}/provenance."""

from __future__ import annotations

import math
import re
import uuid
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from monosemy.figures import number
from monosemy.specs.readings import TrainingFigures, TrainingReading
from service.database.session import transaction
from service.database.tables import Run, Sae
from service.runs.readings import Unwritten, write_readings
from tests.support.browser import violations
from tests.support.library_rows import Library, add_explanation, add_library

pytestmark = pytest.mark.integration

HTML = {"Accept": "text/html"}
PATIENCE = 60
STEPS = 3000


def reading(step: int) -> TrainingReading:
    """With one peak, at step 1,234."""
    return TrainingReading(
        step=step,
        tokens=step * 1000,
        fvu=0.1 + 0.8 * math.exp(-step / 500),
        l0=32.0,
        loss=5.0 if step == 1234 else 0.5,
        dead_share=0.0,
        terms={"auxk": 0.01},
        frozen_decoder_baseline=TrainingFigures(fvu=0.7, l0=32.0),
    )


@pytest.fixture(scope="module")
def trained(module_engine: Engine, library: Library) -> uuid.UUID:
    """`demo` is the second of two SAEs of a sweep, with 3,000 readings; `scored` is another scored
    SAE."""
    with transaction(module_engine) as session:
        spec = {"seeds": [0, 1], "training": {"tokens": 3_000_000, "batch_tokens": 1000}}
        run = Run(kind="sweep", queue="gpu", spec=spec, state="running", lease_owner="me")
        session.add(run)
        session.flush()
        readings = {(place, i): reading(i) for place in (0, 1) for i in range(1, STEPS + 1)}
        assert write_readings(session, run.id, "me", Unwritten({}, readings))
        made = [{"name": "first", "sae_id": str(uuid.uuid4())}]
        made.append({"name": "demo", "sae_id": str(library.sae)})
        run.state, run.result = "succeeded", {"saes": made}
        sae = session.get_one(Sae, library.sae)
        sae.run_id = run.id
        sae.metrics = {"fvu": 0.1, "tokens": 3_000_000, "tokens_per_second": 7015.5}
        sae.provenance = {"weights": {"digest": "d" * 32}, "text": {"text_id": "a text"}}
        other = add_library(session, "scored", 6)
        for feature, value in enumerate((0.55, 0.6, 0.7)):
            add_explanation(session, other, feature, f"label {feature}", "Words.", value)
        return run.id


def get(explorer: str, path: str, **query: Any) -> str:
    answer = httpx.get(explorer + path, params=query or None, headers=HTML, timeout=PATIENCE)
    assert answer.status_code == 200, (path, answer.status_code, answer.text[:2000])
    return answer.text


# ------------------------------------------------------------------ training
def test_training_is_drawn_without_script(explorer: str, trained: uuid.UUID) -> None:
    page = get(explorer, "/saes/demo/training")
    charts = re.findall(r"<figcaption>([^<]+)</figcaption>", page)
    assert charts == [
        "FVU (log scale)",
        "L0",
        "Loss (log scale)",
        "Dead latents (share)",
        "Term of the loss: auxk",
    ]
    drawn = re.sub(r'<svg class="swatches".*?</svg>', "", page)  # the keys have lines of their own
    assert drawn.count('class="line null"') == 2, "the twin's FVU and L0"
    assert f"FVU (log scale), at the end: SAE {number(reading(STEPS).fvu)}" in page
    assert "3,000 readings" in page and ">first</a>" in page
    assert len(page.encode()) < 60_000


def test_curves_show_readings_and_zoom(explorer: str, open_page: Any, trained: uuid.UUID) -> None:
    """The crosshair's figures are a reading's, the peak is still there, and a drag zooms all."""
    page = open_page(f"{explorer}/saes/demo/training")
    live = page.locator(".live-curves")
    live.first.wait_for()
    assert live.count() == 5
    for path in page.locator("path.line").all():
        assert path.get_attribute("d").count("L") < 2000
    found = httpx.get(
        f"{explorer}/api/v1/runs/{trained}/training",
        params={"place": 1, "points": 2000},
        timeout=PATIENCE,
    ).json()["saes"][0]["readings"]
    assert len(found) <= 2000
    fvu = page.locator("[data-chart='0']")
    assert not violations(page)
    drawing = fvu.locator(".live-curves")
    drawing.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    wanted = found[1]
    words = f"{number(wanted['tokens'])} tokens: SAE {number(wanted['fvu'])}"
    assert fvu.locator(".readout").inner_text().startswith(words)
    other = page.locator("[data-chart='1'] .readout").inner_text()
    assert other.startswith(f"{number(wanted['tokens'])} tokens"), "charts follow one another"
    box = drawing.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 70, steps=3)
    page.mouse.up()
    ends = [page.locator(f"[data-chart='{i}'] text.tick.start").text_content() for i in (0, 4)]
    assert ends[0] == ends[1] and int(ends[0].replace(",", "")) > 1_000_000
    drawing.dblclick()
    assert page.locator("[data-chart='0'] text.tick.start").text_content() != ends[0]


def test_an_sae_from_elsewhere_has_no_curves(explorer: str, trained: uuid.UUID) -> None:
    assert "not trained here" in get(explorer, "/saes/scored/training")


# ------------------------------------------------------------------ report
def test_dots_lead_to_their_features(explorer: str, open_page: Any, trained: uuid.UUID) -> None:
    page = open_page(f"{explorer}/saes/scored/report")
    assert not violations(page)
    links = page.eval_on_selector_all("main svg a", "e => e.map(x => x.getAttribute('href'))")
    report = httpx.get(f"{explorer}/api/v1/saes/scored/report", timeout=PATIENCE).json()
    drawn = report["scorers"]["detection"]["drawn_features"]
    assert sorted(links) == sorted(f"/saes/scored/features/{each}" for each in drawn)
    listed = page.eval_on_selector_all(
        "details td a", "e => e.map(x => [x.textContent, x.getAttribute('href')])"
    )
    best = [each["feature"] for each in report["scorers"]["detection"]["best"]]
    assert [int(text) for text, _ in listed[len(best) :]] == best
    assert all(href == f"/saes/scored/features/{text}" for text, href in listed)


def test_a_report_beside_another_sae(explorer: str, trained: uuid.UUID) -> None:
    alone = get(explorer, "/saes/scored/report")
    assert "P(above demo)" not in alone and '<option value="">no other SAE</option>' in alone
    beside = get(explorer, "/saes/scored/report", reference="demo")
    assert "P(above demo)" in beside and "<option selected>demo</option>" in beside
    assert "style=" not in beside.split("<main")[1]


def test_a_report_of_nothing_says_what_to_do(explorer: str, trained: uuid.UUID) -> None:
    page = get(explorer, "/saes/raw/report")
    assert "No explanation of it is scored yet" in page and "kind=index" in page
    against = get(explorer, "/saes/scored/report", reference="raw")
    assert "has no scores yet" in against
    missing = httpx.get(f"{explorer}/saes/scored/report?reference=none", headers=HTML)
    assert missing.status_code == 404


# ------------------------------------------------------------------ provenance
def test_provenance_has_digests_and_the_whole(explorer: str, trained: uuid.UUID) -> None:
    page = get(explorer, "/saes/demo/provenance")
    assert "d" * 32 in page and "a text" in page and str(trained) in page
    assert "monosemy sae export demo" in page and "&#34;k&#34;: 4" in page
