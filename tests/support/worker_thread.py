"""Workers that run in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from service.settings import Settings
from workers.worker import Execute, Worker


@contextmanager
def working(
    engine: Engine, settings: Settings, execute: Execute, queue: str = "gpu"
) -> Iterator[Worker]:
    """A worker in a thread; it has ended when the block has."""
    worker = Worker(queue, settings, execute, engine)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        if not worker.stopping:
            worker.stop()
        thread.join(20)
        assert not thread.is_alive(), "the worker does not stop"
