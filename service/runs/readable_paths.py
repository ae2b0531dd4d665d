"""Paths that runs may read on this machine: in folders that the operator names, never the server's.

What people upload, logs, databases and what other runs left behind lie in the home.  They are no
models and no texts, whatever path leads there; only ``models``, ``texts`` and ``saes`` in the home
are meant to be read, and what this server exported there itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from monosemy.specs import ModelSpec, TextSpec
from monosemy.specs.benchmarks import PUBLISHED_TASKS
from monosemy.workspace import PRIVATE, Kind
from service.settings import READABLE, Settings

PACKAGED = (ModelSpec().name, TextSpec().source, PUBLISHED_TASKS)
"""Names of what comes in a package."""
_PATHS = ("/", "./", "../", "~")
FILES = (".gguf", ".txt", ".jsonl", ".jsonl.gz", ".parquet")
"""Endings by which a name is a file."""
EXPORTED = Kind.MODELS
"""Kind of artifact that is a model: GGUF files, exported once."""
_MOST_ENTRIES = 10_000


def begins_as_path(name: str) -> bool:
    return name.startswith(_PATHS)


def path_refused(
    settings: Settings, name: str, really: bool = False, sae: bool = False
) -> str | None:
    """Why nothing may be read at the path ``name``; None where it may, or for what is no path.

    ``really``: on this machine, links followed, also those within a folder; else by the words of
    the path alone.  ``sae``: it is to be imported as an SAE, which the server's own SAEs are too.
    """
    if not _is_path(name, really):
        return None
    try:
        path = Path(name).expanduser()
    except RuntimeError:
        return "there is no such user"
    if not really:
        return _refused(settings, Path(os.path.normpath(path)), sae)
    try:
        return next(
            filter(None, (_refused_really(settings, each, sae) for each in _with_links(path))), None
        )
    except (OSError, RuntimeError):  # links in a circle, among others
        return "this path cannot be followed"


def artifact_refused(settings: Settings, folder: str) -> str | None:
    """Why no run may name the artifact ``folder``, relative to the artifact root."""
    root = settings.artifacts.expanduser()
    try:
        path = (root / folder).resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle, a NUL
        return "this path cannot be followed"
    if not path.is_relative_to(root.resolve()):
        return "it lies outside the artifact root"
    if any(path.is_relative_to((root / name).resolve()) for name in PRIVATE):
        return "what was uploaded, or is a run's own, is never read as anything else"
    return None


def _refused(settings: Settings, path: Path, sae: bool) -> str | None:
    """By words, letters' case aside: file systems exist that do not tell them apart."""
    folded = Path(str(path).casefold())
    own = [Path(str(root).casefold()) for root in _own(settings, sae)]
    if _within(folded, own) and not _within(path, _within_home(settings)):
        return _OWN
    allowed = settings.readable_folders
    if allowed is None or _within(path, [Path(os.path.normpath(each)) for each in allowed]):
        return None
    return _ELSEWHERE


def _refused_really(settings: Settings, path: Path, sae: bool) -> str | None:
    """By what is there: the same folder under another name is the same folder."""
    path = path.resolve()
    if _is_in(path, _own(settings, sae)) and not _is_in(path, _within_home(settings)):
        return _OWN
    allowed = settings.readable_folders
    if allowed is None or _within(path, [folder.resolve() for folder in allowed]):
        return None
    return _ELSEWHERE


_OWN = (
    "this is the server's own folder, which holds no models and texts: name what was uploaded as "
    "upload:ID in an import, and put models and texts into the folders models and texts of the home"
)
_ELSEWHERE = "this server does not let runs read there: its operator can, with MONOSEMY_FOLDERS"


def _own(settings: Settings, sae: bool) -> list[Path]:
    """The home, and the artifacts, of which SAEs may be imported."""
    home, artifacts = settings.home.expanduser(), settings.artifacts.expanduser()
    own = [artifacts] if not sae else [artifacts / name for name in PRIVATE]
    return [*own, *(home / name for name in ("logs", "postgres", "valkey", "stack.json"))]


def _within_home(settings: Settings) -> list[Path]:
    """What may be read of the server's own."""
    home, artifacts = settings.home.expanduser(), settings.artifacts.expanduser()
    return [*(home / name for name in READABLE), artifacts / EXPORTED]


def _within(path: Path, roots: Sequence[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def _is_in(path: Path, roots: Sequence[Path]) -> bool:
    if _within(path, [root.resolve() for root in roots]):
        return True
    identities = set(filter(None, map(_identity, roots)))
    return any(_identity(each) in identities for each in (path, *path.parents))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _with_links(path: Path) -> Iterator[Path]:
    """The path, and the links within it."""
    yield path
    if path.is_dir():
        inside = (each for depth in ("*", "*/*") for each in path.glob(depth))
        yield from (each for each in islice(inside, _MOST_ENTRIES) if each.is_symlink())


def _is_path(name: str, really: bool) -> bool:
    if "\x00" in name or name in PACKAGED:
        return False
    if name.startswith(_PATHS) or name.endswith(FILES):
        return True
    try:
        return really and Path(name).exists()
    except OSError:
        return False
