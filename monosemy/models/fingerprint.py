"""A short name for exactly these weights and this tokenizer."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor

_SAMPLES = 64


def model_fingerprint(model: Any, tokenizer: Any) -> str:
    """16 hex digits over architecture, a sample of every parameter, and the vocabulary.

    Values are rounded to bfloat16 first, so that a model has one fingerprint in every dtype in
    which it can be loaded.
    """
    digest = hashlib.blake2b(digest_size=8)
    digest.update(type(model).__name__.encode())
    for name, value in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(_sample(value))
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    digest.update(json.dumps(vocabulary, ensure_ascii=True).encode())
    return digest.hexdigest()


def _sample(value: Tensor) -> bytes:
    flat = value.detach().reshape(-1)
    step = max(flat.numel() // _SAMPLES, 1)
    rounded = flat[::step].to(torch.bfloat16).cpu().contiguous()
    return rounded.view(torch.int16).numpy().tobytes()
