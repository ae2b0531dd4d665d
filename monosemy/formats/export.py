"""Our own SAE folders in the layouts of other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monosemy.errors import DataError
from monosemy.formats.circuit_tracer import Places, save_clt, save_set
from monosemy.formats.saelens import load_sae, read_metadata, read_provenance
from monosemy.formats.sparsify import save_sparsify
from monosemy.saes.cross_layer import CrossLayer
from monosemy.specs.hooks import HOST, Hooks


def write_sparsify(folder: Path, destination: Path) -> None:
    """An SAE as sparsify reads it; ``DataError`` as ``save_sparsify`` has it."""
    save_sparsify(load_sae(folder), destination, read_metadata(folder))


def write_circuit_tracer(folders: Sequence[Path], destination: Path) -> None:
    """Transcoders of one host model by layer, or a cross-layer transcoder, as circuit-tracer reads
    them; ``DataError`` as ``save_set`` and ``save_clt`` have it."""
    saes = [load_sae(folder) for folder in folders]
    hooks = [_hooks(folder) for folder in folders]
    reads, writes = (
        [hook.site for each in hooks for hook in ends(each)]
        for ends in (lambda each: each.reads, lambda each: each.writes)
    )
    places = Places(reads, writes, str(read_metadata(folders[0]).get("model_name", "")))
    if len(saes) == 1 and isinstance(saes[0], CrossLayer):
        save_clt(saes[0], destination, places)
    elif any(len(each.places) > 2 for each in hooks):
        raise DataError("circuit-tracer wants transcoders of one place each, or one of all layers.")
    else:
        save_set(saes, destination, places)


def _hooks(folder: Path) -> Hooks:
    try:
        hooks = Hooks.from_dict(read_provenance(folder).get("hooks"))
    except ValueError as error:
        raise DataError(f"{folder} does not say where it is hooked: {error}.") from None
    if any(hook.host != HOST for hook in hooks.places):
        raise DataError("circuit-tracer knows one host model.")
    return hooks
