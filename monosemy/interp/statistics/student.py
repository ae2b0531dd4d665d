"""Student's distribution, as far as intervals of few documents need it."""

from __future__ import annotations


def student_critical(z: float, df: float) -> float:
    """Student's critical value with the tail that ``z`` has for the normal distribution.

    Cornish and Fisher's expansion (Abramowitz and Stegun 26.7.5): within 0.4 % at df = 4 and
    0.01 % at 10, for the usual levels.  Raises ``ValueError`` for df < 1.
    """
    if df < 1:
        raise ValueError(f"{df} degrees of freedom")
    square = z * z
    terms = (
        (square + 1) / 4,
        ((5 * square + 16) * square + 3) / 96,
        (((3 * square + 19) * square + 17) * square - 15) / 384,
        ((((79 * square + 776) * square + 1482) * square - 1920) * square - 945) / 92160,
    )
    return z * (1 + sum(term / df**power for power, term in enumerate(terms, 1)))
