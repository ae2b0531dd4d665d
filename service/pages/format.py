"""The filters of templates: ``monosemy.figures``, by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monosemy.figures import (
    density,
    duration,
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

__all__ = [
    "FILTERS",
    "density",
    "duration",
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
    "density": density,
    "interval": interval,
    "duration": duration,
    "size": size,
    "moment": moment,
    "iso": iso,
    "plural": plural,
}
