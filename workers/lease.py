"""Keeps a run: renews its lease in a thread and learns whether to stop."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from monosemy.errors import Cancelled, Interrupted
from service.database.session import transaction
from service.runs import repository
from workers import health

_LONGEST_PAUSE = 2.0
"""Seconds between two checks: a cancelled run should stop soon, however long its lease."""


class Lease:
    """``lost`` once another worker may have the run; it never becomes ours again."""

    def __init__(
        self,
        engine: Engine,
        run_id: uuid.UUID,
        owner: str,
        seconds: float,
        stopping: Callable[[], bool],
    ) -> None:
        self._engine, self._run_id, self._owner = engine, run_id, owner
        self._seconds, self._stopping = seconds, stopping
        self._valid_until = time.monotonic() + seconds
        self._done = threading.Event()
        self._cancelling = False
        self.lost = False
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the renewing; the lease itself lasts until it runs out or the run is concluded."""
        self._done.set()
        self._thread.join()

    def should_stop(self) -> type[Exception] | None:
        """What the work should raise at its next step, if anything."""
        if self._cancelling:
            return Cancelled
        return Interrupted if self.lost or self._stopping() else None

    def renew(self) -> None:
        """Asks for another ``seconds``; notes a lost lease and a request to cancel."""
        started = time.monotonic()
        try:
            with transaction(self._engine) as session:
                state = repository.renew_lease(session, self._run_id, self._owner, self._seconds)
        except SQLAlchemyError:
            # Not an answer.  Whoever takes the run over waits for the lease to end; so do we.
            self.lost = self.lost or time.monotonic() > self._valid_until
            return
        if state is None:
            self.lost = True
        else:
            self._valid_until = started + self._seconds
            self._cancelling = state == "cancelling"

    def _keep(self) -> None:
        pause = min(self._seconds / 3, _LONGEST_PAUSE)
        while not self._done.wait(pause):
            health.touch()
            self.renew()
