"""Text of tokens as it is shown: nothing in it can act on the page, and nothing is hidden.

``static/lib/tokens.js`` does the same in the browser (``tests/pages/vectors.json``).  What comes
from here is plain text; templates escape it.
"""

from __future__ import annotations

import math
import re
import shlex
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.pages.format import number, percent

LEVELS = 9
"""Shades of an activation."""
LONGEST = 200
"""Characters of a token that are shown; the whole is in its title."""

_NAMED = {
    0x00A0: "⍽",
    0x00AD: "[SHY]",
    0x200B: "[ZWSP]",
    0xFEFF: "[BOM]",
    0x200E: "[LRM]",
    0x200F: "[RLM]",
    0x061C: "[ALM]",
    0x202A: "[LRE]",
    0x202B: "[RLE]",
    0x202C: "[PDF]",
    0x202D: "[LRO]",
    0x202E: "[RLO]",
    0x2066: "[LRI]",
    0x2067: "[RLI]",
    0x2068: "[FSI]",
    0x2069: "[PDI]",
    0x2028: "[LS]",
    0x2029: "[PS]",
    0x7F: "␡",
    0x0A: "↵",
    0x09: "⇥",
}
_SHOWN = {
    **{code: chr(0x2400 + code) for code in range(0x20)},
    **{code: f"U+{code:04X}" for code in range(0x80, 0xA0)},
    **_NAMED,
}
_RTL = ("R", "AL")
_LONE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Piece:
    """A run of silent tokens, or one token that fires or is the focus."""

    text: str
    level: int
    """0 where silent, up to ``LEVELS``."""
    place: int
    """Of the (first) token in the window."""
    title: str = ""
    focus: bool = False


def shown(text: str) -> str:
    """``text`` with controls, spaces that cannot be seen and marks of direction made visible."""
    # Every character that is replaced counts as not printable.
    return text if text.isprintable() else _LONE.sub("\ufffd", text.translate(_SHOWN))


def for_shell(text: str) -> str:
    """``shown``, as one word of a shell's command."""
    return shown(shlex.quote(text))


def clipped(text: str) -> str:
    """``shown``, at most ``LONGEST`` characters of it."""
    visible = shown(text)
    return visible if len(visible) <= LONGEST else visible[: LONGEST - 1] + "…"


def broken(text: str) -> str:
    """``clipped``, with a line break behind the mark of each."""
    return clipped(text).replace("↵", "↵\n")


def level(activation: float, maximum: float) -> int:
    """Its shade: ``ceil(9 a / maximum)``, so that windows of a feature can be compared."""
    if activation <= 0 or maximum <= 0:
        return 0
    return min(LEVELS, math.ceil(LEVELS * activation / maximum - 1e-9))


def direction(texts: Sequence[str]) -> str:
    """``rtl`` or ``ltr``, by the first letter that has a direction."""
    for text in texts:
        for letter in text:
            kind = unicodedata.bidirectional(letter)
            if kind == "L":
                return "ltr"
            if kind in _RTL:
                return "rtl"
    return "ltr"


def pieces(
    tokens: Sequence[str],
    activations: Sequence[float],
    maximum: float,
    focus: int | None = None,
    first: int = 0,
    *,
    scale: float | None = None,
    ids: Sequence[int] = (),
    breaks: bool = False,
) -> Iterator[Piece]:
    """The window as what is drawn: silent runs are one piece.  ``first``: place of the first
    token.  ``scale``: what the darkest shade stands for, if not ``maximum``.  ``ids``: of the
    tokens, for their titles.  ``breaks``: line breaks break the line."""
    words = broken if breaks else clipped
    silent: list[str] = []
    for place, (token, activation) in enumerate(zip(tokens, activations, strict=True), first):
        shade = level(activation, maximum if scale is None else scale)
        if not shade and place != focus:
            silent.append(words(token))
            continue
        if silent:
            yield Piece("".join(silent), 0, place - len(silent))
            silent = []
        title = f"id {ids[place - first]}: " if ids else ""
        title += number(float(activation))
        if maximum > 0:
            title += f", {percent(activation / maximum)} of its maximum"
        if len(token) > LONGEST:
            title += f", {shown(token)}"
        yield Piece(words(token), shade, place, title, place == focus)
    if silent:
        yield Piece("".join(silent), 0, first + len(tokens) - len(silent))
