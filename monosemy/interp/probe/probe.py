"""A trained probe, and its folder: safetensors and JSON.  Needs safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from monosemy.errors import DataError
from monosemy.interp.probe.escalation import Band, Platt
from monosemy.interp.probe.linear import Floats, Linear
from monosemy.interp.probe.relation import RELATION, Relation
from monosemy.interp.probe.report import ProbeReport
from monosemy.workspace import fingerprint

WEIGHTS, DESCRIPTION = "probe.safetensors", "probe.json"
FORMAT = 1


@dataclass(frozen=True)
class Probe:
    """Says how likely the expensive judge's yes is, from one view of a host model's states."""

    view: str
    """``<site>:<pooling>``, or ``relation``."""
    model: Linear
    platt: Platt
    band: Band
    report: ProbeReport
    source: Mapping[str, Any]
    """What the states came from (host, dtype, prompt) and the judge: another would not fit."""
    relation: Relation | None = None
    """For the view of that name: what its columns are made with."""

    def probabilities(self, states_ND: Floats) -> Floats:
        """P(the judge says yes), calibrated, of each row of the view's states."""
        if self.relation is not None:
            states_ND = self.relation(states_ND)
        return self.platt.probabilities(self.model.logits(states_ND))

    def check_serves(self) -> None:
        """Raises ``DataError`` for a probe that does not beat TF-IDF on held-out features."""
        if not self.report.serves:
            raise DataError(self.report.verdict, "Train on more judgements, or score by detection.")

    @property
    def identity(self) -> str:
        """16 hex digits that change with weights, calibration, band and source."""
        more = [value.tolist() for value in self._tensors().values()]
        return fingerprint([self._description(), *more])

    def _tensors(self) -> dict[str, Floats]:
        relation = self.relation.tensors() if self.relation is not None else {}
        return {"weight": self.model.weight_D, **relation}

    def save(self, folder: str | Path) -> None:
        """Writes both files, the description last."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self._tensors(), folder / WEIGHTS)
        (folder / DESCRIPTION).write_text(json.dumps(self._description(), indent=1))

    @classmethod
    def load(cls, folder: str | Path) -> Probe:
        """What ``save`` wrote, bit by bit; ``DataError`` where there is none or it is damaged."""
        folder = Path(folder)
        try:
            found = json.loads((folder / DESCRIPTION).read_text())
            tensors = load_file(folder / WEIGHTS)
            weight_D = tensors["weight"]
            if found["format"] != FORMAT or weight_D.dtype != np.float64 or weight_D.ndim != 1:
                raise ValueError("of another format")
            return cls(
                view=found["view"],
                model=Linear(weight_D, float(found["bias"])),
                platt=Platt(**found["platt"]),
                band=Band(**found["band"]),
                report=ProbeReport.from_dict(found["report"]),
                source=found["source"],
                relation=Relation.of(tensors) if found["view"] == RELATION else None,
            )
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise DataError(f"There is no probe to read in {folder.name}: {error}") from None

    def _description(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "view": self.view,
            "bias": self.model.bias,
            "platt": asdict(self.platt),
            "band": self.band.as_dict(),
            "source": dict(self.source),
            "report": self.report.as_dict(),
        }
