"""A kernel gives the same bits on any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def check_the_same_by_threads(call: Callable[[], Sequence[Tensor] | None]) -> None:
    """Of a kernel that is there."""
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(call())
    finally:
        torch.set_num_threads(before)
    first = results[0]
    assert first is not None
    for other in results[1:]:
        assert other is not None and all(map(torch.equal, other, first))
