"""Whether the Triton kernels run on a device: asked at every call, found out once."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from contextlib import AbstractContextManager

import torch

_log = logging.getLogger(__name__)

_OLDEST = (8, 0)
"""Compute capability; earlier cards have no bfloat16 arithmetic."""


def ready(device: torch.device) -> bool:
    """True on CUDA where triton is installed and its kernels agree with tensor operations there.

    ``MONOSEMY_NATIVE=0`` turns them off.  ``TRITON_INTERPRET=1``, set before triton is imported,
    runs them on the CPU in Triton's interpreter: slow, and meant for tests.
    """
    if os.environ.get("MONOSEMY_NATIVE", "1") == "0":
        return False
    if device.type != "cuda" and not (device.type == "cpu" and interpreted()):
        return False
    return _agrees(device)


def interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def active(device: torch.device) -> AbstractContextManager[object]:
    """Makes a card the current one: Triton launches there, wherever the tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


@functools.cache
def _agrees(device: torch.device) -> bool:
    """Waits for the device, once.  A kernel that cannot be compiled or computes something else on
    this card, driver and compiler must cost speed, not a run."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < _OLDEST:
        return False
    try:
        from monosemy.native.gpu.agreement import disagreement
    except ImportError as error:
        _log.info("No Triton kernels on %s, tensor operations are used instead: %s", device, error)
        return False
    try:
        wrong = disagreement(device)
    except Exception as error:  # compilers and drivers fail in many ways
        wrong = f"{type(error).__name__}: {error}"
    if wrong:
        _log.warning("Triton kernels are not used on %s: %s", device, wrong)
    return not wrong
