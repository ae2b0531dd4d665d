"""Which documents are held out, and which explain or score a feature: by salted document hash.

Each question has its own salt, so the answers are independent of one another.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Explanations are written from split 0, tuned on 1 and scored on 2."""

SPLIT_BORDERS = (0.5, 0.7)
"""50 % of the documents explain, 20 % validate, 30 % score."""

_HELDOUT_SALT = 0x9E3779B97F4A7C15
_EXPLANATION_SALT = 0xD1B54A32D192ED03


def explanation_split(document_hash: npt.NDArray[np.uint64]) -> npt.NDArray[np.int8]:
    """0 (train), 1 (validation) or 2 (test) for each document hash: 50/20/30."""
    share = _uniform(document_hash, _EXPLANATION_SALT)
    return np.searchsorted(np.asarray(SPLIT_BORDERS), share, side="right").astype(np.int8)


def heldout_documents(
    document_hash: npt.NDArray[np.uint64], fraction: float
) -> npt.NDArray[np.bool_]:
    """True for the documents that the SAE never trains on, about ``fraction`` of them.

    With two documents or more, at least one is held out and at least one is not.
    """
    share = _uniform(document_hash, _HELDOUT_SALT)
    heldout = share < fraction
    if len(share) >= 2:
        if not heldout.any():
            heldout[np.argmin(share)] = True
        elif heldout.all():
            heldout[np.argmax(share)] = False
    return heldout


def _uniform(values: npt.NDArray[np.uint64], salt: int) -> npt.NDArray[np.float64]:
    """SplitMix64 (Steele, Lea, Flood 2014) of ``values ^ salt``, as numbers in [0, 1)."""
    with np.errstate(over="ignore"):
        z = np.asarray(values, dtype=np.uint64) ^ np.uint64(salt)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / float(1 << 53)
