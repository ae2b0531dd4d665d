"""Levels can be told apart where no background is drawn: forced colours, and paper."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.scored_rows import GOOD

MEDIA: list[dict[str, str]] = [{"forced_colors": "active"}, {"media": "print"}]

_LINES = """element => [...Array(10).keys()].map(level => {
  const before = element.className;
  element.className = before.replace(/\\bh[0-9]\\b/, "") + ` h${level}`;
  const style = getComputedStyle(element);
  const names = ["textDecorationLine", "textDecorationStyle", "textDecorationThickness"];
  const line = names.map(name => style[name]);
  element.className = before;
  return line;
})"""


def lines(locator: Any) -> list[list[str]]:
    """Line, style and thickness under a token at each level."""
    drawn: list[list[str]] = locator.evaluate(_LINES)
    return drawn


@pytest.mark.parametrize("media", MEDIA)
def test_forced_colors_and_print(explorer: str, open_page: Any, media: dict[str, str]) -> None:
    page = open_page(f"{explorer}/saes/demo/features/{GOOD}?view=wrapped")
    mark = page.locator(".examples mark:not(.focus)").first
    plain = mark.evaluate("each => getComputedStyle(each).textDecorationLine")
    assert plain == "none", "on screen it is the background"
    page.emulate_media(**media)
    for locator in (mark, page.locator(".examples mark.focus").first):
        under = [tuple(line) for line in lines(locator)]
        assert [line for line, _, _ in under[1:]] == ["underline"] * 9
        assert len(set(under)) == 10, under
    assert lines(mark)[0][0] == "none"
    focus = page.locator(".examples mark.focus").first
    assert focus.evaluate("each => getComputedStyle(each).fontWeight") == "700"


def test_tokens_of_ones_own_text_have_lines_too(explorer: str, open_page: Any) -> None:
    """Whatever else a token is: the one looked at, a pinned one, one that ends a line."""
    page = open_page(f"{explorer}/try")
    page.emulate_media(forced_colors="active")
    page.evaluate(
        """() => {
          const box = document.createElement("div");
          box.className = "read";
          for (const name of ["h1", "here h1", "broken h1", "held h1", "here", "broken"]) {
            const token = document.createElement("span");
            token.className = name;
            token.textContent = "token";
            box.append(token);
          }
          document.querySelector("main").append(box);
        }"""
    )
    tokens = page.locator("main > .read span")
    for place in range(4):
        under = [tuple(line) for line in lines(tokens.nth(place))]
        assert [line for line, _, _ in under[1:]] == ["underline"] * 9
        assert len(set(under[1:])) == 9, under
    for place in (4, 5):
        assert lines(tokens.nth(place))[0][0] == "none"


def test_a_feature_on_paper(explorer: str, open_page: Any) -> None:
    """Nothing to press, nothing cut off."""
    page = open_page(
        f"{explorer}/saes/demo/features/{GOOD}", viewport={"width": 1100, "height": 800}
    )
    page.emulate_media(media="print")
    for hidden in ("header.site", "footer.site", "#tag-form", ".actions button"):
        assert not page.locator(hidden).first.is_visible(), hidden
    assert page.locator("h1").is_visible() and page.locator("#examples-title").is_visible()
    assert page.locator("svg.interval").first.is_visible()
    cut = page.evaluate(
        """() => [...document.querySelectorAll(".examples .window")].filter(each =>
          [each, ...each.children].some(part => part.scrollWidth > part.clientWidth + 1
            && getComputedStyle(part).display !== "inline")).length"""
    )
    assert cut == 0
