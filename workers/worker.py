"""A worker: takes runs of its queue from Postgres, one after the other, and executes them.

Postgres says what there is to do.  A Dramatiq message only ends the pause between two looks, so a
flushed or absent Redis costs at most ``poll_seconds``.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import dramatiq
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from monosemy.errors import Cancelled, MonosemyError, Stopped
from monosemy.exit_codes import USAGE
from monosemy.specs.plugins import load_plugins
from service.database.session import make_engine, transaction
from service.database.tables import Run
from service.observability import logs, tracing
from service.runs import lifecycle
from service.runs.lifecycle import LostLease
from service.runs.wake import actor_name, broker_for, wake
from service.settings import Settings
from workers import health
from workers.failures import describe_failure, is_passing, without_secrets
from workers.lease import Lease
from workers.reporter import RunReporter

logger = logging.getLogger(__name__)

Execute = Callable[[Run, RunReporter], dict[str, Any]]
"""Does the work of a run and returns its result."""

Assist = Callable[[Callable[[], bool]], bool]
"""Takes part in a run under way until it ends or the given function says to stop; False if there
was nothing to do."""

End = Callable[[Any], "set[str] | None"]
"""Writes, in a session, how an attempt ended; returns the queues to wake."""


class Worker:
    """One process, one queue, one run at a time."""

    def __init__(
        self,
        queue: str,
        settings: Settings,
        execute: Execute,
        engine: Engine,
        assist: Assist | None = None,
    ) -> None:
        self.queue, self.settings, self.execute, self.engine = queue, settings, execute, engine
        self.assist = assist
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.stopping = False
        # A SimpleQueue and not an Event: its put may be called from a signal handler.
        self._wakes: SimpleQueue[None] = SimpleQueue()

    def run(self) -> None:
        """Works until ``stop``; returns once the run under way has been given back."""
        consumer = self._consume_messages()
        logger.info("worker ready", extra={"queue": self.queue, "owner": self.owner})
        try:
            while not self.stopping:
                health.touch()
                if not self._take_one() and not self._assist():
                    self._pause()
        finally:
            if consumer is not None:
                consumer.stop(timeout=2000)
        logger.info("worker stopped", extra={"queue": self.queue})

    def stop(self, *_: object) -> None:
        """Asks for the end: the run under way stops at its next step and keeps its checkpoint."""
        if self.stopping:
            os._exit(1)  # asked twice: at once
        self.stopping = True
        self._wakes.put(None)

    def handle_signals(self) -> None:
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)

    def _pause(self) -> None:
        """Waits until something wakes this worker, ``poll_seconds`` at most.

        Several calls to wake count as one.
        """
        try:
            self._wakes.get(timeout=self.settings.poll_seconds)
            while True:
                self._wakes.get_nowait()
        except Empty:
            return

    def _consume_messages(self) -> dramatiq.Worker | None:
        if not self.settings.redis_url:
            return None
        logging.getLogger("dramatiq").setLevel(logging.CRITICAL)  # a Redis that is away is no news
        broker = broker_for(self.settings.redis_url)

        def awaken() -> None:
            self._wakes.put(None)

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
            with tracing.span(f"run {run.kind}", run_id=str(run.id), attempt=run.attempt):
                self._work(run)
        finally:
            logs.run_id.reset(token)
        return True

    def _assist(self) -> bool:
        """Helps with a run that another worker leads; False if there is none to help with."""
        if self.assist is None or self.stopping:
            return False
        try:
            return self.assist(lambda: self.stopping)
        except Exception as error:
            # Nothing is lost: what it had taken is given back, or its lease runs out.
            logger.warning("cannot help: %s", describe_failure(error)[0])
            return False

    def _work(self, run: Run) -> None:
        logger.info("run taken", extra={"kind": run.kind, "attempt": run.attempt})
        lease = Lease(
            self.engine, run.id, self.owner, self.settings.lease_seconds, lambda: self.stopping
        )
        reporter = RunReporter(self.engine, run.id, self.owner, lease.should_stop)
        lease.start()
        held: dict[str, Any] = {"run_id": run.id, "owner": self.owner}
        end: End | None = None
        try:
            result = self.execute(run, reporter)
            end = partial(lifecycle.succeed_run, **held, result=result)
        except Cancelled:
            end = partial(lifecycle.finish_cancel, **held)
        except Stopped:
            end = partial(lifecycle.release_run, **held)
        except LostLease:
            lease.lost = True
        except BaseException as error:
            text, retryable = describe_failure(error)
            text = without_secrets(text, self.settings)
            logger.error("run failed: %s", text, exc_info=not isinstance(error, MonosemyError))
            end = partial(lifecycle.fail_run, **held, error=text, retryable=retryable)
        finally:
            reporter.close()
            lease.stop()
        unwritten = "How the run ended cannot be stored; the worker's log says why."
        give_up = partial(lifecycle.fail_run, **held, error=unwritten, retryable=False)
        self._conclude([end, give_up] if end is not None else [], lease)

    def _conclude(self, ends: list[End], lease: Lease) -> None:
        """Writes how the run ended: the first of ``ends`` that the database takes.

        A database that is away is waited for while the lease lasts.
        """
        left = list(ends)
        while left and not lease.lost:
            try:
                with transaction(self.engine) as session:
                    queues = left[0](session) or set()
            except LostLease:
                break
            except Exception as error:
                if is_passing(error):
                    logger.warning("cannot conclude the run yet: %s", type(error).__name__)
                    time.sleep(1.0)
                    lease.renew()
                else:
                    logger.error("how the run ended cannot be stored", exc_info=error)
                    left.pop(0)
                continue
            for queue in queues:
                wake(self.settings.redis_url, queue)
            return
        logger.warning("the run is not ours any more; another worker takes it up")


def main(
    queue: str,
    make_execute: Callable[[Settings, Engine], Execute],
    make_assist: Callable[[Any], Assist] | None = None,
) -> None:
    """Entry of a worker process.  ``make_assist`` takes what ``make_execute`` made."""
    settings = Settings()
    try:
        load_plugins()
    except MonosemyError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(USAGE) from None
    logs.configure_logging(settings.log_level)
    tracing.configure_tracing(settings.otel_endpoint, f"{queue}-worker")
    engine = make_engine(settings.database_url)
    execute = make_execute(settings, engine)
    assist = make_assist(execute) if make_assist is not None else None
    worker = Worker(queue, settings, execute, engine, assist)
    worker.handle_signals()
    worker.run()
