"""What a reader of a file format is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from monosemy.saes.base import SAE
from monosemy.specs.hooks import Hooks


class OpenedSAE(NamedTuple):
    """An SAE out of files."""

    sae: SAE
    """In float32 on the CPU, without gradients."""
    metadata: dict[str, Any]
    """What is known of where it came from: model_name, hook_name, hooks, context_size and the
    like."""
    format: str
    """The reader's name: ``saelens``, ``sparsify``, ``circuit_tracer`` and so on."""
    density: Tensor | None = None
    """Share of tokens on which each latent fires, ``[d_sae]``, where somebody wrote it down."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of files that leave it open."""

    layer: int | None = None
    """Which SAE of a folder that holds one for each layer."""
    transcodes: bool | None = None
    """Whether it writes another place than it reads, where the files do not say; None goes by the
    names of the folders."""


ANY = Wanted()


def hooked(
    reads: str | Iterable[str],
    writes: str | Iterable[str] | None = None,
    model: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Metadata of an SAE of these places, in the names used here."""
    named = {} if model is None else {"model_name": model}
    return {"hooks": Hooks.at(reads, writes).as_dict(), **named, **more}
