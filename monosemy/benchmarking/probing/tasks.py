"""Labelled texts, two classes to a task: those that the package ``sae-probes`` carries, which is
read and never imported (Kantamneni et al., arXiv 2502.16681), or a file of one's own.  No torch.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from monosemy.data.tasks.json_lines import lines_of, prompts_in
from monosemy.errors import DataError
from monosemy.file_digest import digest_of_file
from monosemy.specs.benchmarks import PUBLISHED_TASKS

_INSTALL = "Install it without what it depends on: pip install --no-deps sae-probes==0.4.2"
_DATA = "sae_probes/data/"
_BINARY = "Binary Classification"
NOT_WHAT_THEY_SAY = dict.fromkeys(
    ("161_agnews_0", "162_agnews_1", "163_agnews_2"),
    "its negatives are source code, not other news: length alone tells them",
)
"""Published tasks that ``clean`` leaves out, and why."""
_FAMILIES = (
    (7, "historical figures"),
    (26, "headlines"),
    (54, "questions and ethics"),
    (64, "wikidata people"),
    (85, "bigrams"),
    (92, "GLUE"),
    (113, "web text"),
    (125, "places"),
    (128, "art"),
)
"""Last number of each group of published tasks; beyond, tasks of one source share a family."""

Labels = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ProbingTask:
    """Texts of two classes."""

    name: str
    family: str
    texts: Sequence[str]
    labels: Labels
    """``[texts]``: which have what the task asks for."""


class _Line(BaseModel):
    """A line of a file of tasks."""

    task: str = Field(min_length=1, max_length=200)
    text: str = Field(min_length=1)
    label: bool
    family: str | None = Field(None, max_length=200)


def digest_of_tasks(source: str) -> str:
    """Of all that ``read_tasks`` reads; ``DataError`` as there."""
    if source == PUBLISHED_TASKS:
        return f"{PUBLISHED_TASKS} {_package().version}"
    return digest_of_file(Path(source).expanduser()).digest


def read_tasks(source: str, names: Sequence[str] | None) -> list[ProbingTask]:
    """The tasks of a source in its order, ``names`` of them alone.

    ``DataError`` where the package is not installed, for a file that cannot be read, a task that is
    not there, and one of a single class.
    """
    known = _published() if source == PUBLISHED_TASKS else _own(Path(source).expanduser())
    wanted = list(known) if names is None else list(names)
    missing = [name for name in wanted if name not in known]
    if missing:
        some = ", ".join(list(known)[:8])
        raise DataError(
            f"'{source}' has no task '{missing[0]}'.", f"It has {len(known)}, such as {some}."
        )
    return [known[name]() for name in wanted]


def family_of(name: str) -> str:
    """Of a published task: tasks of one family share texts, or how they came about."""
    number = int(name.partition("_")[0])
    for last, family in _FAMILIES:
        if number <= last:
            return family
    return re.sub(r"^\d+_", "", name).partition("_")[0]


def _package() -> Distribution:
    try:
        return distribution(PUBLISHED_TASKS)
    except PackageNotFoundError:
        raise DataError(f"The package {PUBLISHED_TASKS} is not installed.", _INSTALL) from None


def _published() -> dict[str, Callable[[], ProbingTask]]:
    """By name, what reads it."""
    package = _package()
    files = {str(file): Path(str(file.locate())) for file in package.files or ()}
    found = {}
    for row in _rows(files, "probing_datasets_MASTER.csv", ("Dataset save name", "Data type")):
        if row["Data type"] == _BINARY:
            saved = row["Dataset save name"]
            name = saved.removeprefix("cleaned_data/").removesuffix(".csv")
            found[name] = _reader(files, name, saved)
    return found


def _reader(files: dict[str, Path], name: str, saved: str) -> Callable[[], ProbingTask]:
    def read() -> ProbingTask:
        rows = list(_rows(files, saved, ("prompt", "target")))
        # Label 1 is the second of the sorted values, as the package has it.
        values = sorted({row["target"] for row in rows})
        return _task(
            name, family_of(name), [row["prompt"] for row in rows], rows, values, PUBLISHED_TASKS
        )

    return read


def _task(
    name: str,
    family: str,
    texts: Sequence[str],
    rows: Sequence[dict[str, str]],
    values: Sequence[str],
    source: str,
) -> ProbingTask:
    if len(values) != 2:
        raise DataError(f"The task '{name}' of {source} has {len(values)} classes, not two.")
    labels = np.array([row["target"] == values[1] for row in rows])
    return ProbingTask(name, family, texts, labels)


def _rows(files: dict[str, Path], name: str, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Of a zstd-packed CSV of the package; ``DataError`` where it is not what it should be."""
    import zstandard  # not before it is needed: few runs read the package

    path = files.get(f"{_DATA}{name}.zst")
    try:
        if path is None:
            raise DataError(f"{PUBLISHED_TASKS} has no {name}.", _INSTALL)
        with path.open("rb") as packed:
            text = zstandard.ZstdDecompressor().stream_reader(packed).read().decode("utf-8")
    except (OSError, UnicodeDecodeError, zstandard.ZstdError) as error:
        raise DataError(f"Cannot read {name} of {PUBLISHED_TASKS}: {error}.", _INSTALL) from None
    csv.field_size_limit(sys.maxsize)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if not {*columns} <= {*(reader.fieldnames or ())}:
        raise DataError(f"{name} of {PUBLISHED_TASKS} has not the columns {', '.join(columns)}.")
    for row in reader:
        yield {column: row[column] or "" for column in columns}


def _own(file: Path) -> dict[str, Callable[[], ProbingTask]]:
    lines = prompts_in(lines_of(file), file.name, _Line)
    tasks: dict[str, list[_Line]] = {}
    for line in lines:
        tasks.setdefault(line.task, []).append(line)
    return {name: _own_reader(name, own, file.name) for name, own in tasks.items()}


def _own_reader(name: str, lines: Sequence[_Line], file: str) -> Callable[[], ProbingTask]:
    def read() -> ProbingTask:
        rows = [{"target": str(int(line.label))} for line in lines]
        values = sorted({row["target"] for row in rows})
        texts = [line.text for line in lines]
        return _task(name, lines[0].family or name, texts, rows, values, file)

    return read
