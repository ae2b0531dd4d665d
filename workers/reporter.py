"""Writes a run's progress to Postgres, and reads there whether the run is to stop."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from monosemy.progress import Reporter, StageProgress
from monosemy.specs.readings import TrainingReading
from service.database.session import transaction
from service.observability import tracing
from service.runs import repository
from service.runs.lifecycle import LostLease
from service.runs.readings import Unwritten, write_readings
from workers.failures import is_passing

T = TypeVar("T")

logger = logging.getLogger(__name__)

_SECONDS = 1.0


class RunReporter(Reporter):
    """Writes at most one progress event a second, every finished stage and every log line, and the
    readings of trainings in batches of a second.

    A database that is away for a moment costs progress events, not the run, and no readings: the
    lease decides whether the run is still ours.
    """

    def __init__(
        self,
        engine: Engine,
        run_id: uuid.UUID,
        owner: str,
        should_stop: Callable[[], type[Exception] | None],
    ) -> None:
        super().__init__(should_stop)
        self._engine, self._run_id, self._owner = engine, run_id, owner
        self._written = 0.0
        self._stage: str | None = None
        self._unwritten = Unwritten()
        self._readings_written = 0.0

    def update(self, progress: StageProgress) -> None:
        now = time.monotonic()
        if progress.name == self._stage and now - self._written < _SECONDS:
            return
        self._stage, self._written = progress.name, now
        data = progress.as_dict()
        self._write(lambda s: repository.record_progress(s, self._run_id, self._owner, data))

    def finish(self, progress: StageProgress) -> None:
        data = progress.as_dict()
        tracing.note(progress.name, done=progress.done, unit=progress.unit)
        self._stage = None
        self._write_readings()
        self._write(lambda s: repository.record_stage(s, self._run_id, self._owner, data))

    def log(self, message: str, **fields: Any) -> None:
        logger.info(message, extra={"detail": fields} if fields else None)
        data = {"message": message, **fields}
        self._write(lambda s: repository.record_log(s, self._run_id, self._owner, data))

    def begin_readings(self, place: int, step: int, kept: Sequence[TrainingReading]) -> None:
        self._unwritten.begun[place] = step
        for reading in kept:
            self._unwritten.readings[place, reading.step or 0] = reading

    def reading(self, place: int, reading: TrainingReading) -> None:
        self._unwritten.readings[place, reading.step or 0] = reading
        if time.monotonic() - self._readings_written >= _SECONDS:
            self._write_readings()

    def close(self) -> None:
        """Writes what has not been written yet, however the work ended."""
        self._write_readings()

    def commit(self, change: Callable[[Session], T]) -> T:
        """Stores a result by ``change``, in one transaction; a database that is away is waited for.

        Raises ``LostLease`` where the run is another's by now: this worker renewed its lease too
        late.  Nobody can take the run between that check and the commit.
        """
        while True:
            try:
                with transaction(self._engine) as session:
                    result = change(session)
                    if not repository.is_held(session, self._run_id, self._owner):
                        raise LostLease
                    return result
            except SQLAlchemyError as error:
                if not is_passing(error):
                    raise
                logger.warning("a result cannot be stored yet: %s", type(error).__name__)
            time.sleep(_SECONDS)
            self.check()

    def _write_readings(self) -> None:
        self._readings_written = time.monotonic()
        unwritten = self._unwritten
        if not unwritten.begun and not unwritten.readings:
            return
        if self._write(lambda s: write_readings(s, self._run_id, self._owner, unwritten)):
            self._unwritten = Unwritten()

    def _write(self, change: Callable[[Any], Any]) -> bool:
        """Whether the database took it."""
        try:
            with transaction(self._engine) as session:
                change(session)
        except SQLAlchemyError as error:
            logger.warning("progress not written: %s", type(error).__name__)
            return False
        return True
