"""The form of a run: all kinds, both ways through YAML, faults at their fields, no script."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import Engine, func, select, text

from monosemy.specs import KINDS
from service.database.session import transaction
from service.database.tables import Run
from tests.support.browser import holds
from tests.support.concept_rows import NAME, add_concept
from tests.support.library_rows import Library
from tests.support.outside_kind import registered
from tests.support.run_rows import PIPELINE

REFUSED = ["Failed to load resource: the server responded with a status of 4"]


@pytest.fixture(scope="module", autouse=True)
def kinds_from_outside() -> Iterator[None]:
    with registered():
        yield


def opened(open_page: Any, explorer: str, query: str, **options: Any) -> Any:
    page = open_page(f"{explorer}/runs/new?{query}", **options)
    page.locator("#fields[data-ready]").wait_for(state="attached")
    return page


def yaml_of(page: Any) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(page.locator("#text").input_value())
    return data


def until_yaml(page: Any, wanted: dict[str, Any]) -> None:
    for _ in range(600):
        if yaml_of(page) == wanted:
            return
        page.wait_for_timeout(50)
    assert yaml_of(page) == wanted


def field(page: Any, path: str) -> Any:
    return page.locator(f'[data-path="{path}"] :is(input, select, textarea)').first


_FIELDS = """() => {
  for (const each of document.querySelectorAll("#fields details")) each.open = true;
  return [...document.querySelectorAll("#fields [data-path]")].map((place) => {
    const control = place.matches(".row") ? place.querySelector("input, select, textarea") : null;
    const label = control
      ? document.querySelector(`#fields label[for="${CSS.escape(control.id)}"]`)?.textContent
      : place.querySelector(":scope > legend")?.textContent;
    const described = control?.getAttribute("aria-describedby");
    const beside = place.querySelector(":scope > .help, :scope > .row .help");
    const help = (control ? document.getElementById(described) : beside)?.textContent.trim() ?? "";
    const path = place.dataset.path;
    return { path, label, help, part: /[0-9]+$/.test(path) };
  });
}"""


def fields_of(schema: dict[str, Any], path: str, choice: int) -> Iterator[str]:
    """Paths that a form must have, where each union has its class number ``choice``, or the last,
    and each list of parts one of them."""
    definitions = schema.get("$defs", {})

    def walk(part: dict[str, Any], path: str) -> Iterator[str]:
        if "$ref" in part:
            part = {**definitions[part["$ref"].rsplit("/", 1)[1]], **part}
        chosen = [each for each in part.get("anyOf", []) if each.get("type") != "null"]
        several = [each for each in chosen if each.get("type") == "array"]
        if chosen and part.get("default", 0) is not None:
            yield from walk((several or chosen)[0], path)
        if "items" in part:
            yield from walk(part["items"], f"{path}0.")
        if "oneOf" in part:
            classes = part["oneOf"]
            yield from walk(classes[min(choice, len(classes) - 1)], path)
        for name, inner in part.get("properties", {}).items():
            if "const" not in inner:
                yield f"{path}{name}"
            yield from walk(inner, f"{path}{name}.")

    return walk(schema, path)


@pytest.mark.parametrize("kind", [*KINDS, "distil", "curriculum"])
def test_run_form_covers_schema(explorer: str, open_page: Any, kind: str) -> None:
    """Every field of the kind has a label and a help text; every class of its unions can be
    chosen, and has its fields too."""
    page = opened(open_page, explorer, f"kind={kind}")
    schema = httpx.get(f"{explorer}/api/v1/runs/kinds/{kind}").json()["json_schema"]
    page.locator("#fields details").evaluate_all(
        "all => { for (const each of all) each.open = true; }"
    )
    for button in range(page.get_by_role("button", name="Add to").count()):
        page.get_by_role("button", name="Add to").nth(button).click()
    unions = page.locator("#fields select").evaluate_all(
        "all => all.filter(each => /-(architecture|scorer|explainer)$/.test(each.id))"
        ".map(each => [each.id, each.options.length])"
    )
    most = max([options for _, options in unions], default=1)
    for choice in range(most):
        for identity, options in unions:
            select_ = page.locator(f"#{identity}")
            select_.select_option(index=min(choice, options - 1))
        shown = page.evaluate(_FIELDS)
        assert not [each for each in shown if not each["label"]]
        assert not [each["path"] for each in shown if not each["help"] and not each["part"]]
        missing = set(fields_of(schema, "", choice)) - {each["path"] for each in shown}
        assert not missing, missing


def test_form_and_yaml_agree(explorer: str, open_page: Any) -> None:
    page = opened(open_page, explorer, "kind=pipeline")
    field(page, "name").fill("mine")
    field(page, "sae.d_sae").fill("1,024")
    page.locator("#f-sae-architecture").select_option("jumprelu")
    until_yaml(page, {"kind": "pipeline", "name": "mine", "sae": {"architecture": "jumprelu"}})
    field(page, "sae.target_l0").fill("16")
    page.get_by_role("button", name="Add to scoring").click()
    page.locator("#f-scoring-0-scorer").select_option("embedding")
    wanted = {
        "kind": "pipeline",
        "name": "mine",
        "sae": {"architecture": "jumprelu", "target_l0": 16},
        "scoring": [{"scorer": "embedding"}],
    }
    until_yaml(page, wanted)
    page.locator("#text").fill("kind: pipeline\nname: other\nevaluation: null\nsae: {k: 8}\n")
    for _ in range(600):
        if page.locator("#f-sae-k").count() and field(page, "sae.k").input_value() == "8":
            break
        page.wait_for_timeout(50)
    holds(field(page, "name"), "other")
    assert page.locator('[data-path="evaluation"] > label.none input').is_checked()
    field(page, "name").fill("")
    until_yaml(page, {"kind": "pipeline", "evaluation": None, "sae": {"k": 8}})
    page.locator('[data-path="evaluation"] > label.none input').uncheck()
    until_yaml(page, {"kind": "pipeline", "sae": {"k": 8}})


def test_yaml_of_another_kind_is_carried_to_its_form(explorer: str, open_page: Any) -> None:
    written = "# mine\nkind: train\nname: good\nsae: {d_sae: 1024}\n"
    page = opened(open_page, explorer, "")
    page.locator("#text").fill(written)
    page.wait_for_url("**/runs/new?kind=train")
    page.locator("#fields[data-ready]").wait_for(state="attached")
    holds(page.locator("#text"), written)  # to the comment
    holds(field(page, "sae.d_sae"), "1024")
    assert page.get_by_text("It can be submitted.").is_visible()
    page.goto(f"{explorer}/runs/new")
    page.locator("#fields[data-ready]").wait_for(state="attached")
    assert yaml_of(page) == {"kind": "pipeline"}, "it is not in two places"


@pytest.mark.parametrize("by", ["text", "field"])
def test_what_is_written_outlives_a_reload_until_it_is_submitted(
    explorer: str, open_page: Any, module_engine: Engine, by: str
) -> None:
    page = opened(open_page, explorer, "kind=train")
    if by == "text":
        page.locator("#text").fill("kind: train\nname: half\n")
    else:
        field(page, "name").fill("half")
    page.reload()
    page.locator("#draft", has_text="is back").wait_for()
    assert yaml_of(page) == {"kind": "train", "name": "half"}
    holds(field(page, "name"), "half")
    page.get_by_role("button", name="Start afresh").click()
    page.locator("#draft").wait_for(state="detached")
    page.locator("#fields[data-ready]").wait_for(state="attached")
    assert yaml_of(page) == {"kind": "train"}
    field(page, "name").fill("half")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/runs/*-*")
    page.goto(f"{explorer}/runs/new?kind=train")
    page.locator("#fields[data-ready]").wait_for(state="attached")
    assert yaml_of(page) == {"kind": "train"}
    with transaction(module_engine) as session:
        session.execute(text("DELETE FROM runs WHERE spec ->> 'name' = 'half'"))


def test_help_is_shown_without_its_marks(explorer: str, open_page: Any) -> None:
    for kind in KINDS:
        told = httpx.get(f"{explorer}/runs/new?kind={kind}", headers={"Accept": "text/html"}).text
        assert "`" not in told.split('<p class="about">')[1].split("</p>")[0], kind
    page = opened(open_page, explorer, "kind=import")
    assert page.locator(".about code").first.inner_text() == "model"
    assert "left out, one is built from" in page.locator("#f-name-help").inner_text()
    assert not [each for each in page.locator(".help").all_text_contents() if "`" in each]


def test_a_fault_is_shown_at_its_field(explorer: str, open_page: Any) -> None:
    page = opened(open_page, explorer, "kind=train", allowed=REFUSED)
    field(page, "training.tokens").fill("minus")
    fault = page.locator('[data-path="training.tokens"] .fault')
    fault.wait_for()
    assert field(page, "training.tokens").get_attribute("aria-invalid") == "true"
    page.locator("#text").fill("kind: train\ntraining: {token: 5}\n")
    page.locator('[data-path="training"] .fault', has_text="did you mean 'tokens'?").wait_for()
    page.locator("#text").fill("kind: train\ntraining: {tokens: [")
    page.locator("#faults", has_text="line 2").wait_for()
    page.locator("#text").fill("kind: train\ntraining: {seed: 0.5}\n")
    page.locator('[data-path="training.seed"] .fault').wait_for()
    assert field(page, "training.seed").is_visible(), "what is folded is opened"
    page.get_by_role("button", name="Submit").click()
    page.locator('[data-path="training.seed"] [aria-invalid]:focus').wait_for()


def test_what_a_graph_needs_is_in_front(explorer: str, open_page: Any) -> None:
    page = opened(open_page, explorer, "kind=graph", allowed=REFUSED)
    for name in ("prompt", "prompts", "set", "saes"):
        assert field(page, name).is_visible(), name


def test_a_fault_of_several_fields_opens_the_fold_that_has_one(
    explorer: str, open_page: Any
) -> None:
    """It has no path: its words alone name fields.  No kind's own does so of a folded field."""
    page = opened(open_page, explorer, "kind=task", allowed=REFUSED)
    fold = page.locator("#fields > .group > details", has=page.locator('[data-path="seed"]'))
    assert not fold.evaluate("each => each.open")
    page.route(
        "**/runs/parse",
        lambda route: route.fulfill(
            json={
                "spec": {"kind": "task"},
                "yaml": "kind: task",
                "errors": [{"path": "", "message": "seed and resamples do not go together"}],
            }
        ),
    )
    page.locator("#text").fill("kind: task\n")
    page.locator("#faults", has_text="do not go together").wait_for()
    assert fold.evaluate("each => each.open")


