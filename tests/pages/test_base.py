"""What every page has: headers, static files, errors as pages, navigation, keys, themes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from service.app import create_app
from service.kit.problems import Problem
from service.pages.navigation import Nav, menus
from service.pages.page import PageRouter, entries_of
from service.pages.static import static_files, static_path, without_comments
from service.settings import Settings
from tests.service.conftest import FakeInference
from tests.support.browser import holds, until
from tests.support.served import served

HTML = {"Accept": "text/html,application/xhtml+xml"}


def test_a_page_has_the_strict_policy_and_a_tag(explorer: str) -> None:
    answer = httpx.get(f"{explorer}/models", headers=HTML)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert answer.headers["referrer-policy"] == "same-origin"
    again = httpx.get(
        f"{explorer}/models", headers={**HTML, "If-None-Match": answer.headers["etag"]}
    )
    assert again.status_code == 304 and not again.content


def test_static_files_are_kept_for_ever_under_their_digest(explorer: str) -> None:
    answer = httpx.get(explorer + static_path("base.css"))
    assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/css")
    stale = re.sub(r"/static/\w+/", "/static/0123456789abcdef/", static_path("base.css"))
    assert httpx.get(explorer + stale).status_code == 404
    assert httpx.get(f"{explorer}/static/x/../../app.py").status_code == 404


def test_errors_are_pages_for_browsers_and_problems_for_programs(explorer: str) -> None:
    page = httpx.get(f"{explorer}/nothing", headers=HTML)
    assert page.status_code == 404 and page.headers["content-type"].startswith("text/html")
    assert "<h1>" in page.text and page.headers["x-request-id"] in page.text
    problem = httpx.get(f"{explorer}/nothing")
    assert problem.headers["content-type"] == "application/problem+json"
    of_rest = httpx.get(f"{explorer}/api/v1/saes/none", headers=HTML)
    assert of_rest.headers["content-type"] == "application/problem+json"


def test_unknown_names_in_the_query_are_told_not_refused(explorer: str) -> None:
    answer = httpx.get(f"{explorer}/models", params={"colour": "<b>"}, headers=HTML)
    assert answer.status_code == 200 and "<code>colour</code>" in answer.text


def test_two_pages_cannot_have_one_place() -> None:
    first, second = PageRouter(), PageRouter()
    first.entries.append(Nav("One", 1, "o"))
    second.entries.append(Nav("Two", 1, "t"))
    with pytest.raises(ValueError, match="place 1"):
        entries_of([first, second])


def test_an_entry_stands_below_one_that_is_there() -> None:
    router = PageRouter()
    router.entries += [Nav("One", 1), Nav("Two", 2, below="One"), Nav("Three", 3, scope="admin")]
    entries = entries_of([router])
    assert [(head.title, [each.title for each in below]) for head, below in menus(entries)] == [
        ("One", ["Two"]),
        ("Three", []),
    ]
    assert [head.title for head, _ in menus(entries[1:])] == ["Two", "Three"]
    router.entries.append(Nav("Four", 4, below="Two"))
    with pytest.raises(ValueError, match="'Two'"):
        entries_of([router])


def test_the_navigation_is_one_row_with_menus(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/models", viewport={"width": 1280, "height": 800})
    tops = "all => new Set(all.map(each => Math.round(each.getBoundingClientRect().top))).size"
    rows = page.locator("header.site nav > ul > li, header.site .find, header.site .brand")
    heights = rows.evaluate_all("all => all.map(each => each.getBoundingClientRect().height)")
    assert page.locator("header.site nav > ul > li").evaluate_all(tops) == 1
    assert page.locator("header.site").bounding_box()["height"] < 2 * max(heights)
    menu = page.locator("header.site nav details").first
    menu.locator("summary").click()
    assert menu.get_by_role("link", name="Models").get_attribute("aria-current") == "page"
    page.keyboard.press("Escape")
    assert not menu.get_by_role("link", name="Models").is_visible()
    menu.locator("summary").click()
    page.locator("h1").click()
    assert not menu.get_by_role("link", name="Models").is_visible()
    plain = open_page(f"{explorer}/models", java_script_enabled=False)
    plain.locator("header.site nav summary").first.click()
    plain.locator("header.site nav").get_by_role("link", name="Comparisons").click()
    plain.wait_for_url("**/comparisons")


def test_a_view_must_return_a_dataclass() -> None:
    router = PageRouter()

    @router.page("/wrong", "models.html")
    def wrong() -> Any:
        return {"not": "a dataclass"}

    app = FastAPI()
    app.include_router(router)
    endpoint = next(route.endpoint for route in router.routes if route.path == "/wrong")  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="dataclass"):
        endpoint(page_request=None)


def test_a_view_may_ask_for_the_request_itself(
    page_settings: Settings, inference: FakeInference
) -> None:
    """FastAPI gives it to one parameter alone."""
    router = PageRouter()

    @dataclass(frozen=True)
    class Shown:
        problem: Any
        request_id: str

    @router.page("/own", "problem.html")
    def own(request: Request) -> Any:
        return Shown(Problem(404, "x", f"asked for {request.url.path}", "y"), "1")

    app = create_app(page_settings, inference.transport())
    app.include_router(router)
    with served(app) as address:
        assert "asked for /own" in httpx.get(f"{address}/own").text


def test_no_template_turns_escaping_off_or_styles_inline() -> None:
    from importlib.resources import files

    templates = files("service.pages") / "templates"
    texts = {
        each.name: each.read_text()
        for folder in (templates, templates / "macros")
        for each in folder.iterdir()
        if each.is_file()
    }
    assert texts
    for name, text in texts.items():
        for forbidden in (
            "|safe",
            "| safe",
            "autoescape false",
            " style=",
            " onclick=",
            " onload=",
        ):
            assert forbidden not in text, f"{name} has {forbidden!r}"


def test_scripts_are_small_and_make_no_markup_from_texts() -> None:
    for name, content in static_files().items():
        text = content.decode()
        if name.endswith(".js"):
            assert (
                "innerHTML" not in text
                and "eval(" not in text
                and "http://" not in text.replace("http://www.w3.org/", "")
            ), name
            assert text.count("\n") <= 300, name


def test_api_js_is_current() -> None:
    from service.pages.operations_script import NAME, current

    source = (files("service.pages") / "static" / NAME).read_text()
    assert source == current(), "python -m service.pages.operations_script"


def test_scripts_are_sent_without_comments_but_by_the_same_lines() -> None:
    source = (
        b"// One.\n  /** Two\n   * lines, `a`. */\nconst a = 1; // Stays.\nf(a / 2); /* so */\n"
    )
    assert without_comments(source) == b"\n\n\nconst a = 1; // Stays.\nf(a / 2); /* so */\n"
    for name, content in static_files().items():
        if name.endswith(".js"):
            lines = content.decode().splitlines()
            # A text of many lines could have one that looks like a comment.
            assert all(line.count("`") % 2 == 0 for line in lines), name
            assert not any(line.lstrip().startswith(("//", "/*")) for line in lines), name


def test_keys_theme_and_help(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/models")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    assert "search" in dialog.inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Dark").click()
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_fixed_word_of_an_address_goes_before_a_name() -> None:
    from service.pages.explorer import in_order

    router = PageRouter()
    wanted = ["/things", "/things/new", "/things/{name}.html", "/things/{name}", "/{place}/new"]
    for path in reversed(wanted):
        router.page(path, "models.html")(_nothing)
    assert [route.path for route in in_order([router])] == wanted


def _nothing() -> Any:
    """No page."""


def test_fields_that_a_form_left_empty_are_as_if_not_sent(explorer: str) -> None:
    answer = httpx.get(f"{explorer}/models?colour=&cursor=&", headers=HTML)
    assert answer.status_code == 200 and "does not know" not in answer.text


def test_the_base_style_holds_that_of_drawings() -> None:
    style = static_files()["base.css"].decode()
    assert style.index("--own:") < style.index("--accent:") and "svg.interval" in style


def test_only_calls_are_operations() -> None:
    from service.pages.operations_script import operations_in

    source = 'import * as api from "../lib/api.js";\\nawait api.listsShow(1); '
    assert operations_in(source) == {"listsShow"}


def test_every_page_is_marked_where_it_belongs(explorer: str) -> None:
    """In the navigation, or beside it: pages without an entry of their own as well."""
    for path, entry in (
        ("/", "monosemy"),
        ("/tags", "Lists"),
        ("/label", "Lists"),
        ("/agreement", "Lists"),
        ("/saes/demo", "SAEs"),
        ("/settings/audit", "Health"),
        ("/settings/keys", "API keys"),
    ):
        head = httpx.get(explorer + path, headers=HTML).text.partition("</header>")[0]
        marked = re.findall(r'<a [^>]*aria-current="(?:page|true)"[^>]*>([^<]*)</a>', head)
        assert marked == [entry], path
    head = httpx.get(f"{explorer}/search", headers=HTML).text.partition("</header>")[0]
    assert re.search(r'<input type="search"[^>]*aria-current="page"', head)


def test_a_table_that_is_cut_off_says_so(explorer: str, open_page: Any) -> None:
    """Its edge fades, and a line below says that there is more; one that fits says nothing."""
    page = open_page(f"{explorer}/saes", viewport={"width": 390, "height": 800})
    box = page.locator(".tablebox").first
    said = "e => parseFloat(getComputedStyle(e, '::after').height)"
    assert box.evaluate("e => e.scrollWidth > e.clientWidth")
    assert box.evaluate(said) > 10
    assert box.evaluate("e => getComputedStyle(e).getPropertyValue('--after')") != "0px"
    page.set_viewport_size({"width": 1440, "height": 800})
    until(page, lambda: box.evaluate(said) == 0)


def test_a_packed_fragment_is_read_by_the_script(explorer: str, open_page: Any) -> None:
    from service.pages.commands import packed

    value = {"text": "Grüße 🎉, \u202e <b>", "messages": None}
    page = open_page(f"{explorer}/models")
    read = "async ([from, text]) => (await import(from)).fromFragment(text)"
    assert page.evaluate(read, [explorer + static_path("lib/state.js"), packed(value)]) == value


def test_an_example_is_one_click_away(explorer: str, open_page: Any) -> None:
    page = open_page(f"{explorer}/steer?sae=demo")
    page.get_by_role("link", name="Load an example").click()
    holds(page.get_by_label("The text to go on from"), "Once upon a time")
