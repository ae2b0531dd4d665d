"""The SAE that a run's spec names, and its index."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from monosemy.data.store import TokenStore
from monosemy.errors import DataError, MonosemyError
from monosemy.index.reader import IndexReader
from monosemy.sae_stamp import check_index
from monosemy.workspace import Kind, Workspace
from service.database.session import transaction
from service.database.tables import Sae
from service.saes.repository import find_sae


def named_sae(engine: Engine, reference: str) -> Sae:
    """By id or unique name; ``NotFound`` if it is not there (any more)."""
    with transaction(engine) as session:
        return find_sae(session, reference)[0]


def opened_index(workspace: Workspace, sae: Sae) -> tuple[IndexReader, TokenStore]:
    """Its index with the text; ``MonosemyError`` where it has none, and as ``checked_index``."""
    if sae.index is None:
        raise MonosemyError(f"The SAE '{sae.name}' has no index yet.", "Submit an index run.")
    reader = IndexReader(checked_index(workspace, sae))
    return reader, TokenStore.open(workspace.find(Kind.TEXT, str(sae.index["text_id"])))


def checked_index(workspace: Workspace, sae: Sae) -> Path:
    """The folder of its index, which it must have; ``DataError``, which names the SAE, where that
    is gone or was made of other weights."""
    index = workspace.locate((sae.index or {})["path"])
    if not (index / "meta.json").is_file():
        raise DataError(
            f"The files of the index of the SAE '{sae.name}' are gone: {index} holds no index.",
            "Index it again, or restore a backup.",
        )
    check_index(workspace.locate(sae.path), index, sae.provenance.get("weights"), sae.name)
    return index
