"""Round values along an axis."""

from __future__ import annotations

import math

Span = tuple[float, float]


def covering(low: float, high: float, most: int = 4) -> list[float]:
    """Ascending multiples of 1, 2 or 5 times a power of ten, evenly spaced; the first is at most
    ``low``, the last at least ``high``, with about ``most`` steps between them, and one at least.

    ``service/pages/static/lib/scales.js`` does the same."""
    rough = (high - low) / most
    if rough <= 0 or not math.isfinite(rough):
        rough = max(abs(low), 1.0) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [_exact(place * step) for place in range(first, max(last, first + 1) + 1)]


def covering_log(low: float, high: float) -> list[float]:
    """The same of 1, 2 and 5 times powers of ten, for an axis that goes by the logarithm; ``low``
    is above 0.  Powers of ten alone where that would be many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    known = [_exact(f * 10.0**power) for power in range(first, last + 1) for f in factors]
    start = max(i for i, each in enumerate(known) if each <= low * (1 + 1e-9))
    end = min(i for i, each in enumerate(known) if each >= high * (1 - 1e-9))
    return known[start : max(end, start + 1) + 1]


def _exact(value: float) -> float:
    return float(f"{value:.12g}")
