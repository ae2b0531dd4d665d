"""Figures as pages and drawings show them; ``service/pages/static/lib/format.js`` does the same in
the browser, and ``tests/pages/vectors.json`` holds the two together.

Missing is "–", never 0.  The minus is U+2212; a thin space stands before "%".
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

MISSING = "–"
MINUS = "\u2212"
THIN = "\u2009"
LARGEST = 1e15
"""From here on figures are written with an exponent."""


def number(value: float | None, digits: int = 3) -> str:
    """Whole numbers in full, others with so many significant digits."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING
    if isinstance(value, int):
        return _signed(f"{value:,}")
    if abs(value) >= LARGEST:
        return _large(value, digits)
    if value == 0 or abs(value) >= 1000:
        return _signed(f"{_half_up(Decimal(value), 0):,f}")
    exact = Decimal(value)
    places = digits - 1 - exact.adjusted()
    shown = _half_up(exact, places)
    if shown.adjusted() > exact.adjusted():  # 9.999 has become 10
        shown = _half_up(exact, places - 1)
        if abs(shown) >= 1000:
            return _signed(f"{shown:,f}")
    if shown.adjusted() < -4:
        mantissa = _trimmed(f"{shown.scaleb(-shown.adjusted()):f}")
        return _signed(f"{mantissa}e{shown.adjusted()}")
    return _signed(_trimmed(f"{shown:f}"))


def fixed(value: float | None, places: int = 2) -> str:
    """With so many places after the point, so that a column of them is aligned."""
    if value is None or not math.isfinite(value):
        return MISSING
    if abs(value) >= LARGEST:
        return _large(value, 3)
    return _signed(f"{_half_up(Decimal(value), places):,f}")


def signed(value: float | None, places: int = 2) -> str:
    """With its sign, + as well."""
    shown = fixed(value, places)
    return shown if shown == MISSING or shown.startswith(MINUS) else f"+{shown}"


def percent(share: float | None, digits: int = 2) -> str:
    """A share from 0 to 1 as %."""
    if share is None or not math.isfinite(share):
        return MISSING
    return f"{number(float(share) * 100, digits if share < 0.0995 else 3)}{THIN}%"


def even_percent(share: float | None) -> str:
    """A share as %, with one place after the point, so that a column of them is aligned."""
    if share is None or not math.isfinite(share):
        return MISSING
    return f"{fixed(float(share) * 100, 1)}{THIN}%"


def density(share: float | None) -> str:
    """How often a feature fires: %, below 0.1 % one in so many tokens."""
    if share is None or not math.isfinite(share):
        return MISSING
    if share == 0:
        return "never"
    if share >= 0.001:
        return percent(share)
    rarity = 1 / share
    return f"1 in {number(_half_up_int(rarity) if abs(rarity) < LARGEST else rarity)}"


def interval(low: float | None, high: float | None, places: int = 2) -> str:
    """(.39–.77); nothing where there is none."""
    if low is None or high is None:
        return ""
    joint = " to " if low < 0 else "–"
    return f"({fixed(low, places)}{joint}{fixed(high, places)})"


def duration(seconds: float | None) -> str:
    """0:42, 12:05, 3:04:05."""
    if seconds is None or not abs(seconds) < LARGEST:
        return MISSING
    whole = max(0, _half_up_int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def size(count: float | None) -> str:
    """Bytes, in kB and so on (powers of 1000)."""
    if count is None or not math.isfinite(count):
        return MISSING
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{number(int(value)) if unit == 'B' else number(value)} {unit}"
        value /= 1000
    return f"{number(value)} TB"


def moment(time: dt.datetime | None) -> str:
    """In UTC; ``lib/shell.js`` puts the time of the place where it is read."""
    return MISSING if time is None else f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"


def iso(time: dt.datetime | None) -> str:
    return "" if time is None else time.astimezone(dt.UTC).isoformat(timespec="seconds")


def plural(count: int, one: str, many: str | None = None) -> str:
    """1 feature, 2 features."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def ranges(numbers: Sequence[int]) -> str:
    """Ascending whole numbers in short: ``0-3, 7``."""
    spans: list[list[int]] = []
    for each in numbers:
        if spans and each == spans[-1][1] + 1:
            spans[-1][1] = each
        else:
            spans.append([each, each])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def _large(value: float, digits: int) -> str:
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return _signed(f"{_trimmed(mantissa)}e{int(exponent)}")


def _signed(text: str) -> str:
    if not text.startswith("-"):
        return text
    return MINUS + text[1:] if any(letter in "123456789" for letter in text) else text[1:]


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _half_up(value: Decimal, places: int) -> Decimal:
    # Halves away from zero, as JavaScript's toPrecision and toFixed do.
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def _half_up_int(value: float) -> int:
    return int(_half_up(Decimal(value), 0))
