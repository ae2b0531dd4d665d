"""The readings of a run: one JSON object per line in ``metrics.jsonl``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Reading = dict[str, Any]

SHOWN = 200
"""Readings that a run's result carries; all of them are in the file."""


class History:
    """Appends readings to a file; after a resume those past the checkpoint are dropped."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.readings: list[Reading] = []

    def start(self, step: int) -> None:
        """Keeps what was read up to ``step`` (0 for a new run); a half-written line goes."""
        self.readings = [reading for reading in self._stored() if reading["step"] <= step]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(_line(reading) for reading in self.readings)
        partial = self.file.with_name(f".{self.file.name}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(self.file)

    def add(self, reading: Reading) -> None:
        self.readings.append(reading)
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(_line(reading))

    def downsampled(self) -> list[Reading]:
        """At most ``SHOWN`` readings, evenly spread, the last one among them."""
        count = len(self.readings)
        if count <= SHOWN:
            return list(self.readings)
        return [self.readings[(i + 1) * count // SHOWN - 1] for i in range(SHOWN)]

    def _stored(self) -> list[Reading]:
        found: list[Reading] = []
        if not self.file.is_file():
            return found
        for line in self.file.read_text(encoding="utf-8").splitlines():
            try:
                reading = json.loads(line)
            except ValueError:
                break
            if not isinstance(reading, dict) or not isinstance(reading.get("step"), int):
                break
            found.append(reading)
        return found


def _line(reading: Reading) -> str:
    return json.dumps(reading) + "\n"