def test_what_only_the_service_can_say_is_at_its_field_too(explorer: str, open_page: Any) -> None:
    page = opened(open_page, explorer, "kind=explain")
    field(page, "sae").fill("nobody")
    page.locator('[data-path="sae"] .fault', has_text="There is no SAE 'nobody'").wait_for()
    field(page, "sae").fill("demo")
    page.get_by_text("It can be submitted.").wait_for()
    assert page.locator(".fault").count() == 0


def test_a_name_that_must_be_the_only_one_is_told_at_its_field(
    explorer: str, open_page: Any, module_engine: Engine, library: Library
) -> None:
    with transaction(module_engine) as session:
        add_concept(session, library)
    texts = [f"set={name}=%5B{name}%5D" for name in ("targets", "retain")]
    query = f"kind=concept&sae=demo&set=name={NAME}&{'&'.join(texts)}"
    page = opened(open_page, explorer, query, allowed=REFUSED)
    page.get_by_role("button", name="Submit").click()
    place = page.locator('[data-path="name"]')
    place.locator(".fault", has_text=f"There is a concept named '{NAME}' already").wait_for()
    assert field(page, "name").get_attribute("aria-invalid") == "true"


def test_a_run_is_submitted_once(explorer: str, open_page: Any, module_engine: Engine) -> None:
    page = opened(open_page, explorer, "kind=explain&sae=demo")
    page.get_by_role("spinbutton", name="priority").fill("-3")
    page.get_by_role("button", name="Submit").dblclick()
    page.wait_for_url("**/runs/*-*")
    assert "explain demo" in page.locator("h1").inner_text()
    with transaction(module_engine) as session:
        query = select(func.count()).where(Run.priority == -3)
        assert session.scalar(query) == 1
        session.execute(text("DELETE FROM runs WHERE priority = -3"))


