"""Which SAE an index was made of, as indexes said before SAE folders had stamps."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from monosemy.errors import DataError
from monosemy.saes.base import SAE


def sae_fingerprint(sae: SAE) -> str:
    """Hash (16 hex digits) of the SAE's parameters: the same weights, the same fingerprint."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(sae.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_first_index(sae: SAE, index: Path, name: str) -> None:
    """Raises ``DataError`` where the index says that it was made of other weights; one that is gone
    or says nothing says nothing against them."""
    try:
        made_of = json.loads((index / "meta.json").read_text(encoding="utf-8"))["sae_fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if made_of != sae_fingerprint(sae):
        raise DataError(
            f"The weights of the SAE '{name}' are not those that it was indexed with.",
            "Put them back, or import the folder as an SAE of its own.",
        )
