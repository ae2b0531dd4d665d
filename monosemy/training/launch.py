"""Training on several devices: starts the processes, passes their progress on, brings back SAEs.

The processes are torchrun's, each ``monosemy.training.process``; see ``job`` for what they share.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from monosemy.errors import Interrupted, MonosemyError, Stopped
from monosemy.models.precision import check_devices, choose_device
from monosemy.progress import SILENT, Reporter, Stage
from monosemy.specs.readings import stored_reading
from monosemy.training.job import (
    Job,
    ask_to_stop,
    clear,
    has_result,
    has_saved,
    read_error,
    read_result,
    write_job,
)
from monosemy.training.sae_training import TrainedSAE
from monosemy.training.signals import Signalled, StopSignals

_STOP_SECONDS = 180.0
"""What a checkpoint may take before the processes are killed."""

_LOG = "processes.log"

_TORCHRUN = re.compile(r"[IWE]\d{4} .* torch/distributed/elastic/multiprocessing/api\.py")
"""Where torchrun starts to tell that a process has failed."""


def train_in_processes(job: Job, reporter: Reporter = SILENT) -> list[TrainedSAE]:
    """Trains on ``job.stream.devices`` processes of this machine; resumes from ``job.folder``.

    Stage ``train``, as ``train_saes`` reports it.  A run that is stopped (``Interrupted``,
    ``Cancelled``) has written its checkpoints; so has one whose processes, or torchrun, were told
    to end by SIGTERM (``Interrupted``), or that a SIGINT or SIGTERM here has ended.  If this
    process dies, so do those it started.
    Raises what the processes raise, and ``ModelError`` where fewer GPUs, or cores, can
    be used than there are devices.
    """
    kind = choose_device(job.specs[0].model.device).type
    check_devices(kind, job.stream.devices, "training.devices")
    write_job(job)
    clear(job.folder)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(job.stream.devices)),
        *("-m", "monosemy.training.process", "--watched", str(job.folder)),
    ]
    with (job.folder / _LOG).open("wb") as log:
        process = subprocess.Popen(  # our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
        )
        try:
            with StopSignals() as signals:
                _follow(process, job.folder, reporter, signals)
        except Signalled as signalled:
            raise signalled.reason from None
        finally:
            _kill(process)
    if not has_result(job.folder):
        failure = read_error(job.folder)
        # Not that they were asked: torchrun asks those that are left when one was killed.
        if failure is None and has_saved(job.folder):
            reporter.log("the training processes were told to end, and have saved their state")
            raise Interrupted
        raise failure or _failure(job.folder, process.returncode)
    if process.returncode:
        failure = read_error(job.folder) or _failure(job.folder, process.returncode)
        reporter.log(f"All is trained and kept, but then: {failure}")
    return read_result(job)


def _follow(
    process: subprocess.Popen[bytes], folder: Path, reporter: Reporter, signals: StopSignals
) -> None:
    """Passes progress on until the processes have ended; on ``Stopped``, has them save first."""
    assert process.stdout is not None
    lines: queue.Queue[bytes | None] = queue.Queue()
    threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    relayed = _ProgressRelay(reporter)
    stopped: Stopped | None = None
    deadline = float("inf")
    while True:
        try:
            line = lines.get(timeout=0.25)
            if line is None:
                break
            if stopped is None:
                relayed.take(line)
        except queue.Empty:
            pass
        except Stopped as reason:
            stopped, deadline = reason, _ask_to_stop(folder)
        try:
            if stopped is None:
                signals.check()
                reporter.check()
        except Stopped as reason:
            stopped, deadline = reason, _ask_to_stop(folder)
        if time.monotonic() > deadline:
            break
    if stopped is not None:
        raise stopped
    process.wait(timeout=60)
    if process.returncode == 0:
        relayed.close()


def _pump(stream: IO[bytes], lines: queue.Queue[bytes | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _ask_to_stop(folder: Path) -> float:
    ask_to_stop(folder)
    return time.monotonic() + _STOP_SECONDS


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Leaves nothing of it running; what has ended already is not touched."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


class _ProgressRelay:
    """The stage of the first process, in this process's reporter."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.context: AbstractContextManager[Stage] | None = None
        self.stage: Stage | None = None

    def take(self, line: bytes) -> None:
        """One line of JSON; anything else that a library prints is passed over."""
        try:
            message = json.loads(line)
            event = message["event"]
        except (ValueError, KeyError, TypeError):
            return
        if event == "log":
            self.reporter.log(message["message"], **message["fields"])
            return
        if event == "begin_readings":
            readings = [stored_reading(each) for each in message["kept"]]
            self.reporter.begin_readings(message["place"], message["step"], readings)
            return
        if event == "reading":
            self.reporter.reading(message["place"], stored_reading(message["reading"]))
            return
        if self.stage is None:
            self.context = self.reporter.stage(
                message["name"], message["total"], message["unit"], message["resumed_at"]
            )
            self.stage = self.context.__enter__()
        self.stage.advance(message["done"] - self.stage.progress.done, **message["metrics"])
        if event == "finish":
            self.close()

    def close(self) -> None:
        if self.context is not None:
            self.context.__exit__(None, None, None)
        self.context = self.stage = None


def _failure(folder: Path, status: int) -> MonosemyError:
    """For what no process had the time to explain."""
    log = (folder / _LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    # What torchrun says of it comes last and names no reason.
    own = list(itertools.takewhile(lambda line: not _TORCHRUN.match(line), log)) or log
    log_excerpt = f"{folder / _LOG} has: {' | '.join(own[-3:])}" if own else None
    return MonosemyError(f"A training process ended with status {status}.", log_excerpt)