def test_without_script_the_yaml_is_posted(
    explorer: str, open_page: Any, module_engine: Engine
) -> None:
    page = open_page(f"{explorer}/runs/new?kind=train", java_script_enabled=False, allowed=REFUSED)
    assert not page.locator("#fields").is_visible()
    page.locator("#text").fill("kind: train\nname: by hand\ntraining: {token: 5}\n")
    page.get_by_role("button", name="Submit").click()
    assert "did you mean 'tokens'?" in page.locator("#faults").inner_text()
    assert "by hand" in page.locator("#text").input_value(), "what was written is kept"
    page.locator("#text").fill("kind: train\nname: by hand\n")
    page.get_by_role("button", name="Submit").click()
    assert "train by hand" in page.locator("h1").inner_text()
    with transaction(module_engine) as session:
        session.execute(text("DELETE FROM runs WHERE spec ->> 'name' = 'by hand'"))


def test_a_copy_says_what_differs_from_the_defaults(explorer: str, open_page: Any) -> None:
    page = opened(open_page, explorer, f"from={PIPELINE}")
    assert yaml_of(page) == {
        "kind": "pipeline",
        "name": "whole",
        "explanation": {"judge": {"budget": 5.0}},
        "scoring": [{"judge": {"budget": 2.5}}],
    }
    holds(field(page, "explanation.judge.budget"), "5")


