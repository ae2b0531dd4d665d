"""How much memory there is, and what a model will take, before it is loaded."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from monosemy.errors import ModelError
from monosemy.models.text_encoders import text_encoder_class

_CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
MOST_MODULES = 50_000
"""Of one model; the largest of today have some ten thousand."""
MOST_IN_CONFIG = 2**32
"""Largest integer in a configuration: sizes, and bases of rotary embeddings."""


def machine_bytes() -> int:
    """Bytes of RAM that this process may use: the machine's, or its container's if less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _CGROUP_LIMITS:
        try:
            limits.append(int(Path(name).read_text()))
        except (OSError, ValueError):  # absent, or "max"
            continue
    return min(limits)


def device_bytes(device: torch.device) -> int:
    """Bytes of memory of ``device``: of this machine's where it is no GPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return machine_bytes()


def most_bytes(device: torch.device, allowed: int | None = None) -> int:
    """What one thing may take on ``device``: ``allowed`` at most, and what there is."""
    return min(device_bytes(device), device_bytes(device) if allowed is None else allowed)


def config_bytes(config: Any, dtype: torch.dtype, most: int, name: str) -> int:
    """Bytes of the parameters of the causal LM or text encoder that ``config`` describes.

    Nothing is allocated.  Raises ``ModelError`` as soon as they are more than ``most``, for more
    than ``MOST_MODULES`` modules, and for what transformers cannot build.
    """
    largest = max(_integers(config.to_dict()), default=0)
    if largest > MOST_IN_CONFIG:
        raise ModelError(f"The config.json of '{name}' holds the number {str(largest)[:40]}.")
    with torch.device("meta"), _counted(dtype.itemsize, most, name):
        try:
            model: nn.Module = _built(copy.deepcopy(config), dtype)
        except ModelError:
            raise
        except Exception as error:  # a foreign configuration fails in many ways
            raise ModelError(
                f"Cannot build the model '{name}' from its config.json: "
                f"{(str(error).strip() or type(error).__name__).splitlines()[0]}"
            ) from error
    return sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize


def _built(config: Any, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    encoder = text_encoder_class(config)
    if encoder is not None:
        return encoder._from_config(config, dtype=dtype, attn_implementation=None)
    return AutoModelForCausalLM.from_config(
        config, dtype=dtype, attn_implementation=None, trust_remote_code=False
    )


@contextmanager
def _counted(itemsize: int, most: int, name: str) -> Iterator[None]:
    """Stops this thread's building of a model that grows beyond ``most`` bytes."""
    thread, seen = threading.get_ident(), {"bytes": 0, "modules": 0}

    def parameter(module: nn.Module, _: str, value: Any) -> None:  # noqa: ARG001
        if threading.get_ident() != thread or value is None:
            return
        seen["bytes"] += value.numel() * itemsize
        # Tied weights are seen twice, but never more often than that.
        if seen["bytes"] > 2 * most:
            raise too_large(name, seen["bytes"], most, "at least ")

    def submodule(module: nn.Module, _: str, value: Any) -> None:  # noqa: ARG001
        if threading.get_ident() != thread:
            return
        seen["modules"] += 1
        if seen["modules"] > MOST_MODULES:
            raise ModelError(f"The config.json of '{name}' asks for over {MOST_MODULES} modules.")

    handles = [
        register_module_parameter_registration_hook(parameter),
        register_module_module_registration_hook(submodule),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def too_large(name: str, needed: int, most: int, least: str = "") -> ModelError:
    """The error of a model that takes more than it may."""
    return ModelError(
        f"The model '{name}' takes {least}{needed / 1e6:,.0f} MB by its config.json; "
        f"{most / 1e6:,.0f} MB may be taken here.",
        "Take a smaller model or dtype, another device, or raise MONOSEMY_MAX_MEMORY_MB.",
    )


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _integers(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _integers(each)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield abs(value)
