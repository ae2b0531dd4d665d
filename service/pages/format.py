"""The filters of templates: ``monosemy.figures``, by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monosemy.figures import (
    density,
    duration,
    even_percent,
    fixed,
    interval,
    iso,
    moment,
    number,
    percent,
    plural,
    signed,
    size,
)
from monosemy.interp import metric_words

__all__ = [
    "FILTERS",
    "density",
    "duration",
    "even_percent",
    "fixed",
    "interval",
    "iso",
    "moment",
    "number",
    "percent",
    "plural",
    "signed",
    "size",
]

FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "fixed": fixed,
    "signed": signed,
    "percent": percent,
    "even_percent": even_percent,
    "metric": metric_words.name,
    "density": density,
    "interval": interval,
    "duration": duration,
    "size": size,
    "moment": moment,
    "iso": iso,
    "plural": plural,
}
