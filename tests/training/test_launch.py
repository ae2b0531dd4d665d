"""What the launching process makes of processes that end badly; a script stands in for torchrun."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from monosemy.errors import MonosemyError
from monosemy.progress import Reporter
from monosemy.saes.registry import create
from monosemy.specs import TrainRun
from monosemy.training import launch
from monosemy.training.job import Job, write_result
from monosemy.training.sae_training import TrainedSAE
from monosemy.workspace import Workspace

LOG = """loading
terminate called after throwing an instance of 'gloo::IoException'
  what():  Connection closed by peer
E1123 23:00:00.000000 77 torch/distributed/elastic/multiprocessing/api.py:908] failed
traceback : Signal 6 (SIGABRT)
"""


class Told(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def log(self, message: str, **fields: Any) -> None:
        self.lines.append(message)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    spec = TrainRun(
        model={"name": "none", "device": "cpu"},  # type: ignore[arg-type]
        sae={"architecture": "topk", "d_sae": 8, "k": 2},  # type: ignore[arg-type]
    )
    return Job(tmp_path / "run", [spec], spec.training, spec.model, Workspace(tmp_path / "data"))


def ends_badly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: Job, result: Path | None
) -> None:
    """Has the processes of ``job`` leave ``result`` and ``LOG``, and end with status 1."""
    (tmp_path / "log").write_text(LOG)
    copy = f"cp {result}/result.* {job.folder}/\n" if result else ""
    script = tmp_path / "torchrun"
    script.write_text(f"#!/bin/sh\n{copy}cat {tmp_path / 'log'} >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(launch, "sys", SimpleNamespace(executable=str(script)))


def test_a_death_after_the_result_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: Job
) -> None:
    sae = create(job.specs[0].sae, 4, None)
    sae.initialise(torch.Generator().manual_seed(0))
    made = tmp_path / "made"
    made.mkdir()
    write_result(made, [TrainedSAE(sae, None, {"fvu": 0.5}, [], torch.zeros(8))])
    ends_badly(monkeypatch, tmp_path, job, made)
    reporter = Told()
    (back,) = launch.train_in_processes(job, reporter)
    for name, value in sae.state_dict().items():
        assert torch.equal(back.sae.state_dict()[name], value), name
    assert back.metrics == {"fvu": 0.5}
    assert len(reporter.lines) == 1 and "Connection closed by peer" in reporter.lines[0]


def test_a_result_of_an_earlier_attempt_does_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: Job
) -> None:
    job.folder.mkdir()
    for name in ("result.json", "result.safetensors", "result.json.part"):
        (job.folder / name).write_text("[]")
    ends_badly(monkeypatch, tmp_path, job, None)
    with pytest.raises(MonosemyError, match="ended with status 1") as caught:
        launch.train_in_processes(job)
    assert "Connection closed by peer" in str(caught.value)
    assert "SIGABRT" not in str(caught.value), "torchrun's summary says nothing more"
