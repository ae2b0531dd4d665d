"""The precision of a judge's "yes" at the feature's own frequency.  numpy only.

Scores are had on about as many positives as negatives.  In text, contexts in which the feature
fires are rare: with TPR 0.75 and FPR 0.05, of the contexts that the explanation fits, 1.5 % are
right at a density of 1e-3.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from monosemy.interp.statistics.rates import Rate


@dataclass(frozen=True)
class NaturalPrecision:
    """Precision at a density.  ``value`` is None where it is not defined (nothing said yes)."""

    value: float | None
    low: float
    high: float
    density: float

    def as_dict(self) -> dict[str, float | None]:
        return asdict(self)


def precision_at(tpr: float, fpr: float, density: float) -> float | None:
    """Bayes: density TPR / (density TPR + (1 - density) FPR); None for 0 / 0.

    ``density`` is the share of units that are positive, the unit being what was judged: for
    detection the context, not the token.  Raises ``ValueError`` for anything outside [0, 1].
    """
    if not all(0 <= share <= 1 for share in (tpr, fpr, density)):
        raise ValueError(f"TPR {tpr}, FPR {fpr}, density {density}")
    true, false = density * tpr, (1 - density) * fpr
    return true / (true + false) if true + false else None


def natural_precision(tpr: Rate, fpr: Rate, density: float) -> NaturalPrecision:
    """Precision at ``density`` with the interval that those of ``tpr`` and ``fpr`` come to.

    Precision rises with TPR / FPR alone; that ratio's interval is MOVER's for the ratio of two
    independent estimates (A. Donner and G. Y. Zou, Statistical Methods in Medical Research 21
    (2012) 347), from Wilson's ends, with documents as clusters if the rates have them.  An FPR of 0
    still gives a lower end: it says how far precision is known at all.  Density is taken as known.
    Raises ``ValueError`` for a density outside [0, 1].
    """
    if tpr.value is None or fpr.value is None:
        precision_at(0.5, 0.5, density)
        return NaturalPrecision(None, 0.0, 1.0, density)
    value = precision_at(tpr.value, fpr.value, density)
    if density in (0.0, 1.0):
        return NaturalPrecision(density, density, density, density)
    low, high = mover_ratio(tpr, fpr)
    odds = density / (1 - density)
    return NaturalPrecision(value, _share(odds * low), _share(odds * high), density)


def mover_ratio(first: Rate, second: Rate) -> tuple[float, float]:
    """MOVER's interval of first / second; the upper end is infinite if ``second`` may be 0.

    Raises ``ValueError`` for an empty rate.
    """
    if first.value is None or second.value is None:
        raise ValueError("a rate is empty")
    a, b = first.value, second.value
    # Donner and Zou's ends, the lower one rationalised: no difference of near equals, and right
    # for b = 0.
    below = first.low * (2 * a - first.low)
    above = second.high * (2 * b - second.high)
    root = math.sqrt(max(0.0, (a * b) ** 2 - below * above))
    low = below / (a * b + root) if below > 0 else 0.0
    above = first.high * (2 * a - first.high)
    below = second.low * (2 * b - second.low)
    root = math.sqrt(max(0.0, (a * b) ** 2 - above * below))
    high = (a * b + root) / below if below > 0 else math.inf
    return low, high


def _share(odds: float) -> float:
    return 1.0 if math.isinf(odds) else odds / (1 + odds)
