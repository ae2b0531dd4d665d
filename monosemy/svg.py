"""Pages and plots without a library: plain HTML with inline SVG, which opens anywhere and loads
nothing.  Whatever text is put in is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 200
LEFT, RIGHT, TOP, BOTTOM = 62, 10, 10, 34
"""Size of a plot and its margins, in SVG's units."""

COLOURS = ("#2f6fde", "#d9822b", "#8a8f98", "#2a9d6f")
"""Of the series a, b, c and d of a plot."""

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; } text { fill: currentColor; font-size: 11px; }
.axis { stroke: currentColor; opacity: .35; } .grid { stroke: currentColor; opacity: .12; }
path { fill: none; stroke-width: 1.6; } .a { stroke: #2f6fde; } .b { stroke: #d9822b; }
.c { stroke: #8a8f98; } .d { stroke: #2a9d6f; }
rect.bar { fill: #2f6fde; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dt { opacity: .7; } dd { margin: 0; } summary { cursor: pointer; } .key { font-size: 13px; }
"""


@dataclass(frozen=True)
class Axes:
    """Ranges of a plot's data; ``place`` says where in the drawing a point lies."""

    left: float
    right: float
    low: float
    high: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * (x - self.left) / (self.right - self.left)
        down = TOP + (HEIGHT - TOP - BOTTOM) * (self.high - y) / (self.high - self.low)
        return across, down

    def path(self, css: str, points: Iterable[tuple[float, float]]) -> str:
        """A line through ``points``; nothing without any."""
        steps = " L".join("{:.1f} {:.1f}".format(*self.place(x, y)) for x, y in points)
        return f'<path class="{css}" d="M{steps}"/>' if steps else ""


def page(title: str, body: str, head: str = "", style: str = "") -> str:
    """A whole page; ``title`` is escaped, ``body`` and ``head`` are HTML already."""
    title = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width">{head}'
        f"<style>{STYLE}{style}</style></head>"
        f"<body><h1>{title}</h1>{body}</body></html>\n"
    )


def figure(title: str, drawing: str, below: str = "") -> str:
    """``drawing`` and ``below`` are HTML already."""
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{drawing}{below}</figure>"


def key(names: Sequence[str], colours: Sequence[str] = COLOURS) -> str:
    """Which colour is which series; nothing for a single one."""
    if len(names) < 2:
        return ""
    parts = (
        f'<span style="color:{colour}">&#9632;</span> {html.escape(name)}'
        for name, colour in zip(names, colours, strict=False)
    )
    return f'<div class="key">{" &nbsp; ".join(parts)}</div>'


def frame(drawn: str) -> str:
    """A plot of the usual size with its two axes."""
    base = HEIGHT - BOTTOM
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f'<line class="axis" x1="{LEFT}" y1="{base}" x2="{WIDTH - RIGHT}" y2="{base}"/>'
        f'<line class="axis" x1="{LEFT}" y1="{TOP}" x2="{LEFT}" y2="{base}"/>{drawn}</svg>'
    )


def tick_left(y: float, words: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{html.escape(words)}</text>'
    )


def tick_below(x: float, words: str, at_end: bool = False) -> str:
    anchor = "end" if at_end else "middle"
    return f'<text x="{x:.1f}" y="{HEIGHT - 14}" text-anchor="{anchor}">{html.escape(words)}</text>'


def number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
