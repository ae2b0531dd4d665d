"""How fast this machine multiplies at the moment: what the size of a demo goes by.

``python -m monosemy.models.speed`` imports torch, waits for a line on standard input, measures for
a second and writes one line of JSON.  Whoever must not import torch asks it that way.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch

from monosemy.models.precision import choose_device, choose_dtype

SECONDS = 1.0
_ROWS, _WIDTH, _HIDDEN = 2048, 576, 1536
"""The shape of a small model's MLP on a batch of rows."""


def measure(seconds: float = SECONDS) -> dict[str, Any]:
    """``flops`` (multiplications and additions a second, while others use the machine as they do),
    ``device``, ``dtype`` and ``threads``, of the device and dtype that ``auto`` chooses."""
    device = choose_device("auto")
    dtype = choose_dtype("auto", device)
    left = torch.ones(_ROWS, _WIDTH, dtype=dtype, device=device)
    right = torch.ones(_WIDTH, _HIDDEN, dtype=dtype, device=device)
    (left @ right).sum().item()  # the first one lays the weights out
    products, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        (left @ right)[0, 0].item()  # waits for the device
        products += 1
    return {
        "flops": 2 * _ROWS * _WIDTH * _HIDDEN * products / passed,
        "device": device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    del arguments
    sys.stdin.readline()
    sys.stdout.write(json.dumps(measure()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
