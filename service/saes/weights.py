"""Whether an SAE still has the weights that something was made of."""

from __future__ import annotations

from monosemy.sae_stamp import is_still
from monosemy.workspace import Workspace
from service.database.tables import Sae


def has_other_weights(workspace: Workspace, sae: Sae, digest: str, files: str) -> bool:
    """``digest`` is that of the weights then, ``files`` the ``file_marks`` of their folder."""
    recorded = (sae.provenance.get("weights") or {}).get("digest", digest)
    return recorded != digest or not is_still(workspace.locate(sae.path), digest, files)
