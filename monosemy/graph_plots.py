"""Drawings of attribution graphs: what they predict, and what the host does when ablated."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from monosemy.figures import number
from monosemy.svg import drawing, words
from monosemy.ticks import Span, covering


def predicted_and_real(
    changes: Sequence[tuple[str, float, float]], label: str, width: int = 300, height: int = 220
) -> str:
    """A dot for each (name, predicted, real); on the diagonal the host does what was predicted.
    Both axes have one scale each, with 0 in it."""
    left, right, top, base = 46, width - 10, 8, height - 36
    across = _scale([each for _, each, _ in changes])
    upwards = _scale([each for _, _, each in changes])

    def at(x: float) -> float:
        return left + (right - left) * (x - across[0]) / (across[-1] - across[0])

    def up(y: float) -> float:
        return base - (base - top) * (y - upwards[0]) / (upwards[-1] - upwards[0])

    parts = []
    for value in upwards:
        y = up(value)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(words(left - 4, y + 4, number(value), "tick end"))
    for value in across:
        x = at(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{base}"/>')
        parts.append(words(x, base + 14, number(value), "tick middle"))
    parts.append(words((left + right) / 2, height - 6, "predicted", "middle"))
    parts.append(words(left, top + 4, "real", "tick start"))
    low, high = max(across[0], upwards[0]), min(across[-1], upwards[-1])
    if low < high:
        parts.append(
            f'<line class="line chance" x1="{at(low):.1f}" y1="{up(low):.1f}"'
            f' x2="{at(high):.1f}" y2="{up(high):.1f}"/>'
        )
    for name, predicted, real in changes:
        says = escape(f"{name}: predicted {number(predicted)}, real {number(real)}")
        parts.append(
            f'<circle class="dot dim" cx="{at(predicted):.1f}" cy="{up(real):.1f}" r="3.5">'
            f"<title>{says}</title></circle>"
        )
    return drawing(width, height, "plot", label, "".join(parts))


def _scale(values: Sequence[float]) -> list[float]:
    ends: Span = (min(0.0, *values, 0.0), max(0.0, *values, 0.0))
    return covering(*ends, 4)
