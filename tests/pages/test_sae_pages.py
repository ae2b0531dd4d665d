"""/saes, an SAE as a whole, its table of features, and search."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from monosemy.figures import density, even_percent, fixed, interval, number
from monosemy.specs.hooks import Hooks
from service.database.session import transaction
from service.database.tables import Explanation, Feature, Run, Sae, Score
from service.features.listing import usual_scorer
from service.pages.sae_figures import evaluation, measured
from tests.service.conftest import FakeInference
from tests.support.browser import violations
from tests.support.library_rows import Library, add_explanation, add_library, unit

pytestmark = pytest.mark.integration

HTML = {"Accept": "text/html"}
PATIENCE = 60
REFUSED = ["Failed to load resource: the server responded with a status of 4"]
FILTERED = "Features that fire on"
EVALUATION = {
    "fvu": 0.173,
    "l0": 32.0,
    "ce_recovered_zero": 0.9616,
    "kl": 0.334,
    "dead_share": 0.0049,
    "tokens": 32768,
    "splice_tokens": 4096,
    "ce_clean": 3.446,
    "ce_zero": 10.235,
    "ce_mean": 9.13,
    "frozen_decoder_baseline": {"fvu": 0.681, "l0": 32.0, "ce_recovered_zero": 0.5707},
}


@pytest.fixture(scope="module")
def scored(module_engine: Engine, library: Library, inference: FakeInference) -> Library:
    """Of `demo`: 1 clears its baseline, 2 does not, 3 has an explanation alone.  `unindexed` is not
    indexed, `unlabelled` has no explanation, `unscored` explanations without scores."""
    inference.axes = {"monarchs": 0}
    with transaction(module_engine) as session:
        mine = [
            add_explanation(session, library, 1, "kings", "Words for kings.", 0.9, unit(0)),
            add_explanation(session, library, 2, "queens", "Words for queens.", 0.55),
        ]
        add_explanation(session, library, 3, "chairs", "Words for chairs.")
        shuffled = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 20, "n_failed": 0}
        for score in session.query(Score).filter(Score.explanation_id.in_(mine)):
            score.details = {"baseline": shuffled}
        raw, _bare = add_library(session, "unindexed", 1), add_library(session, "unlabelled", 4)
        told = add_library(session, "unscored", 4)
        add_explanation(session, told, 1, "thrones", "Words for thrones.")
        row = session.get_one(Sae, raw.sae)
        row.index = None
        row = session.get_one(Sae, library.sae)
        row.metrics = {"fvu": 0.2, "evaluation": EVALUATION}
        run = Run(kind="import", queue="gpu", spec={}, state="succeeded")
        session.add(run)
        session.flush()
        row.run_id = run.id
    return library


def get(explorer: str, path: str, **query: Any) -> str:
    answer = httpx.get(explorer + path, params=query or None, headers=HTML, timeout=PATIENCE)
    assert answer.status_code == 200, (path, answer.status_code, answer.text[:2000])
    return answer.text


def rest(explorer: str, path: str, **query: Any) -> Any:
    answer = httpx.get(f"{explorer}/api/v1{path}", params=query or None, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.json()


def words(html: str) -> str:
    return plain(re.sub(r"<[^>]+>", " ", html).replace("&#34;", '"'))


def plain(text: str) -> str:
    """With blanks of one kind: cells are joined by others than figures have."""
    return re.sub(r"\s+", " ", text)


# ------------------------------------------------------------------ bases
def test_a_basis_is_none_that_was_trained(
    explorer: str, scored: Library, module_engine: Engine
) -> None:
    """No baseline, no curves, no training; and its scores stand beside the SAE's."""
    with transaction(module_engine) as session:
        basis = add_library(session, "coordinates", 6)
        row = session.get_one(Sae, basis.sae)
        row.model_id, row.architecture = scored.model, "neurons"
        row.metrics = {"fvu": 0.7, "l0": 4.0}
        row.provenance = {"spec": {"kind": "basis"}, "text": {"text_id": "abc"}}
        row.config = {**row.config, "training": None, "basis": {"basis": "neurons"}}
        add_explanation(session, basis, 1, "x", "Neuron one.", 0.6, unit(1))
        add_explanation(session, basis, 2, "x", "Neuron two.", 0.5, unit(2))
    overview = words(get(explorer, "/saes/coordinates"))
    assert "basis, not trained neurons" in overview
    assert "On the tokens that it was made from" in overview
    assert "It is a basis that needs no training" in overview
    assert "frozen-decoder baseline difference" not in overview
    assert "last training batches" not in overview
    training = words(get(explorer, "/saes/coordinates/training"))
    assert "How coordinates was made" in training and "needs no training" in training
    made = words(get(explorer, "/saes/coordinates/provenance"))
    assert "the same basis again" in made and "text it was made from abc" in made
    assert "neurons (basis)" in words(get(explorer, "/saes"))
    beside = words(get(explorer, "/saes/demo/report/beside"))
    assert "median balanced accuracy of demo less that of coordinates" in beside
    alone = words(get(explorer, "/saes/unscored/report/beside", other="coordinates"))
    assert "No scorer has scored" in alone
    with transaction(module_engine) as session:
        session.delete(session.get_one(Sae, basis.sae))
    nothing = words(get(explorer, "/saes/unscored/report/beside"))
    assert "monosemy bases unscored" in nothing


