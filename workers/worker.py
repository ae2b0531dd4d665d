"""A worker: takes runs of its queue from Postgres, one after the other, and executes them.

Postgres says what there is to do.  A Dramatiq message only ends the pause between two looks, so a
flushed or absent Redis costs at most ``poll_seconds``.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import dramatiq
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from monosemy.errors import Cancelled, Interrupted, MonosemyError, Stopped
from service import logs
from service.database.session import make_engine, transaction
from service.database.tables import Run
from service.runs import lifecycle, repository
from service.runs.lifecycle import LostLease
from service.runs.wake import actor_name, broker_for, wake
from service.settings import Settings
from workers import health
from workers.reporter import RunReporter

logger = logging.getLogger(__name__)

Execute = Callable[[Run, RunReporter], dict[str, Any]]
"""Does the work of a run and returns its result."""


class Worker:
    """One process, one queue, one run at a time."""

    def __init__(self, queue: str, settings: Settings, execute: Execute, engine: Engine) -> None:
        self.queue, self.settings, self.execute, self.engine = queue, settings, execute, engine
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._stopping = threading.Event()
        self._awake = threading.Event()

    def run(self) -> None:
        """Works until ``stop``; returns once the run under way has been given back."""
        consumer = self._consume_messages()
        logger.info("worker ready", extra={"queue": self.queue, "owner": self.owner})
        try:
            while not self._stopping.is_set():
                health.touch()
                if not self._take_one():
                    self._awake.wait(self.settings.poll_seconds)
                    self._awake.clear()
        finally:
            if consumer is not None:
                consumer.stop(timeout=2000)
        logger.info("worker stopped", extra={"queue": self.queue})

    def stop(self, *_: object) -> None:
        """Asks for the end: the run under way stops at its next step and keeps its checkpoint."""
        if self._stopping.is_set():
            os._exit(1)  # asked twice: at once
        self._stopping.set()
        self._awake.set()

    def handle_signals(self) -> None:
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)

    def _consume_messages(self) -> dramatiq.Worker | None:
        if not self.settings.redis_url:
            return None
        logging.getLogger("dramatiq").setLevel(logging.CRITICAL)  # a Redis that is away is no news
        broker = broker_for(self.settings.redis_url)

        def awaken() -> None:
            self._awake.set()

        name = actor_name(self.queue)
        dramatiq.actor(actor_name=name, queue_name=self.queue, broker=broker, max_retries=0)(awaken)
        consumer = dramatiq.Worker(broker, queues={self.queue}, worker_threads=1)
        consumer.start()
        return consumer

    def _take_one(self) -> bool:
        """Claims and executes a run; False if there was none (or no database)."""
        try:
            with transaction(self.engine) as session:
                run = lifecycle.claim_run(
                    session, self.queue, self.owner, self.settings.lease_seconds
                )
        except SQLAlchemyError as error:
            logger.warning("no database: %s", type(error).__name__)
            return False
        if run is None:
            return False
        token = logs.run_id.set(str(run.id))
        try:
            self._work(run)
        finally:
            logs.run_id.reset(token)
        return True

    def _work(self, run: Run) -> None:
        logger.info("run taken", extra={"kind": run.kind, "attempt": run.attempt})
        lease = _Lease(self, run.id)
        reporter = RunReporter(self.engine, run.id, self.owner, lease.should_stop)
        lease.start()
        held: dict[str, Any] = {"run_id": run.id, "owner": self.owner}
        end: Callable[[Any], Any]
        try:
            result = self.execute(run, reporter)
            end = partial(lifecycle.succeed_run, **held, result=result)
        except Cancelled:
            end = partial(lifecycle.finish_cancel, **held)
        except Stopped:
            end = partial(lifecycle.release_run, **held)
        except BaseException as error:
            text, retryable = describe_failure(error)
            logger.error("run failed: %s", text, exc_info=not isinstance(error, MonosemyError))
            end = partial(lifecycle.fail_run, **held, error=text, retryable=retryable)
        finally:
            lease.stop()
        self._conclude(end, lease)

    def _conclude(self, end: Callable[[Any], Any], lease: _Lease) -> None:
        """Writes how the run ended, waiting for a database that is away while the lease lasts."""
        while not lease.lost:
            try:
                with transaction(self.engine) as session:
                    queues = end(session) or set()
                for queue in queues:
                    wake(self.settings.redis_url, queue)
                self._awake.set()
                return
            except LostLease:
                break
            except SQLAlchemyError as error:
                logger.warning("cannot conclude the run yet: %s", type(error).__name__)
                lease.renew()
                time.sleep(1.0)
        logger.warning("the lease was lost; another worker has the run")


class _Lease:
    """Renews a run's lease in a thread and learns whether to stop."""

    def __init__(self, worker: Worker, run_id: uuid.UUID) -> None:
        self._worker, self._run_id = worker, run_id
        self._seconds = worker.settings.lease_seconds
        self._valid_until = time.monotonic() + self._seconds
        self._done = threading.Event()
        self._cancelling = False
        self.lost = False
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def should_stop(self) -> type[Exception] | None:
        if self._cancelling:
            return Cancelled
        return Interrupted if self.lost or self._worker._stopping.is_set() else None

    def renew(self) -> None:
        asked = time.monotonic()
        try:
            with transaction(self._worker.engine) as session:
                state = repository.renew_lease(
                    session, self._run_id, self._worker.owner, self._seconds
                )
        except SQLAlchemyError:
            # Not an answer.  Whoever takes the run over waits for the lease to end; so do we.
            self.lost = self.lost or time.monotonic() > self._valid_until
            return
        if state is None:
            self.lost = True
        else:
            self._valid_until = asked + self._seconds
            self._cancelling = state == "cancelling"

    def _keep(self) -> None:
        # Cancelling should be felt within seconds, however long the lease.
        pause = min(self._seconds / 3, 2.0)
        while not self._done.wait(pause):
            health.touch()
            self.renew()


def describe_failure(error: BaseException) -> tuple[str, bool]:
    """What is kept of an error, and whether another attempt may help."""
    if isinstance(error, MonosemyError):
        return str(error), False
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        advice = "Use a smaller sae.d_sae, training.batch_tokens, buffer_tokens or host_rows."
        return f"Out of memory ({type(error).__name__}). {advice}", False
    if isinstance(error, OSError) and error.errno == 28:
        return "No space is left on the disk of the artifact folder. Free some and retry.", False
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {Path(last[0].filename).name}:{last[0].lineno}" if last else ""
    return f"{type(error).__name__}: {str(error)[:500]}{where}", True


def main(queue: str, make_execute: Callable[[Settings, Engine], Execute]) -> None:
    """Entry of a worker process."""
    settings = Settings()
    logs.configure_logging(settings.log_level)
    engine = make_engine(settings.database_url)
    worker = Worker(queue, settings, make_execute(settings, engine), engine)
    worker.handle_signals()
    worker.run()
