"""Files that are gone are told of by the name of their SAE, not by a path alone."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from monosemy.errors import DataError
from monosemy.workspace import Workspace
from service.database.tables import Sae
from workers.folders import folder_of
from workers.saes import checked_index


def test_a_folder_or_an_index_that_is_gone_is_named(tmp_path: Path) -> None:
    identity = uuid.uuid4()
    sae = Sae(
        id=identity,
        name="small",
        path=f"saes/{identity}",
        provenance={},
        index={"path": f"indexes/{identity}", "text_id": "x"},
    )
    workspace = Workspace(tmp_path)
    for missing in (folder_of, checked_index):
        with pytest.raises(DataError, match=f"'small' are gone: .*{identity}"):
            missing(workspace, sae)
    workspace.locate(sae.path).mkdir(parents=True)
    (workspace.locate(sae.path) / "cfg.json").write_text("{}")
    assert folder_of(workspace, sae).path == workspace.locate(sae.path)
