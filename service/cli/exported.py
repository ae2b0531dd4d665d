"""SAEs copied out of the artifacts of this machine, in the layouts of other libraries."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from monosemy.half_written import faults_naming
from monosemy.workspace import Workspace
from service.cli.output import fail
from service.settings import Settings


class Form(StrEnum):
    """Formats of exported SAEs."""

    saelens = "saelens"
    sparsify = "sparsify"
    circuit_tracer = "circuit-tracer"


READ_BY = {
    Form.saelens: "sae_lens.SAE.load_from_disk('{}') reads it.",
    Form.sparsify: "SparseCoder.load_from_disk('{}') reads it.",
    Form.circuit_tracer: "circuit-tracer reads the folder {}.",
}
"""Said of the folder once it is there."""
NO_TOPK = (
    "{} is laid out for circuit-tracer, but holds TopK: the loader of circuit-tracer 0.5.0 knows"
    " none, and takes the weights for ReLU, with more features active. monosemy reads it as it is."
)
"""Said in its place of a set with an SAE that is TopK."""


def export_saes(paths: Sequence[str], destination: Path, form: Form) -> None:
    """Writes the SAEs at these places among the artifacts, by layer; ends the command where they
    are not on this machine, or ``destination`` is there already.  Raises ``DataError`` for what
    the layout cannot express."""
    workspace = Workspace(Settings().artifacts)
    folders = [workspace.locate(path) for path in paths]
    for folder in folders:
        if not folder.is_dir():
            fail(
                f"{folder} is not on this machine: run this where the workers keep their artifacts,"
                " or set MONOSEMY_HOME."
            )
    if destination.exists():
        fail(f"{destination} is there already.")
    if form is Form.saelens:
        _copy(folders[0], destination)
        return
    try:
        from monosemy.formats.export import write_circuit_tracer, write_sparsify
    except ImportError as error:
        fail(f"This needs torch, which is not installed here ({error}).")
    if form is Form.sparsify:
        write_sparsify(folders[0], destination)
    else:
        write_circuit_tracer(folders, destination)


def _copy(folder: Path, destination: Path) -> None:
    """A whole copy or none: it takes its name when it is complete."""
    half = destination.with_name(f"{destination.name}.part")
    try:
        with faults_naming(destination, half):
            shutil.copytree(folder, half)
            half.rename(destination)
    except OSError:
        shutil.rmtree(half, ignore_errors=True)
        raise
