"""Drawings without a library: SVG by attributes and classes, and pages of one file around them.

A drawing has no inline style, so that it can stand on a page whose policy allows none; colours come
from ``PLOT_STYLE``, which the explorer's pages and those of one file share.  Whatever text is put
in is escaped here.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 200
LEFT, RIGHT, TOP, BOTTOM = 62, 10, 10, 34
"""Size of a plot and its margins, in SVG's units."""

SERIES = ("own", "null", "other", "more")
"""Classes of a plot's series, in the order of its key."""

PLOT_STYLE = """\
:root {
  color-scheme: light dark;
  --ink: light-dark(#16181d, #e7e9ee);
  --quiet: light-dark(#565c68, #a5abb8);
  --paper: light-dark(#fff, #14161a);
  --line: light-dark(#d9dce2, #3a404a);
  --own: light-dark(#0b57b7, #7fb0ff);
  --null: light-dark(#8a5412, #d9a066);
  --other: light-dark(#2a7d5f, #62c3a0);
  --plus: light-dark(#b85c00, #f5a04d);
  --minus: light-dark(#2456c4, #86a9ff);
}
svg { max-width: 100%; height: auto; vertical-align: middle; }
svg text { fill: var(--quiet); font-size: 11px; }
svg.plot text, svg.costs text { font-size: 13px; }
svg text.end { text-anchor: end; } svg text.middle { text-anchor: middle; }
svg text.large { font-size: 15px; fill: var(--ink); }
svg .axis { stroke: var(--quiet); } svg .grid { stroke: var(--line); }
svg .bar, svg.share rect { fill: var(--own); }
svg .bar.second { fill: var(--quiet); }
svg.share.plus rect { fill: var(--plus); } svg.share.minus rect { fill: var(--minus); }
svg .hit { fill: transparent; } svg a:hover .hit, svg a:focus-visible .hit { fill: var(--line); }
svg .band { fill: var(--null); opacity: .3; }
svg .box { fill: none; stroke: var(--line); }
svg .line, svg .rod { fill: none; stroke-width: 1.6; stroke: var(--own); }
svg .line.null, svg .rod.null { stroke: var(--null); } svg .line.null { stroke-dasharray: 5 3; }
svg .line.other, svg .rod.other { stroke: var(--other); }
svg .line.more, svg .rod.more { stroke: var(--quiet); }
svg .dot { fill: var(--own); } svg .dot.null { fill: var(--paper); stroke: var(--null); }
svg .dot.dim { opacity: .75; }
svg .swatch.own { fill: var(--own); } svg .swatch.null { fill: var(--null); }
svg .swatch.other { fill: var(--other); } svg .swatch.more { fill: var(--quiet); }
svg.interval .rail, svg.interval .notch { stroke: var(--quiet); opacity: .55; }
svg .chance { stroke: var(--ink); stroke-width: 1.2; } svg .line.chance { stroke-dasharray: 2 3; }
svg.interval line.own { stroke: var(--own); stroke-width: 2; }
svg.interval circle.own { fill: var(--own); }
svg.interval line.null { stroke: var(--null); stroke-dasharray: 3 2; stroke-width: 1.5; }
svg.interval path.null { fill: var(--paper); stroke: var(--null); stroke-width: 1.4; }
.key { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: 13px; }
.says { font-size: 13px; color: var(--quiet); }
"""
"""Variables of colours, light and dark, and what the classes of drawings mean."""

_PAGE_STYLE = """\
:root { font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; background: var(--paper);
color: var(--ink); font-variant-numeric: tabular-nums; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr));
gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; } .plots svg { width: 100%; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dt { color: var(--quiet); } dd { margin: 0; } summary { cursor: pointer; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.tablebox { overflow-x: auto; } p.says { margin: 0; }
table { border-collapse: collapse; font-size: 13px; margin: .5rem 0; }
th, td { text-align: left; padding: .15rem .7rem .15rem 0; vertical-align: top;
border-bottom: 1px solid var(--line); }
td.words { overflow-wrap: anywhere; min-width: 14rem; }
"""
STYLE = PLOT_STYLE + _PAGE_STYLE


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

    def path(self, css: str, points: Iterable[tuple[float, float]], title: str = "") -> str:
        """A line through ``points``; nothing without any."""
        steps = "L".join("{:.1f} {:.1f}".format(*self.place(x, y)) for x, y in points)
        says = f"<title>{html.escape(title)}</title>" if title else ""
        return f'<path class="line {css}" d="M{steps}">{says}</path>' if steps else ""


def policy() -> str:
    """Content-Security-Policy of ``page``: its own style, no script, nothing loaded."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'"


def page(title: str, body: str, head: str = "") -> str:
    """A whole page in one file; ``title`` is escaped, ``body`` and ``head`` are HTML already."""
    title = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy()}">'
        f'<meta name="viewport" content="width=device-width">{head}'
        f"<style>{STYLE}</style></head>"
        f"<body><h1>{title}</h1>{body}</body></html>\n"
    )


def drawing(
    width: float, height: float, css: str, label: str, inner: str, role: str = "img"
) -> str:
    """``inner`` as an SVG of this size; ``label`` says its figures to those who do not see it."""
    box = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return (
        f'<svg class="{html.escape(css)}" {box} role="{role}" aria-label="{html.escape(label)}">'
        f"{inner}</svg>"
    )


def figure(title: str, drawn: str, below: str = "") -> str:
    """``drawn`` and ``below`` are HTML already."""
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{drawn}{below}</figure>"


def key(names: Sequence[str], classes: Sequence[str] = SERIES, lines: bool = False) -> str:
    """Which colour, or of ``lines`` which stroke, is which series; nothing for a single one."""
    if len(names) < 2:
        return ""
    wide = 22 if lines else 10
    mark = (
        '<path class="line {css}" d="M0 5L22 5"/>'
        if lines
        else '<rect class="swatch {css}" width="10" height="10"/>'
    )
    parts = (
        f'<span><svg class="swatches" viewBox="0 0 {wide} 10" width="{wide}" height="10"'
        f' aria-hidden="true">{mark.format(css=css)}</svg>'
        f" {html.escape(name)}</span>"
        for name, css in zip(names, classes, strict=False)
    )
    return f'<div class="key">{"".join(parts)}</div>'


def frame(drawn: str, label: str, linked: bool = False) -> str:
    """A plot of the usual size with its two axes; ``linked`` where there are links in it."""
    base = HEIGHT - BOTTOM
    axes = (
        f'<line class="axis" x1="{LEFT}" y1="{base}" x2="{WIDTH - RIGHT}" y2="{base}"/>'
        f'<line class="axis" x1="{LEFT}" y1="{TOP}" x2="{LEFT}" y2="{base}"/>'
    )
    return drawing(WIDTH, HEIGHT, "plot", label, axes + drawn, "group" if linked else "img")


def words(x: float, y: float, text: str, css: str = "") -> str:
    """``css``: ``end`` or ``middle``, what of the text is at ``x``; its begin otherwise."""
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}">{html.escape(text)}</text>'


def tick_left(y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        + words(LEFT - 6, y + 4, text, "end")
    )


def tick_below(x: float, text: str, at_end: bool = False) -> str:
    return words(x, HEIGHT - 14, text, "end" if at_end else "middle")


def link(address: str | None, label: str, drawn: str) -> str:
    """``drawn`` as a link; by itself where there is no address."""
    if address is None:
        return drawn
    return f'<a href="{html.escape(address)}" aria-label="{html.escape(label)}">{drawn}</a>'
