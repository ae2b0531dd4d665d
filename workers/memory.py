"""How much memory there is, and how much models take of it."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

CPU_SHARE, GPU_SHARE = 0.5, 0.7
"""Of all memory, what warm weights may take; the rest is for activations, and for others."""

_CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def weight_bytes(module: nn.Module) -> int:
    """Bytes of parameters and buffers, those that several names share counted once."""
    storages = {
        (tensor.device, storage.data_ptr()): storage.nbytes()
        for tensor in (*module.parameters(), *module.buffers())
        for storage in (tensor.untyped_storage(),)
    }
    return sum(storages.values())


def file_bytes(folder: Path) -> int:
    """Bytes of a folder's weight files: about what they will take, before they are loaded."""
    found = [*folder.glob("*.safetensors"), *folder.glob("*.bin")] if folder.is_dir() else []
    return sum(file.stat().st_size for file in found)


def default_budget(device: torch.device) -> int:
    """Bytes for warm weights on ``device``: a share of its memory."""
    if device.type == "cuda":
        return int(GPU_SHARE * torch.cuda.get_device_properties(device).total_memory)
    return int(CPU_SHARE * machine_bytes())


def machine_bytes() -> int:
    """Bytes of RAM that this process may use: the machine's, or its container's if less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _CGROUP_LIMITS:
        try:
            limits.append(int(Path(name).read_text()))
        except (OSError, ValueError):  # absent, or "max"
            continue
    return min(limits)
