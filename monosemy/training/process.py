"""One process of a training run on several devices: what torchrun starts.

    torchrun --nproc-per-node 8 -m monosemy.training.process JOB

``JOB`` is a folder with the ``job.json`` that ``job.write_job`` wrote; on several machines they
must share it and the workspace it names.  SIGTERM or SIGINT to any of them, or to torchrun, has all
save and end; started again, they go on.  The first process prints progress as lines of JSON and
leaves the SAEs in the folder.  ``launch.train_in_processes`` does all of this on one machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch

from monosemy import stages
from monosemy.errors import DataError, Interrupted, MonosemyError
from monosemy.models.host import HostModel
from monosemy.models.precision import choose_device
from monosemy.progress import Reporter, StageProgress
from monosemy.specs.hooks import HOST
from monosemy.specs.readings import TrainingReading
from monosemy.threads import usable_cores
from monosemy.training.job import (
    Job,
    ask_to_stop,
    clear,
    note_saved,
    read_job,
    stop_asked,
    write_error,
    write_result,
)
from monosemy.training.run_group import joined
from monosemy.training.train import train_saes

_UPDATES_PER_SECOND = 5


class _Lines(Reporter):
    """Progress as lines of JSON on the standard output, for the process that launched this one."""

    def __init__(self, should_stop: Callable[[], type[Exception] | None] | None = None) -> None:
        super().__init__(should_stop)
        self._last = 0.0

    def update(self, progress: StageProgress) -> None:
        now = time.monotonic()
        if now - self._last >= 1 / _UPDATES_PER_SECOND or progress.done == progress.resumed_at:
            self._last = now
            self._say("update", progress)

    def finish(self, progress: StageProgress) -> None:
        self._say("finish", progress)

    def log(self, message: str, **fields: Any) -> None:
        _write({"event": "log", "message": message, "fields": fields})

    def begin_readings(self, place: int, step: int, kept: Sequence[TrainingReading]) -> None:
        readings = [reading.model_dump(mode="json") for reading in kept]
        _write({"event": "begin_readings", "place": place, "step": step, "kept": readings})

    def reading(self, place: int, reading: TrainingReading) -> None:
        data = reading.model_dump(mode="json")
        _write({"event": "reading", "place": place, "reading": data})

    def _say(self, event: str, progress: StageProgress) -> None:
        fields = {
            "name": progress.name,
            "unit": progress.unit,
            "total": progress.total,
            "done": progress.done,
            "resumed_at": progress.resumed_at,
            "metrics": progress.metrics,
        }
        _write({"event": event, **fields})


def _write(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 trained, or interrupted with its checkpoint written; 1 failed, and
    ``error.json`` says why if there is more to say than a traceback."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", type=Path)
    parser.add_argument("--watched", action="store_true", help="end when the standard input ends")
    options = parser.parse_args(arguments)
    if options.watched:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    # Of several processes none may stop alone: all see the request and save the same step.  Asked
    # again, by torchrun and by a terminal, it is the same request.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ask_to_stop(options.job))
    try:
        _train(read_job(options.job), fresh=not options.watched)
    except Interrupted:  # no failure: torchrun would kill those that are still writing
        note_saved(options.job)
        return 0
    except MonosemyError as error:
        write_error(options.job, error)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _train(job: Job, fresh: bool) -> None:
    """``fresh`` clears away what an earlier attempt has left, which a launcher has done already."""
    device = choose_device(job.specs[0].model.device)
    if device.type == "cpu":
        torch.set_num_threads(max(1, usable_cores() // job.stream.devices))
    with joined(job.stream, device, lambda: stop_asked(job.folder)) as group:
        # Several ask their group, so that they agree; one alone asks its reporter.
        alone = partial(_told_to_end, job) if group.processes == 1 else None
        reporter = _Lines(alone) if group.rank == 0 else Reporter()
        if fresh and group.rank == 0:
            clear(job.folder)
        group.any(True)  # nobody looks for a request to stop before that
        _check_count(job, group.processes)
        host = HostModel.load(job.host, job.workspace)
        hosts = {HOST: host}
        store, source = stages.open_stream(job.specs, hosts, job.workspace, text_id=job.text_id)
        trained = train_saes(job.specs, store, source, job.folder, reporter, job.stream, group)
        source.flush()
        if group.rank == 0:
            write_result(job.folder, trained)
        group.any(True)  # nobody leaves before the result is there


def _told_to_end(job: Job) -> type[Exception] | None:
    return Interrupted if stop_asked(job.folder) else None


def _check_count(job: Job, processes: int) -> None:
    if processes != job.stream.devices:
        raise DataError(
            f"The job is for {job.stream.devices} processes (training.devices), and torchrun has"
            f" started {processes}.",
            "Start as many: --nproc-per-node times --nnodes.",
        )


def _end_with_stdin() -> None:
    """The launching process holds the other end: without it nobody would stop this one."""
    while os.read(0, 4096):  # not sys.stdin: its lock is in the way when the interpreter ends
        pass
    os._exit(1)


def _leave(status: int) -> NoReturn:
    """Ends without taking the interpreter down: gloo's threads may still hold tensors by then, and
    the process would abort with its work done."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _leave(main())
