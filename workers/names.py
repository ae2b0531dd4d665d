"""What SAEs and sets are called that nobody named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monosemy.specs import SweepRun, TrainRun

_LONGEST_NAME = 100
"""Characters of a name that nobody gave."""


def default_name(spec: TrainRun, basis: Mapping[str, Any] | None = None) -> str:
    """Model, site and size, in letters that need no quoting anywhere; of a basis its kind too."""
    parts = f"{Path(spec.model.name).name} {spec.site} {spec.sae.d_sae}"
    return as_name(f"{parts} {basis['basis']}" if basis else parts)


def default_set_name(spec: SweepRun) -> str:
    """Model and site of a set that nobody named."""
    return as_name(f"{Path(spec.model.name).name} {spec.sites[0]}")


def as_name(words: str) -> str:
    """Words in letters that need no quoting anywhere."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-").lower()
    return name[-_LONGEST_NAME:].strip("-")  # a long model's name loses its beginning
