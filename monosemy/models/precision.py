"""Which device and which dtype: what the machine multiplies fastest, measured once."""

from __future__ import annotations

import time
from functools import lru_cache

import torch

from monosemy.errors import ModelError
from monosemy.threads import usable_cores

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def check_devices(kind: str, wanted: int, field: str) -> None:
    """``ModelError`` where there are fewer GPUs, or cores of a CPU, than a spec's ``field`` asks
    for."""
    gpu = kind == "cuda"
    available = torch.cuda.device_count() if gpu else usable_cores()
    if available < wanted:
        raise ModelError(
            f"The run asks for {wanted} devices, and {available} "
            f"{'GPUs' if gpu else 'cores'} can be used here.",
            f"Set {field} to at most that.",
        )


def choose_device(name: str) -> torch.device:
    """``auto`` takes cuda, mps or cpu, whichever is there first; ``ModelError`` if it is absent."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"The device '{name}' cannot be used here: {reason}") from None
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto`` takes bfloat16 where it is the faster one, else float32."""
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu" and bfloat16_is_faster_on_cpu():
        return torch.bfloat16
    return torch.float32


_ROUNDS = 12
"""Of the timing: enough that each dtype once gets a core to itself, on a machine that is busy."""


@lru_cache(maxsize=1)
def bfloat16_is_faster_on_cpu() -> bool:
    """One small matrix product in both dtypes, taking turns, the best of each (about 150 ms)."""
    best = {torch.bfloat16: float("inf"), torch.float32: float("inf")}
    for _ in range(_ROUNDS):
        for dtype, fastest in best.items():
            best[dtype] = min(fastest, _seconds(dtype))
    return best[torch.bfloat16] < 0.8 * best[torch.float32]


def _seconds(dtype: torch.dtype) -> float:
    left = torch.ones(512, 576, dtype=dtype)
    right = torch.ones(576, 1536, dtype=dtype)
    left @ right  # the first one lays the weights out
    start = time.perf_counter()
    left @ right
    return time.perf_counter() - start
