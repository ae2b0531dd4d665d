"""Which work has threads of its own, so that no kind of call takes those of another."""

from __future__ import annotations

from service.concurrency.places import Lane, Places
from service.settings import Settings

STREAMS = 256
"""Event streams open at a time."""
GRAPHS = 2
"""Graphs that are received and read at a time."""


class Lanes:
    """Those of one process.  Whatever is not named here is short and shares the common threads."""

    def __init__(self, settings: Settings) -> None:
        places, queue = settings.inference_places, settings.inference_queue
        self.inference = Places("The inference server", places, queue)
        self.embedding = Places("The embedder", places, queue)
        """Apart from inference: a search does not wait for texts that are being read."""
        self.graphs = Places("The reading of graphs", GRAPHS, 4 * GRAPHS)
        """Uploaded ones, which take many times their bytes while they are read."""
        self.streams = Places("The event stream", STREAMS, 0)
        self.auth = Lane(8)
        self.events = Lane(4)
        """Looks into the database for those who follow runs."""
        self.reports = Lane(2)
        """Reports and metrics: computed, not merely read."""
        self.exports = Lane(4)
        self.checks = Lane(2)
        self.doctor = Lane(1)
        """Apart from the checks of readiness: a judge that does not answer holds up nobody else."""
