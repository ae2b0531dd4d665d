"""Where artifacts live: one root folder, one sub-folder per kind, no path leaves the root."""

from __future__ import annotations

import hashlib
import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Any

from monosemy.errors import DataError

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def fingerprint(value: Any) -> str:
    """A short stable hash (16 hex digits) of any JSON-able value; keys are sorted."""
    data = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(data.encode(), digest_size=8).hexdigest()


class Kind(StrEnum):
    """Kinds of artifacts; each has a folder of this name in the root."""

    MODELS = "models"
    """Exported host models."""
    TEXT = "text"
    """Token stores."""
    ACTIVATIONS = "activations"
    """Activation caches."""
    SAES = "saes"
    """SAE folders."""
    INDEXES = "indexes"
    """Feature indexes."""
    LABELS = "labels"
    """Explanations and scores, where no service keeps them."""
    GRAPHS = "graphs"
    """Attribution graphs, where no service keeps them."""
    BENCHMARKS = "benchmarks"
    """Results of benchmarks, where no service keeps them."""
    RUNS = "runs"
    """Checkpoints."""
    UPLOADS = "uploads"
    """SAE folders that wait for an import."""
    TRASH = ".trash"
    """What garbage collection has set aside to remove."""


PRIVATE = (Kind.UPLOADS, Kind.RUNS, Kind.TRASH)
"""Kinds that no run may name as a source."""


class Workspace:
    """The artifact root.  Every path of an artifact is made here."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().resolve()

    def root_of(self, kind: Kind) -> Path:
        """``root/kind``, whether it is there or not."""
        return self.root / kind

    def find(self, kind: Kind, name: str) -> Path:
        """``root/kind/name``, whether it is there or not; ``DataError`` for a name that could leave
        the root."""
        if not _SAFE_NAME.fullmatch(name):
            raise DataError(f"'{name}' cannot name an artifact.", "Use letters, digits, . _ and -.")
        return self.root_of(kind) / name

    def folder(self, kind: Kind, name: str) -> Path:
        """``find``, and created."""
        path = self.find(kind, name)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def relative(self, path: str | Path) -> str:
        """``path`` relative to the root, as it is stored in the database."""
        return str(Path(path).resolve().relative_to(self.root))

    def locate(self, relative: str) -> Path:
        """The absolute path of a stored one; ``DataError`` if it leaves the root."""
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root):
            raise DataError(f"'{relative}' lies outside the artifact root.")
        return path
