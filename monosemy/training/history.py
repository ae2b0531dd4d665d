"""The readings of a training: one JSON object (``TrainingReading``) per line of a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from monosemy.progress import SILENT, Reporter
from monosemy.specs.readings import TrainingReading, stored_reading

READ_EVERY = 10
"""Steps between readings: a reading waits for the device."""
RESULT_READINGS = 200
"""Readings that a run's result carries."""
MOST_READINGS = 4000
"""Readings of one SAE, at most, that are reported and that stay beside it when its training has
ended; all of them are in the run's folder."""

T = TypeVar("T")


def history_file(folder: Path, place: int, count: int) -> Path:
    """Where a run's ``folder`` has the readings of one of its ``count`` SAEs."""
    return folder / ("metrics.jsonl" if count == 1 else f"metrics-{place:03d}.jsonl")


def read_history(file: Path) -> list[TrainingReading]:
    """The readings in ``file``, also while somebody writes it; none where there is no file."""
    readings: list[TrainingReading] = []
    if not file.is_file():
        return readings
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            reading = stored_reading(json.loads(line))
        except (ValueError, TypeError, AttributeError):
            break
        if reading.step is None:
            break
        readings.append(reading)
    return readings


def write_history(file: Path, readings: Iterable[TrainingReading]) -> None:
    """The file appears whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text("".join(map(_line, readings)), encoding="utf-8")
    partial.replace(file)


def thinned(readings: Sequence[T], most: int) -> list[T]:
    """At most ``most`` of them, evenly spread, the last one among them."""
    count = len(readings)
    if count <= most:
        return list(readings)
    return [readings[(i + 1) * count // most - 1] for i in range(most)]


class History:
    """Appends readings to a file and reports them; after a resume those past the checkpoint are
    dropped.

    ``place`` is that of the SAE among those trained together.  Of a run of more than
    ``MOST_READINGS`` readings every second, third, ... is reported.
    """

    def __init__(self, file: Path, place: int = 0, total_steps: int = 1) -> None:
        self.file, self.place, self.total_steps = file, place, total_steps
        self.every = READ_EVERY * -(-total_steps // (READ_EVERY * MOST_READINGS))
        self.readings: list[TrainingReading] = []
        self.reporter = SILENT

    def start(self, step: int, reporter: Reporter = SILENT) -> None:
        """Keeps what was read up to ``step`` (0 for a new run); a half-written line goes."""
        self.reporter = reporter
        self.readings = [each for each in read_history(self.file) if (each.step or 0) <= step]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_history(self.file, self.readings)
        reported = [each for each in self.readings if self._is_reported(each)]
        reporter.begin_readings(self.place, step, reported)

    def add(self, reading: TrainingReading) -> None:
        self.readings.append(reading)
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(_line(reading))
        if self._is_reported(reading):
            self.reporter.reading(self.place, reading)

    def downsampled(self) -> list[TrainingReading]:
        """At most ``RESULT_READINGS`` readings, evenly spread, the last one among them."""
        return thinned(self.readings, RESULT_READINGS)

    def _is_reported(self, reading: TrainingReading) -> bool:
        step = reading.step or 0
        return step % self.every == 0 or step in (1, self.total_steps)


def _line(reading: TrainingReading) -> str:
    return reading.model_dump_json() + "\n"