# ------------------------------------------------------------------ figures
def test_sae_twin_beside(explorer: str, scored: Library) -> None:
    """Every row of the evaluation has the twin's figure and the difference."""
    page = get(explorer, "/saes/demo")
    table = page.split('class="evaluation"')[1].split("</table>")[0]
    rows = [
        [words(cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", table, re.S)
    ]
    assert rows[0][1:] == ["SAE", "frozen-decoder baseline", "difference"]
    found = {row[0]: row[1:] for row in rows[1:]}
    assert found["FVU ↓"] == ["0.173", "0.681", "−0.508"]
    assert found["L0"] == ["32", "32", "0"]
    assert found["CE recovered, zero ↑"] == ["96.2 %", "57.1 %", "+39 points"]
    assert found["KL ↓"] == ["0.334", "–", "–"], "missing is not zero"
    assert "32,768 tokens" in page and "3.446 in the host model" in page
    listed = words(get(explorer, "/saes"))
    for figure in ("0.173", "0.681", "96.2 %", "57.1 %", "0.5 %"):
        assert figure in listed


def test_figures_that_are_no_numbers_are_left_out() -> None:
    """Metrics of an SAE may come from anywhere."""
    strange = {"evaluation": {"fvu": "low", "l0": True, "kl": [1], "dead_share": 0.5}}
    assert [row.name for row in evaluation(strange).rows] == ["dead latents ↓"]
    for metrics in ({}, {"evaluation": None}, {"evaluation": []}, {"frozen_decoder_baseline": 3}):
        assert evaluation(metrics).rows == [] and measured(metrics).own.fvu is None
    parts = {"fvu": 0.1, "parts": {"a": {"fvu": 0.2}, "b": 7}, "effective_l0": {"l0": 3.0}}
    assert [row.own for row in evaluation({"evaluation": parts}).rows][:2] == ["0.100", "0.200"]


def test_figures_equal_rest(explorer: str, scored: Library) -> None:
    """Every row of the table, formatted."""
    query = {"sort": "score", "order": "desc"}
    page = get(explorer, "/saes/demo/features", **query)
    body = page.split("<tbody>")[1].split("</tbody>")[0]
    rows = [words(row) for row in body.split("</tr>")[:-1]]
    items = rest(explorer, "/saes/demo/features", **query, limit=50)["items"]
    assert len(rows) == len(items) == 50
    for row, item in zip(rows, items, strict=True):
        shown = [str(item["index"]), item["heading"]["text"]]
        shown += [density(item["density"]), fixed(item["max_activation"], 1)]
        score = item["score"]
        if score and score["value"] is None:
            shown.append("no judgement could be had")
        elif score:
            shown += [fixed(score["value"]), interval(score["low"], score["high"])]
            shown += [f"◇ {fixed(score['baseline'])}", f"n {score['n']}"]
        for each in shown:
            assert plain(each) in row, (each, row)
    counted = rest(explorer, "/saes", counts="true")["items"]
    listed = words(get(explorer, "/saes"))
    for sae in counted:
        assert sae["name"] in listed and number(sae["d_sae"]) in listed


def test_interval_drawn_where_the_figures_say(explorer: str, open_page: Any, scored: Any) -> None:
    """The dot, the ends of its interval and the diamond, to a pixel."""
    page = open_page(f"{explorer}/saes/demo/features?sort=score&order=desc")
    row = page.locator('tr[data-index="1"]')
    box = row.locator("svg.interval").bounding_box()
    scale = box["width"] / 130

    def at(value: float) -> float:
        return float(box["x"] + scale * (6 + 118 * value))

    dot = row.locator("circle.own").bounding_box()
    assert dot["x"] + dot["width"] / 2 == pytest.approx(at(0.9), abs=1)
    line = row.locator("line.own").bounding_box()
    assert line["x"] == pytest.approx(at(0.8), abs=1.5)
    assert line["x"] + line["width"] == pytest.approx(at(1.0), abs=1.5)
    diamond = row.locator("path.null").bounding_box()
    assert diamond["x"] + diamond["width"] / 2 == pytest.approx(at(0.5), abs=1)


def test_not_told_apart_badge(explorer: str, scored: Library) -> None:
    """Unless the interval lies above the baseline: the report's rule."""
    page = get(explorer, "/saes/demo/features")
    rows = {
        int(index): row
        for index, row in re.findall(r'<tr data-index="(\d+)">(.*?)</tr>', page, re.S)
    }
    badge = "not told apart from a shuffled explanation"
    assert badge in rows[2] and badge not in rows[1] and badge not in rows[3]
    assert 'class="label evidence"' in rows[2] and "queens" in rows[2]
    assert 'class="label evidence"' not in rows[1] and "kings" in rows[1]
    drawn = rest(explorer, "/saes/demo/report")["scorers"]["detection"]
    told = dict(zip(drawn["drawn_features"], drawn["drawn"], strict=True))
    assert told.keys() >= {1, 2}
    for feature, (_, low, _, shuffled) in told.items():
        assert (badge in rows[feature]) == (low <= shuffled), feature


def test_the_usual_scorer_is_one_that_scored() -> None:
    assert usual_scorer({}) == "detection"
    assert usual_scorer({"embedding": 7, "detection": 7}) == "detection"
    assert usual_scorer({"embedding": 9, "detection": 2, "intervention": 9}) == "detection"
    assert usual_scorer(["intervention", "embedding"]) == "embedding"


def test_the_furthest_above_shuffled_come_first(explorer: str, scored: Library) -> None:
    """By where the interval begins, not by the value; those without a score come last."""
    listed = rest(explorer, "/saes/demo/features", sort="margin", order="desc", limit=200)["items"]
    scores = [each["score"] for each in listed]
    known = [each and None not in (each["low"], each["baseline"]) for each in scores]
    margins = [
        each["low"] - each["baseline"] for each, is_ in zip(scores, known, strict=True) if is_
    ]
    assert len(margins) >= 2 and margins == sorted(margins, reverse=True)
    assert all(known[: len(margins)]) and not any(known[len(margins) :])
    page = get(explorer, "/saes/demo")
    shown = [int(index) for index in re.findall(r'<tr data-index="(\d+)">', page)]
    assert shown == [each["index"] for each in listed][: len(shown)]


# ------------------------------------------------------------------ states
def test_missing_files_are_told_where_they_are_known(
    explorer: str, open_page: Any, scored: Library, page_settings: Any
) -> None:
    assert "data-files" not in get(explorer, "/saes/demo"), "this server sees no SAE on its disk"
    beside = page_settings.artifacts / "saes" / "another"
    beside.mkdir(parents=True)
    try:
        assert rest(explorer, "/saes/demo")["missing_files"] == ["weights"]
        for path in ("", "/features", "/map", "/report", "/provenance", "/features/1"):
            page = get(explorer, f"/saes/demo{path}")
            assert words(page).count("The files of demo are missing") >= 1, path
        assert "files missing" in words(get(explorer, "/saes"))
        feature = open_page(f"{explorer}/saes/demo/features/1")
        assert not violations(feature)
        for name in ("Explain", "Score by"):
            button = feature.get_by_role("button", name=name, exact=True)
            assert button.is_disabled()
            assert "missing" in button.get_attribute("title")
    finally:
        beside.rmdir()


def test_states_say_what_to_do_next(explorer: str, scored: Library) -> None:
    raw, bare, told = (
        words(get(explorer, f"/saes/{name}")) for name in ("unindexed", "unlabelled", "unscored")
    )
    pages = {
        name: get(explorer, f"/saes/{name}")
        for name in ("unindexed", "unlabelled", "unscored", "demo")
    }
    assert "not indexed" in raw and "/runs/new?kind=index&amp;sae=unindexed" in pages["unindexed"]
    assert (
        "No feature is explained yet" in bare
        and "kind=explain&amp;sae=unlabelled" in pages["unlabelled"]
    )
    assert "none scored" in told and "kind=score&amp;sae=unscored" in pages["unscored"]
    assert "not evaluated on held-out text" in bare and "kind=evaluate" in pages["unlabelled"]
    assert "was not trained here, so there are no curves" in bare
    assert "it was imported, or they are not kept any more" in words(pages["demo"])
    assert "not indexed" in words(get(explorer, "/saes/unindexed/features"))
    assert httpx.get(f"{explorer}/saes/none", headers=HTML).status_code == 404


def test_told_apart_is_counted(explorer: str, scored: Library) -> None:
    page = words(get(explorer, "/saes/demo"))
    [summary] = rest(explorer, "/saes/demo/report/summary")["items"]
    assert f"{summary['discoveries']} of {summary['features']}" in page
    assert plain(even_percent(summary["above"]["value"])) in page


def test_bars_lead_to_their_features_without_script(explorer: str, scored: Library) -> None:
    page = get(explorer, "/saes/demo")
    answer = rest(explorer, "/saes/demo/distribution")
    edges, counts = answer["density"]["edges"], answer["density"]["counts"]
    links = re.findall(r'<a href="(/saes/demo/features\?min_density=[^"]+)" aria-label', page)
    assert len(links) == len(counts) == len(list(pairwise(edges)))
    for link, count in zip(links, counts, strict=True):
        linked = get(explorer, link.replace("&amp;", "&"))
        assert linked.count("<tr data-index=") == count
    assert "12 features</a> never fired" in page


# ------------------------------------------------------------------ live
def test_brush_filters_table(explorer: str, open_page: Any, scored: Library) -> None:
    """Dragging over bars leaves the features of those bars, and the address says so."""
    page = open_page(f"{explorer}/saes/demo")
    answer = rest(explorer, "/saes/demo/distribution")
    edges, counts = answer["density"]["edges"], answer["density"]["counts"]
    bars = page.locator("#density a .hit")
    first, last = bars.nth(0).bounding_box(), bars.nth(1).bounding_box()
    page.mouse.move(first["x"] + first["width"] / 2, first["y"] + 30)
    page.mouse.down()
    page.mouse.move(last["x"] + last["width"] / 2, last["y"] + 40, steps=4)
    page.mouse.up()
    page.locator("#features h2", has_text=FILTERED).wait_for()
    wanted = {"min_density": edges[0], "max_density": edges[2]}
    items = rest(explorer, "/saes/demo/features", **wanted, limit=25)["items"]
    shown = page.locator("#features tbody tr").count()
    assert shown == min(25, counts[0] + counts[1]) == len(items)
    assert f"min_density={edges[0]}" in page.url and f"max_density={edges[2]}" in page.url
    indices = page.eval_on_selector_all("#features tbody tr", "r => r.map(x => x.dataset.index)")
    page.reload()
    again = page.eval_on_selector_all("#features tbody tr", "r => r.map(x => x.dataset.index)")
    assert again == indices
    assert page.locator("#density a.chosen").count() == 2
    page.go_back()
    page.locator("#features h2", has_text="furthest above shuffled").wait_for()


def test_a_bar_filters_by_keyboard(explorer: str, open_page: Any, scored: Library) -> None:
    page = open_page(f"{explorer}/saes/demo")
    page.locator("#density a").nth(1).focus()
    page.keyboard.press("Enter")
    page.locator("#features h2", has_text=FILTERED).wait_for()
    assert page.locator("#density a.chosen").count() == 1


def test_table_url(explorer: str, open_page: Any, scored: Library) -> None:
    """The form makes an address that shows the same rows to anybody, page by page."""
    page = open_page(f"{explorer}/saes/demo/features")
    page.select_option("[name=sort]", "density")
    page.select_option("[name=order]", "desc")
    page.fill("[name=min_density]", "0.02")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**min_density=0.02**")
    asked = {"sort": "density", "order": "desc", "min_density": 0.02}
    rows = "r => r.map(x => Number(x.dataset.index))"
    shown = page.eval_on_selector_all("tbody tr", rows)
    items = rest(explorer, "/saes/demo/features", **asked, limit=50)["items"]
    assert shown == [item["index"] for item in items]
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("density")
    link = page.locator("tbody tr th a").first.get_attribute("href")
    assert link.endswith("?sort=density&order=desc&min_density=0.02"), "for the next one there"
    other = open_page(page.url, java_script_enabled=False)
    assert other.eval_on_selector_all("tbody tr", rows) == shown
    page.goto(f"{explorer}/saes/demo/features")
    seen = page.eval_on_selector_all("tbody tr", rows)
    page.get_by_role("link", name="Next 50").click()
    page.wait_for_url("**cursor=**")
    assert seen + page.eval_on_selector_all("tbody tr", rows) == list(range(60))
    link = page.locator("tbody tr th a").first.get_attribute("href")
    assert link == "/saes/demo/features/50"


def test_rows_by_keyboard_and_in_bulk(
    explorer: str, open_page: Any, scored: Library, module_engine: Engine
) -> None:
    page = open_page(f"{explorer}/saes/demo/features", allowed=REFUSED)
    said = page.locator("#said")
    assert page.locator("[data-bulk=tag]").is_disabled()
    for key in ("j", "x", "j", "j", "x"):
        page.keyboard.press(key)
    assert page.locator("#chosen").inner_text() == "2 chosen"
    page.locator("[data-bulk=tag]").click()
    page.get_by_role("dialog").get_by_role("combobox").fill("Picked Here")
    page.get_by_role("dialog").get_by_role("button", name="Tag").click()
    said.filter(has_text="2 tagged").wait_for()
    tagged = rest(explorer, "/saes/demo/features", tag="picked-here")["items"]
    assert [each["index"] for each in tagged] == [0, 2]
    page.locator("[data-bulk=list]").click()
    page.get_by_role("dialog").get_by_role("combobox").fill("picked list")
    page.get_by_role("dialog").get_by_role("button", name="Add").click()
    said.filter(has_text="2 are on the list").wait_for()
    entries = rest(explorer, "/lists/picked list")["entries"]["items"]
    assert [each["feature"] for each in entries] == [0, 2]
    page.locator("[data-bulk=explain]").click()
    said.filter(has_text="2 will be explained by").wait_for()
    run = page.locator("#said a").get_attribute("href").rpartition("/")[2]
    spec = rest(explorer, f"/runs/{run}")["spec"]
    assert (spec["sae"], spec["explanation"]["features"]["indices"]) == ("demo", [0, 2])
    page.keyboard.press("Enter")
    page.wait_for_url("**/saes/demo/features/2")


# ------------------------------------------------------------------ search
def test_search_says_why(explorer: str, open_page: Any, scored: Library) -> None:
    page = get(explorer, "/search", q="monarchs")
    assert "not by meaning" not in page
    row = next(row for row in page.split("<tr>") if "demo 1</a>" in row)
    assert '<span class="badge">meaning</span>' in row and "0.90" in row and "<mark" in row
    row = next(row for row in get(explorer, "/search", q="kings").split("<tr>") if "demo 1<" in row)
    assert '<span class="badge">words</span>' in row
    hits = get(explorer, "/search", q="monarchs", sae="unscored")
    assert "demo 1</a>" not in hits
    only = rest(explorer, "/search", q="kings", sae="demo", limit=30)["items"]
    shown = re.findall(r">demo (\d+)</a>", get(explorer, "/search", q="kings", sae="demo"))
    assert [int(each) for each in shown] == [each["index"] for each in only]
    found = open_page(f"{explorer}/search?q=kings&sae=demo", allowed=REFUSED)
    found.get_by_role("link", name="demo 1", exact=True).click()
    found.wait_for_url("**/saes/demo/features/1")


def test_search_says_when_it_is_lexical(
    explorer: str, scored: Library, inference: FakeInference
) -> None:
    inference.away = True
    try:
        page = words(get(explorer, "/search", q="kings"))
    finally:
        inference.away = False
    assert "not by meaning" in page and "inference server" in page


def test_search_that_finds_nothing_leads_on(explorer: str, scored: Library) -> None:
    page = get(explorer, "/search", q="zzzzqqqq", sae="unlabelled", max_density=0.5)
    assert "No feature was found" in page and 'href="/try?sae=unlabelled"' in page
    assert 'href="/search?q=zzzzqqqq"' in page
    assert httpx.get(f"{explorer}/search?q=a&sae=none", headers=HTML).status_code == 404


def test_hostile_names_of_features_stay_text(
    explorer: str, open_page: Any, module_engine: Engine
) -> None:
    evil = "</script><img src=x onerror=alert(1)>\u202e <b>bold</b>"
    with transaction(module_engine) as session:
        library = add_library(session, "evil", 3)
        add_explanation(session, library, 1, evil[:120], evil, 0.9)
        assert session.query(Explanation).filter(Explanation.sae_id == library.sae).count() == 1
    page = open_page(f"{explorer}/models")
    for path in ("/saes/evil", "/saes/evil/features", "/search?q=bold"):
        page.goto(explorer + path)
        assert page.locator("main img, main b >> text=bold").count() == 0
        assert "onerror=alert(1)" in page.locator("main").inner_text()


@pytest.mark.campaign
def test_table_of_100k_features(explorer: str, module_engine: Engine, library: Library) -> None:
    """Any sort, page by page, of 100,000 features of which 2,000 are explained and scored.  The
    budget (99 of 100 within 0.1 s) is benchmarks/pages.py's; here it must not grow with the SAE."""
    names = [column.name for column in Feature.__table__.columns if column.computed is None]
    copied = ", ".join(f'"{name}"' for name in names if name not in ("sae_id", "index"))
    with transaction(module_engine) as session:
        large = add_library(session, "large", 1)
        session.execute(
            text(
                f'INSERT INTO features (sae_id, "index", {copied}) '
                f'SELECT :large, "index" + 60 * turn, {copied} FROM features '
                "CROSS JOIN generate_series(0, 1666) AS turn "
                'WHERE sae_id = :small AND "index" + 60 * turn > 0'
            ),
            {"large": large.sae, "small": library.sae},
        )
        session.get_one(Sae, large.sae).d_sae = 100_020
        for feature in range(0, 100_000, 50):
            add_explanation(session, large, feature, "kings", "Words.", feature / 200_000)
        session.execute(text("ANALYZE features, explanations, scores"))
    times = []
    for sort in ("index", "density", "max_activation", "score"):
        for order in ("asc", "desc"):
            address: str | None = f"/saes/large/features?sort={sort}&order={order}"
            for _ in range(4):
                assert address is not None
                started = time.perf_counter()
                page = get(explorer, address)
                times.append(time.perf_counter() - started)
                assert page.count("<tr data-index=") == 50
                found = re.search(r'href="([^"]+)" rel="next"', page)
                address = found[1].replace("&amp;", "&") if found else None
    times.sort()
    assert times[len(times) // 2] < 1.0, times


CROSS_LAYER = {
    "parts": {f"blocks.{layer}.hook_mlp_out": {"fvu": 0.1 + layer / 10} for layer in range(3)},
    "cross_layer": {
        "own_share": {f"blocks.{layer}.hook_mlp_out": 0.9 - layer * 0.4 for layer in range(3)},
        "written_by": {
            "blocks.0.hook_mlp_out": [1.0],
            "blocks.1.hook_mlp_out": [0.5, 0.5],
            "blocks.2.hook_mlp_out": [0.25, 0.65, 0.1],
        },
        "norm_by_distance": [0.7, 0.2, 0.1],
    },
}
SITES = [f"blocks.{layer}.mlp.hook_in" for layer in range(3)]
RATIOS = {"nu_error": {"chat:x": 0.25, "y": 0.5}, "nu_reconstruction": {"chat:x": None, "y": 0.75}}
CROSSCODER = {
    "crosscoder": {"exclusive": {"x": 3, "chat:x": 1}, "weak": 4, "shared": 17},
    "latent_scaling": {
        "places": {"x": {"exclusive": 3, "genuine": 1}, "chat:x": {"exclusive": 1, "genuine": 1}},
        "latents": [
            {"latent": 5, "place": "x", "genuine": True, **RATIOS},
            *({"latent": place, "place": "x", "genuine": False} for place in range(30)),
        ],
    },
}


def changed_sae(engine: Engine, name: str, evaluation: Any, hooks: Hooks, **config: Any) -> None:
    with transaction(engine) as session:
        row = session.get_one(Sae, add_library(session, name, 4).sae)
        row.metrics = {"evaluation": evaluation}
        row.config = {**row.config, "hooks": hooks.as_dict(), **config}


def test_who_writes_each_place(module_engine: Engine, explorer: str) -> None:
    hooks = Hooks.at(SITES, list(CROSS_LAYER["parts"]))
    changed_sae(module_engine, "clt", CROSS_LAYER, hooks)
    page = words(get(explorer, "/saes/clt"))
    assert "Where it reads and writes 6 places; FVU of each on held-out text" in page
    assert "blocks.1.hook_mlp_out writes 0.20" in page and "blocks.1.mlp.hook_in reads" in page
    share = re.search(r"blocks\.2\.hook_mlp_out ([\d.]+) % 25\.0 % 65\.0 % 10\.0 %", page)
    assert share is not None and share[1] == "10.0"
    assert "70.0 % at the layer that is read, 20.0 % 1 layer on, 10.0 % 2 layers on." in page


def test_latents_that_only_look_exclusive(module_engine: Engine, explorer: str) -> None:
    hooks = Hooks.at(["x", "chat:x"])
    changed_sae(module_engine, "crosscoder", CROSSCODER, hooks)
    html = get(explorer, "/saes/crosscoder")
    page = words(html)
    assert "› x, chat:x crosscoder" in page, "the other host model is named"
    assert "x reads writes 3 1" in page and "chat:x reads writes 1 1" in page
    assert "17 write all places alike and 4 write some more weakly" in page
    assert "20 of 31 that the evaluation names" in page
    assert "5 x yes 0.50 0.75" in page and "0 x only looks so – –" in page
    assert 'href="/saes/crosscoder/features/5"' in html


def test_doubts_of_an_import_are_told(module_engine: Engine, explorer: str) -> None:
    doubt = "It reconstructs a page of text worse than the mean does (FVU 1.3): <b>weights</b>."
    check = {"imported": {"check": {"fvu": 1.3, "doubts": [doubt, 3]}}}
    changed_sae(module_engine, "doubted", {}, Hooks.at("blocks.1.hook_resid_post"), **check)
    html = get(explorer, "/saes/doubted")
    assert "&lt;b&gt;weights" in html and "It was told when it was imported" in html
    assert "places-title" not in html, "one place"


@pytest.mark.parametrize("wrong", [None, 3, "x", [], {}, [None], {"x": None}, {"x": float("inf")}])
def test_evaluations_of_whatever_form_are_shown(
    wrong: Any, module_engine: Engine, explorer: str
) -> None:
    wrong = wrong if wrong != {"x": float("inf")} else {"x": 1e300}
    name = f"wrong-{hash(str(wrong))}"
    names = ("parts", "cross_layer", "crosscoder", "latent_scaling")
    evaluation = dict.fromkeys(names, wrong)
    evaluation["cross_layer"] = {"own_share": wrong, "written_by": wrong, "norm_by_distance": wrong}
    changed_sae(module_engine, name, evaluation, Hooks.at(["x", "y"]), imported=wrong)
    assert "Where it reads and writes" in get(explorer, f"/saes/{name}")
