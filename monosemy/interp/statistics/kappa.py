"""Do two who answer yes or no agree beyond chance?  Cohen's kappa with its interval.  numpy only.

J. Cohen, Educational and Psychological Measurement 20 (1960) 37.  The usual large-sample interval
(Fleiss, Cohen and Everitt 1969) has no width where two agree on everything, however little that
was; so the interval here is the one of the profile likelihood: the kappas that no likelihood ratio
test refuses, whatever the shares of yes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monosemy.interp.statistics.rates import Z95

_GRID, _ZOOMS, _SHRINK = 25, 7, 0.25
_HALVINGS = 24
_EDGE = 1e-9


@dataclass(frozen=True)
class Kappa:
    """Agreement of two on the same things."""

    value: float | None
    """1: always, 0: as often as chance; None where both say only one thing, or nothing was asked.
    """
    low: float
    high: float
    """95 % interval."""
    observed: float | None
    """Share on which they agree."""
    both_yes: int
    first_only: int
    second_only: int
    neither: int

    @property
    def n(self) -> int:
        return self.both_yes + self.first_only + self.second_only + self.neither


def cohen_kappa(pairs: Sequence[tuple[bool, bool]], z: float = Z95) -> Kappa:
    """Of the answers of the first and the second, one pair for each thing that both judged.

    Things count as independent.  Without pairs the interval is (-1, 1).
    """
    counts = [sum(pair == kind for pair in pairs) for kind in _KINDS]
    both, first, second, neither = counts
    n = len(pairs)
    if n == 0:
        return Kappa(None, -1.0, 1.0, None, *counts)
    observed = (both + neither) / n
    expected = ((both + first) * (both + second) + (second + neither) * (first + neither)) / n**2
    if expected == 1.0:
        return Kappa(None, -1.0, 1.0, observed, *counts)
    value = (observed - expected) / (1 - expected)
    wanted = np.array(counts, np.float64)
    least = float(_log_likelihood(wanted, wanted / n)) - z * z / 2
    low = _end(wanted, least, value, -1.0)
    high = _end(wanted, least, value, 1.0)
    return Kappa(value, low, high, observed, *counts)


_KINDS = ((True, True), (True, False), (False, True), (False, False))


def _end(counts: npt.NDArray[np.float64], least: float, value: float, far: float) -> float:
    """The kappa from ``value`` to ``far`` where the profile likelihood falls below ``least``."""
    if _profile(counts, far) >= least:
        return far
    inside, outside = value, far
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if _profile(counts, middle) >= least:
            inside = middle
        else:
            outside = middle
    return inside


def _profile(counts: npt.NDArray[np.float64], kappa: float) -> float:
    """The largest log likelihood of all tables with this ``kappa``: looked for on a grid that is
    drawn closer around the best, over the mean share of yes and the tilt of the disagreements."""
    total = counts.sum()
    unequal = counts[1] + counts[2]
    mean = float((counts[0] + unequal / 2) / total)
    tilt = float((counts[1] - counts[2]) / unequal) if unequal else 0.0
    widths = np.array([1.0, 2.0])
    best, centre = -np.inf, np.array([np.clip(mean, 0.02, 0.98), tilt])
    for zoom in range(_ZOOMS):
        steps = np.linspace(-0.5, 0.5, _GRID)
        means_M = np.clip(centre[0] + widths[0] * steps, _EDGE, 1 - _EDGE)
        tilts_T = np.clip(centre[1] + widths[1] * steps, -1.0, 1.0)
        means, tilts = (part.ravel() for part in np.meshgrid(means_M, tilts_T))
        likely = _log_likelihood(counts, _table(kappa, means, tilts))
        place = int(np.argmax(likely))
        if likely[place] > best or zoom == 0:
            best, centre = float(likely[place]), np.array([means[place], tilts[place]])
        widths = widths * _SHRINK if np.isfinite(best) else widths * 0.9
    return best


def _table(
    kappa: float, mean: npt.NDArray[np.float64], tilt: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Shares [4, n] of a table with this ``kappa``; negative where there is none.

    With q the share of disagreements, d = tilt q the difference of the shares of yes: chance's own
    disagreement is 2 m (1 - m) + d^2 / 2, and q is (1 - kappa) times that.
    """
    chance = 2 * mean * (1 - mean)
    bend = (1 - kappa) * tilt**2 / 2
    root = 1 - 4 * bend * (1 - kappa) * chance
    flat = (1 - kappa) * chance
    with np.errstate(invalid="ignore", divide="ignore"):
        q = np.where(bend > _EDGE, (1 - np.sqrt(root)) / (2 * np.maximum(bend, _EDGE)), flat)
    q = np.where(root < 0, np.nan, q)
    return np.stack([mean - q / 2, q * (1 + tilt) / 2, q * (1 - tilt) / 2, 1 - mean - q / 2])


def _log_likelihood(
    counts: npt.NDArray[np.float64], shares: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Of ``counts`` [4] under ``shares`` [4, ...]; minus infinity where there is no such table."""
    columns = counts.reshape(4, *[1] * (shares.ndim - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(columns > 0, columns * np.log(np.maximum(shares, 0.0)), 0.0)
    possible = np.isfinite(shares).all(axis=0) & (shares >= -_EDGE).all(axis=0)
    return np.where(possible, terms.sum(axis=0), -np.inf)
