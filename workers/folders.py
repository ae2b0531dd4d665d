"""The files of an SAE that a run needs."""

from __future__ import annotations

from monosemy.errors import DataError
from monosemy.sae_folder import SaeFolder
from monosemy.workspace import Workspace
from service.database.tables import Sae


def folder_of(workspace: Workspace, sae: Sae) -> SaeFolder:
    """Its files; ``DataError``, which names it, where they are gone."""
    path = workspace.locate(sae.path)
    if not (path / "cfg.json").is_file():
        raise DataError(
            f"The files of the SAE '{sae.name}' are gone: {path} is no SAE folder.",
            "Were they moved or deleted? 'monosemy doctor' lists all such SAEs.",
        )
    return SaeFolder(path, workspace, sae.provenance)
