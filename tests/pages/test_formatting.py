"""Figures and tokens are shown alike by the server and by the scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.pages import format, tokens

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text())
OF_FORMAT = ("number", "fixed", "signed", "percent", "density", "interval", "duration", "size")


@pytest.mark.parametrize("name", OF_FORMAT)
def test_python_formats_the_vectors(name: str) -> None:
    function = getattr(format, name)
    assert [function(*given) for given, _ in VECTORS[name]] == [
        wanted for _, wanted in VECTORS[name]
    ]


def test_python_shows_the_tokens_of_the_vectors() -> None:
    assert [tokens.shown(text) for text, _ in VECTORS["shown"]] == [w for _, w in VECTORS["shown"]]
    assert [tokens.level(*each) for each, _ in VECTORS["level"]] == [w for _, w in VECTORS["level"]]
    texts = [tokens.direction(each) for each, _ in VECTORS["direction"]]
    assert texts == [wanted for _, wanted in VECTORS["direction"]]


_SCRIPT = """async ([base, vectors]) => {
  const format = await import(base + "lib/format.js");
  const tokens = await import(base + "lib/tokens.js");
  const out = {};
  for (const [name, cases] of Object.entries(vectors)) {
    const call = format[name] ?? tokens[name];
    out[name] = cases.map(([given]) =>
      name === "shown" || name === "direction" ? call(given) : call(...given));
  }
  return out;
}"""


def test_js_and_python_format_alike(explorer: str, open_page: Any) -> None:
    from service.pages.static import static_path

    page = open_page(f"{explorer}/models")
    base = explorer + static_path("icon.svg").removesuffix("icon.svg")
    shown = page.evaluate(_SCRIPT, [base, VECTORS])
    for name, cases in VECTORS.items():
        assert shown[name] == [wanted for _, wanted in cases], name