def test_what_an_address_sets_is_filled_in(explorer: str, open_page: Any, library: Library) -> None:
    query = "kind=score&sae=demo&set=scoring.scorer%3Dintervention&set=features%3D%5B3,4%5D"
    page = opened(open_page, explorer, query)
    wanted = {"scoring": {"scorer": "intervention"}, "features": [3, 4], "sae": library.name}
    assert yaml_of(page) == {"kind": "score", **wanted}
    holds(field(page, "features"), "3, 4")
    odd = httpx.get(f"{explorer}/runs/new?kind=train&set=nonsense", headers={"Accept": "text/html"})
    assert odd.status_code == 200 and "key.subkey=value" in odd.text


def test_a_dry_run_says_what_it_would_take(
    explorer: str, open_page: Any, module_engine: Engine
) -> None:
    """The run that only counts is executed by a worker; here its row is filled in."""
    page = opened(open_page, explorer, "kind=train")
    assert not page.get_by_role("button", name="Dry run").is_visible()
    page = opened(open_page, explorer, "kind=explain&sae=demo")
    page.get_by_role("button", name="Dry run").click()
    page.get_by_role("link", name="dry run").wait_for()
    forecast = {
        "features": 8, "sampled": 8, "calls": 24.0, "prompt_tokens": 20_500.0, "low": 0.1,
        "completion_tokens": 1200.0, "cost": 0.12, "high": 0.14, "calibrated": True,
        "at_most": False, "judge_test_calls": 0,
    }  # fmt: skip
    with transaction(module_engine) as session:
        run = session.scalars(select(Run).where(Run.spec["dry_run"].astext == "true")).one()
        run.state, run.result = "succeeded", {"forecast": forecast}
    section = page.get_by_role("region", name="Forecast")
    section.wait_for()
    shown = section.inner_text()
    for figure in ("8", "24", "20,500", "1,200", "0.12 (0.10–0.14)"):
        assert figure in shown
    with transaction(module_engine) as session:
        session.execute(text("DELETE FROM runs WHERE spec ->> 'dry_run' = 'true'"))
