"""The tokens that training draws its batches from: where they lie, in which dtype, and their ways.

On a GPU the buffer lies on the device where it fits, else in host memory, from which rows are
gathered into pinned blocks: what crosses is one block, never single rows.  On a CPU it is float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.specs import TrainingSpec

_SHARE_OF_FREE = 0.8
"""Of a GPU's free memory: the rest is for the host model's forward and for what falls between."""

_SAMPLE = 131_072
"""Tokens that ``sample`` widens to float32 of a buffer in another dtype."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Placement:
    """Where a buffer lies, and where its batches go."""

    device: torch.device
    """Where the buffer is."""
    dtype: torch.dtype
    serves: torch.device
    """Where the SAEs are trained."""


ON_CPU = Placement(torch.device("cpu"), torch.float32, torch.device("cpu"))


def choose_placement(
    spec: TrainingSpec,
    serves: torch.device,
    dtype_read: torch.dtype,
    numbers: int,
    beside: int,
) -> Placement:
    """What ``spec.buffer_device`` and ``spec.buffer_dtype`` mean on this machine.

    ``dtype_read`` is that of the activations as they are read, ``numbers`` how many of them the
    buffer holds, ``beside`` the bytes that the SAEs will take on the device.  The dtype depends on
    the kind of device alone, not on what fits, so that neighbours of a process group agree.
    """
    if spec.buffer_dtype != "auto":
        dtype = DTYPES[spec.buffer_dtype]
    else:
        halved = serves.type == "cuda" and dtype_read == torch.bfloat16
        dtype = torch.bfloat16 if halved else torch.float32
    if spec.buffer_device == "auto":
        room = _SHARE_OF_FREE * _free_bytes(serves)
        on_device = serves.type == "cuda" and numbers * dtype.itemsize + beside <= room
    else:
        on_device = spec.buffer_device == "device"
    return Placement(serves if on_device else torch.device("cpu"), dtype, serves)


def _free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


class ActivationBuffer:
    """``size`` slots of one token's activations each, ``values [size, width]``.

    Slots are named by int64 indices on the CPU, so that their order is the same wherever the
    buffer lies.  Neither ``put`` of what is on the buffer's device nor ``take`` waits for it.
    """

    def __init__(self, size: int, width: int, placement: Placement) -> None:
        self.values = torch.zeros(size, width, dtype=placement.dtype, device=placement.device)
        self.serves = torch.empty(0, device=placement.serves).device
        """With its number, as tensors have it: "cuda" is not equal to "cuda:0"."""

    def __len__(self) -> int:
        return len(self.values)

    def admitted(self, acts_NW: Tensor) -> Tensor:
        """The block on the buffer's device, in its dtype."""
        acts_NW = acts_NW.to(self.values.dtype)
        if acts_NW.device == self.values.device:
            return acts_NW
        return _crossed(acts_NW, self.values.device)

    def put(self, slots_N: Tensor, acts_NW: Tensor) -> None:
        """Writes a block that was ``admitted`` into these slots, each of which is named once."""
        self.values.index_copy_(0, _crossed(slots_N, self.values.device), acts_NW)

    def take(self, slots_N: Tensor) -> Tensor:
        """What is in these slots, ``[n, width]``, float32, where the SAEs are trained."""
        values, serves = self.values, self.serves
        slots_N = _crossed(slots_N, values.device)
        if values.device == serves:
            return values.index_select(0, slots_N).float()
        block_NW = _block(len(slots_N), values.shape[1], values.dtype, serves)
        torch.index_select(values, 0, slots_N, out=block_NW)
        return block_NW.to(serves, non_blocking=True).float()

    def norms(self, columns: Sequence[slice]) -> Tensor:
        """Of every slot at each site, ``[size, sites]``, float32, on the buffer's device."""
        return norms(self.values, columns)

    def sample(self) -> Tensor:
        """Tokens to take statistics of, ``[n, width]``, float32, on the buffer's device: all of a
        float32 buffer (itself, not a copy), else at most 131,072 evenly spread over it."""
        if self.values.dtype == torch.float32:
            return self.values
        stride = -(-len(self.values) // _SAMPLE)
        return self.values[::stride].float()

    def saved(self) -> Tensor:
        """The values on the CPU, as bfloat16 where that holds them exactly."""
        return lossless(self.values.cpu())

    def restore(self, values: Tensor, dtype: torch.dtype) -> None:
        """Takes back what ``saved`` gave of a buffer of this dtype, which it is from then on."""
        self.values = values.to(self.values.device, dtype)


def norms(acts_NW: Tensor, columns: Sequence[slice]) -> Tensor:
    """Norms of each token at each site, ``[n, sites]``, summed and given in float32."""
    if acts_NW.device.type == "cpu":  # there operators that widen as they go are slow
        acts_NW = acts_NW.float()
    return torch.stack(
        [
            torch.linalg.vector_norm(acts_NW[:, part], dim=1, dtype=torch.float32)
            for part in columns
        ],
        dim=1,
    )


def lossless(tensor: Tensor) -> Tensor:
    """As bfloat16 if that holds every value, which it does for a bfloat16 host or cache."""
    half = tensor.bfloat16()
    return half if torch.equal(half.float(), tensor.float()) else tensor


def _crossed(tensor: Tensor, device: torch.device) -> Tensor:
    """On ``device``; to and from a GPU through pinned memory.

    Towards the GPU it does not wait: PyTorch keeps the pinned block until the copy is done.
    """
    if tensor.device == device:
        return tensor
    pinned = torch.cuda.is_available() and "cuda" in (tensor.device.type, device.type)
    if not pinned:
        return tensor.to(device, non_blocking=device.type != "cpu")
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    block = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    block.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return block


def _block(rows: int, width: int, dtype: torch.dtype, serves: torch.device) -> Tensor:
    pinned = serves.type == "cuda" and torch.cuda.is_available()
    return torch.empty(rows, width, dtype=dtype, pin_memory=pinned)
