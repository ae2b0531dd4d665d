"""Many tests at once: how many features stand out that would not by chance.

Sources: Y. Benjamini and Y. Hochberg, Journal of the Royal Statistical Society B 57 (1995) 289;
D. Yekutieli and Y. Benjamini, Journal of Statistical Planning and Inference 82 (1999) 171, for
p-values adjusted by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

FDR = 0.05
"""Of what is called a discovery, the share that may be none."""


@dataclass(frozen=True)
class Discoveries:
    """What Benjamini and Hochberg's step-up procedure rejects."""

    n: int
    """Tests."""
    count: int
    """Those rejected, that is, discoveries."""
    cut: float
    """The largest p-value among them; 0 without any."""
    uncorrected: int
    """Those with a p-value of at most ``rate``, looked at one by one."""
    rate: float

    def as_dict(self) -> dict[str, float | int]:
        return asdict(self)


def benjamini_hochberg(p_values: Sequence[float], rate: float = FDR) -> Discoveries:
    """Rejects the k smallest of n p-values, k the largest with p_(k) <= k / n * ``rate``.

    The expected share of false discoveries is then at most ``rate`` for tests that are independent
    or positively dependent.  Raises ``ValueError`` for a p-value or a rate outside [0, 1].
    """
    adjusted_N = adjusted(p_values)
    if not 0 <= rate <= 1:
        raise ValueError(f"a rate of {rate}")
    p_N = np.asarray(p_values, dtype=np.float64)
    rejected_N = adjusted_N <= rate
    cut = float(p_N[rejected_N].max()) if rejected_N.any() else 0.0
    return Discoveries(len(p_N), int(rejected_N.sum()), cut, int((p_N <= rate).sum()), rate)


def adjusted(p_values: Sequence[float]) -> NDArray[np.float64]:
    """The smallest rate at which each test would be rejected, ``[n]``, in the order given:
    min over j >= i of n p_(j) / j.  Raises ``ValueError`` as ``benjamini_hochberg`` does."""
    from scipy.stats import false_discovery_control  # takes a second to import

    p_N = np.asarray(p_values, dtype=np.float64)
    if not ((p_N >= 0) & (p_N <= 1)).all():
        raise ValueError("a p-value lies outside [0, 1]")
    return np.asarray(false_discovery_control(p_N, method="bh"))
