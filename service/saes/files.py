"""Whether the files of an SAE lie where they were put: a look at names, nothing is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monosemy.specs.rest.saes import SaeFiles


def folder_of(artifacts: Path, path: str) -> Path:
    """``path`` is that of a row, relative to the artifact root."""
    return artifacts / path.lstrip("/")


def missing_files(artifacts: Path, path: str, index: Mapping[str, Any] | None) -> list[SaeFiles]:
    """What of an SAE is known to be missing.

    The server need not share the disk of the workers: a folder counts as missing only where others
    of its kind lie beside the place where it should be.
    """
    where: dict[SaeFiles, Any] = {"weights": path, "index": (index or {}).get("path")}
    return [
        name
        for name, each in where.items()
        if isinstance(each, str) and each and _is_gone(folder_of(artifacts, each))
    ]


def missing_words(name: str, missing: Sequence[SaeFiles]) -> str:
    """One sentence, "" where nothing is missing."""
    if not missing:
        return ""
    verb = "is" if list(missing) == ["index"] else "are"
    what = " and ".join(missing)
    return f"The files of {name} are missing: its {what} {verb} not where the server put them."


def _is_gone(folder: Path) -> bool:
    try:
        return not folder.is_dir() and any(folder.parent.iterdir())
    except (OSError, ValueError):
        return False
