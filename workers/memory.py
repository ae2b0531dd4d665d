"""How much memory there is, and how much models take of it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from monosemy.models.memory import device_bytes

CPU_SHARE, GPU_SHARE = 0.5, 0.7
"""Of all memory, what warm weights may take; the rest is for activations, and for others."""


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
    files = [*folder.glob("*.safetensors"), *folder.glob("*.bin")] if folder.is_dir() else []
    return sum(file.stat().st_size for file in files)


def default_budget(device: torch.device) -> int:
    """Bytes for warm weights on ``device``: a share of its memory."""
    share = GPU_SHARE if device.type == "cuda" else CPU_SHARE
    return int(share * device_bytes(device))
