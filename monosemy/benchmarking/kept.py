"""Results of benchmarks in a folder, where no service keeps them."""

from __future__ import annotations

import uuid

from monosemy.sae_folder import NamedFolder
from monosemy.specs.rest.benchmarks import BenchmarkResult
from monosemy.workspace import Kind, Workspace


class FolderResults:
    """One file for each protocol and SAE, by the digest of its weights."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def find(self, protocol: str, sae: NamedFolder) -> BenchmarkResult | None:
        """None, too, for a file that holds no result: it is measured again."""
        file = self.workspace.find(Kind.BENCHMARKS, protocol) / f"{sae.folder.digest}.json"
        try:
            result = BenchmarkResult.model_validate_json(file.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        about = result.about
        same = (about.protocol, about.sae_digest) == (protocol, sae.folder.digest)
        return result if same else None

    def keep(self, sae: NamedFolder, result: BenchmarkResult) -> None:
        folder = self.workspace.folder(Kind.BENCHMARKS, result.about.protocol)
        half = folder / f".{uuid.uuid4().hex}"
        half.write_text(result.model_dump_json(), encoding="utf-8")
        half.replace(folder / f"{sae.folder.digest}.json")
