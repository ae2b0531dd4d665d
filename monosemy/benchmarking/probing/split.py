"""Which texts a probe is fitted to and which it is tested on.  numpy only.

The rule of ``sae-probes`` (its ``utils_data``): as many of each class, 1,024 to fit where at least
100 are left.  Its texts stand several times, and a fifth of its test texts are among those that are
fitted to; ``clean`` takes each text once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from monosemy.benchmarking.probing.tasks import ProbingTask

LEAST_TESTED = 100
LEAST_TEXTS = 40
"""Different texts, both classes together; a task with fewer is left out."""

Variant = Literal["clean", "published"]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Numbers of a task's texts, in the order in which they were drawn."""

    train: Ints
    test: Ints


def usable_rows(task: ProbingTask, variant: Variant) -> Ints:
    """The texts that count: all, or the first of equal ones (letter case and blanks aside), without
    those that have both labels."""
    if variant == "published":
        return np.arange(len(task.texts))
    first: dict[str, int] = {}
    labels: dict[str, set[bool]] = {}
    for at, text in enumerate(task.texts):
        key = " ".join(text.casefold().split())
        first.setdefault(key, at)
        labels.setdefault(key, set()).add(bool(task.labels[at]))
    return np.array([at for key, at in first.items() if len(labels[key]) == 1], np.int64)


def draw(task: ProbingTask, rows: Ints, train_rows: int, test_rows: int, seed: int) -> Split | None:
    """As many of each class on both sides; None for a task of too few texts."""
    rng = np.random.default_rng([seed, len(rows)])
    on, off = (rng.permutation(rows[task.labels[rows] == label]) for label in (True, False))
    each = min(len(on), len(off))
    if 2 * each < LEAST_TEXTS:
        return None
    train = min(train_rows // 2, each - LEAST_TESTED // 2 if each > LEAST_TESTED else each // 2)
    test = min(test_rows // 2, each - train)
    return Split(
        rng.permutation(np.concatenate([on[:train], off[:train]])),
        rng.permutation(np.concatenate([on[train : train + test], off[train : train + test]])),
    )


def leaked(task: ProbingTask, split: Split) -> float:
    """Share of the tested texts that were fitted to, letter for letter."""
    fitted = {task.texts[at] for at in split.train}
    return float(np.mean([task.texts[at] in fitted for at in split.test]))
