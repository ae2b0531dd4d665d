"""An SAE folder of the workspace, and everything its provenance says about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from monosemy.errors import DataError
from monosemy.formats.saelens import load_sae, read_provenance
from monosemy.saes.base import SAE
from monosemy.specs import ImportRun, TrainRun, TranscoderSpec, parse_stored_spec
from monosemy.workspace import Workspace

BASELINE = "baseline"
"""Sub-folder of an SAE folder that holds its frozen-random-decoder twin."""


@dataclass(frozen=True)
class SaeFolder:
    """An SAE folder with everything its provenance says about where it came from."""

    path: Path
    workspace: Workspace

    @cached_property
    def provenance(self) -> dict[str, Any]:
        return read_provenance(self.path)

    @cached_property
    def spec(self) -> TrainRun:
        """The run that trained it, or would have; ``DataError`` for a folder that monosemy did not
        write."""
        try:
            spec = parse_stored_spec(self.provenance["spec"])
        except KeyError:
            raise DataError(f"{self.path} does not say which run trained it.") from None
        if isinstance(spec, ImportRun):
            return as_trained(spec, self.provenance["sae"])
        assert isinstance(spec, TrainRun)
        return spec

    @cached_property
    def sae(self) -> SAE:
        return load_sae(self.path)

    @property
    def max_norm(self) -> float | None:
        """Norm above which training left tokens out; evaluation and index do the same."""
        limit: float | None = self.provenance["metrics"].get("max_norm")
        return limit

    @property
    def target_site(self) -> str | None:
        """Where a transcoder writes; None for an SAE, which reconstructs what it reads."""
        sae = self.spec.sae
        return sae.target_site if isinstance(sae, TranscoderSpec) else None

    @cached_property
    def baseline(self) -> SAE | None:
        folder = self.path / BASELINE
        return load_sae(folder) if folder.is_dir() else None


def as_trained(spec: ImportRun, sae: dict[str, Any]) -> TrainRun:
    """The spec of a training whose result this could be; ``sae`` holds the architecture's options.

    Raises ``SpecError`` where the SAE has no site.
    """
    shared = spec.model_dump(mode="json", include={"name", "model", "text", "site"})
    trained = parse_stored_spec({"kind": "train", **shared, "sae": sae})
    assert isinstance(trained, TrainRun)
    return trained
