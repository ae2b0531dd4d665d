"""SAE folders on the Hugging Face hub: ``hub:owner/name[@revision][:folder]``.

Only JSON, YAML, safetensors and npz files are fetched, of that folder alone (and of its
``checkpoints``, where Llama Scope has its weights), at one commit, once their sizes
are known; they are then checked as uploads are.  Imports no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from monosemy.errors import DataError
from monosemy.formats.archive import WEIGHTS, Limits, check_file, check_name, check_names

PREFIX = "hub:"
_FETCHED = (".json", ".yaml", *WEIGHTS)
LLAMA_SCOPE_WEIGHTS = "checkpoints/final.safetensors"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_SOURCE = re.compile(
    rf"(?P<repository>{_PART}/{_PART})"
    r"(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]{0,99}))?"
    r"(?::(?P<folder>.+))?"
)


@dataclass(frozen=True)
class HubSource:
    """A folder of a repository; ``revision`` None is its main branch, ``folder`` "" its root."""

    repository: str
    revision: str | None
    folder: str


def parse_hub(source: str) -> HubSource | None:
    """What ``hub:...`` names; None for other sources, ``DataError`` for what begins so only."""
    if not source.startswith(PREFIX):
        return None
    match = _SOURCE.fullmatch(source.removeprefix(PREFIX))
    if match is None or ".." in match["repository"] or ".." in (match["revision"] or ""):
        raise DataError(
            f"'{source[:200]}' names nothing on the hub: write hub:owner/name, "
            "hub:owner/name@revision or hub:owner/name:folder."
        )
    folder = match["folder"] or ""
    if folder:
        check_name(f"{folder}/cfg.json")
    return HubSource(match["repository"], match["revision"], folder)


def fetch_hub(source: HubSource, limits: Limits | None = None) -> Path:
    """The folder's files in the hub's cache on this machine, checked.

    A sparsify run names its host model one folder up, so that folder's ``config.json`` comes along
    where there is one.  Raises ``DataError`` where the hub cannot be reached or knows no such
    folder, and for files that are too many, too large or malformed.
    """
    limits = limits or Limits()
    try:
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError:
        raise DataError(
            "The hub needs the package huggingface_hub.", "Run: pip install huggingface_hub"
        ) from None
    try:
        info = HfApi().model_info(
            source.repository, revision=source.revision, files_metadata=True, timeout=30
        )
    except Exception as error:  # away, unknown, private: each in a type of its own
        raise _fault(source, error) from None
    wanted = _wanted(source, info.siblings or [], limits)
    try:
        # One commit for all files, whatever is pushed meanwhile.
        paths = [hf_hub_download(source.repository, name, revision=info.sha) for name in wanted]
    except Exception as error:
        raise _fault(source, error) from None
    for path in map(Path, paths):
        check_file(path)
    return Path(next(p for p, name in zip(paths, wanted, strict=True) if _in(source, name))).parent


def _in(source: HubSource, name: str) -> bool:
    parent = str(PurePosixPath(name).parent)
    return ("" if parent == "." else parent) == source.folder


def _wanted(source: HubSource, siblings: list[Any], limits: Limits) -> list[str]:
    """Names of the files to fetch, those of the folder first."""
    above = str(PurePosixPath(source.folder).parent / "config.json") if source.folder else ""
    below = str(PurePosixPath(source.folder) / LLAMA_SCOPE_WEIGHTS)
    sizes = {
        each.rfilename: each.size
        for each in siblings
        if (_in(source, each.rfilename) and each.rfilename.endswith(_FETCHED))
        or each.rfilename in (above, below)
    }
    wanted = sorted(sizes, key=lambda name: (not _in(source, name), name))
    if not any(name.endswith(WEIGHTS) for name in wanted):
        folders = {
            str(PurePosixPath(each.rfilename).parent)
            for each in siblings
            if each.rfilename.endswith(WEIGHTS)
        }
        raise DataError(
            f"{source.repository} has no {' or '.join(WEIGHTS)} file in "
            f"{source.folder or 'its first folder'}.",
            f"Its folders with such files: {', '.join(sorted(folders)[:8])}." if folders else None,
        )
    check_names(wanted, limits)
    total = sum(size or 0 for size in sizes.values())
    if total > limits.total_bytes or any(size is None for size in sizes.values()):
        raise DataError(
            f"{source.repository} has {total} bytes there; at most {limits.total_bytes}."
        )
    return wanted


def _fault(source: HubSource, error: Exception) -> DataError:
    lines = str(error).strip().splitlines()
    return DataError(
        f"Cannot fetch {source.repository} from the hub: {type(error).__name__}: "
        f"{lines[0][:300] if lines else ''}",
        "Are name and revision right, and is the hub within reach?",
    )
