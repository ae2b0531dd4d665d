"""Where artifacts live: one root folder, one sub-folder per kind, no path leaves the root."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from monosemy.errors import DataError

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def fingerprint(value: Any) -> str:
    """A short stable hash (16 hex digits) of any JSON-able value; keys are sorted."""
    data = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(data.encode(), digest_size=8).hexdigest()


class Workspace:
    """The artifact root.

    ``models/`` exported host models, ``text/`` token stores, ``activations/`` caches, ``saes/`` SAE
    folders, ``indexes/`` feature indexes, ``runs/`` checkpoints.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().resolve()

    def folder(self, kind: str, name: str) -> Path:
        """``root/kind/name``, created; ``DataError`` for a name that could leave the root."""
        if not _SAFE_NAME.fullmatch(name):
            raise DataError(f"'{name}' cannot name an artifact.", "Use letters, digits, . _ and -.")
        path = self.root / kind / name
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
