"""Whole runs on two processes: what comes out, and that stops and deaths change nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from monosemy import stages
from monosemy.errors import Cancelled, DataError, Interrupted, MonosemyError, SpecError, Stopped
from monosemy.formats.saelens import load_sae
from monosemy.models.host import HostModel
from monosemy.progress import Reporter, StageProgress
from monosemy.saes.base import SAE
from monosemy.specs import TrainRun, parse_spec
from monosemy.specs.readings import TrainingReading
from monosemy.training.history import History, read_history
from monosemy.training.job import ask_to_stop
from monosemy.training.sae_training import SAETraining
from monosemy.training.stream import ActivationStream
from monosemy.workspace import Workspace
from tests.support.campaign import wider
from tests.support.child_process import ChildProcess
from tests.support.patience import wait_for

if TYPE_CHECKING:
    from monosemy.specs import TextSpec

SITE = "blocks.2.hook_resid_post"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One for all runs: the text is read once, and activations are cached."""
    return Workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def spec(host_folder: Path, tiny_text: TextSpec) -> TrainRun:
    return run_of(host_folder, tiny_text)


def run_of(host_folder: Path, text: TextSpec, **training: Any) -> TrainRun:
    settings = {"tokens": 12_800, "batch_tokens": 128, "buffer_tokens": 1024, "devices": 2}
    return TrainRun(
        model={"name": str(host_folder), "dtype": "float32", "device": "cpu"},  # type: ignore[arg-type]
        text=text,
        site=SITE,
        sae={"architecture": "topk", "d_sae": 64, "k": 4, "dead_after_tokens": 2000},  # type: ignore[arg-type]
        training={**settings, "max_norm_ratio": None, "checkpoint_seconds": 1e9, **training},  # type: ignore[arg-type]
    )


def train(
    spec: TrainRun, workspace: Workspace, folder: Path, reporter: Reporter | None = None
) -> stages.TrainedArtifact:
    load = partial(HostModel.load, workspace=workspace)
    return stages.train(
        spec, folder / "sae", folder / "run", workspace, load, reporter or Reporter()
    )


def assert_same(one: SAE, other: SAE, tolerance: float = 0.0) -> None:
    for name, value in one.state_dict().items():
        torch.testing.assert_close(
            value, other.state_dict()[name], rtol=tolerance, atol=tolerance, msg=name
        )


@pytest.fixture(scope="module")
def whole(
    spec: TrainRun, workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> stages.TrainedArtifact:
    return train(spec, workspace, tmp_path_factory.mktemp("whole"))


def in_one_process(spec: TrainRun, workspace: Workspace, folder: Path) -> SAE:
    """The same tokens in the same batches, put together by hand."""
    host = HostModel.load(spec.model, workspace)
    store = stages.prepare_text(spec.text, host, workspace)
    source = stages.activations(spec, [SITE], host, store, workspace)
    rows = store.training_rows()
    share = spec.training.model_copy(update={"batch_tokens": 64, "buffer_tokens": 512})
    steps = spec.training.tokens // 128
    streams = [ActivationStream(source, rows[rank::2], share, total=64 * steps) for rank in (0, 1)]
    for stream in streams:
        stream.fill()
    trained = SAETraining(spec, source.columns, torch.device("cpu"), History(folder / "h.jsonl"))
    trained.start(torch.cat([stream.buffer.values for stream in streams]))
    for number in range(steps):
        trained.step(torch.cat([stream.next_batch() for stream in streams]), number, steps)
    return trained.finish(streams[0].buffer.values, {}).sae


# Steps of both splits are held by test_distributed_steps.
@pytest.mark.parametrize("split", ["batch", *wider("dictionary")])
def test_two_processes_train_what_one_would(
    host_folder: Path, tiny_text: TextSpec, workspace: Workspace, tmp_path: Path, split: str
) -> None:
    spec = run_of(host_folder, tiny_text, split=split, tokens=6400)
    reporter = Watching()
    made = train(spec, workspace, tmp_path, reporter)
    wanted = in_one_process(spec, workspace, tmp_path)
    assert_same(load_sae(made.folder), wanted, tolerance=1e-5)
    assert made.metrics["devices"] == 2 and made.metrics["tokens"] == 6400
    assert made.metrics["fvu"] < made.metrics["frozen_decoder_baseline"]["fvu"]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) > 4
    assert reporter.readings == read_history(made.folder / "readings.jsonl")
    last = reporter.finished[-1]
    assert (last.name, last.unit, last.done, last.total) == ("train", "tokens", 6400, 6400)
    assert {"fvu", "l0", "dead_share"} <= last.metrics.keys()


class Watching(Reporter):
    """Calls ``act`` once ``tokens`` are trained."""

    def __init__(self, tokens: int = 10**9, act: Any = None) -> None:
        super().__init__(lambda: self.reason)
        self.tokens, self.act, self.reason = tokens, act, None
        self.finished: list[StageProgress] = []
        self.readings: list[TrainingReading] = []

    def update(self, progress: StageProgress) -> None:
        if progress.name == "train" and self.act and progress.done >= self.tokens:
            act, self.act = self.act, None
            act(self)

    def reading(self, place: int, reading: TrainingReading) -> None:
        self.readings.append(reading)

    def finish(self, progress: StageProgress) -> None:
        self.finished.append(progress)

    def stop(self, reason: type[Stopped]) -> None:
        self.reason = reason  # type: ignore[assignment]


def slowly(spec: TrainRun, **training: Any) -> TrainRun:
    """Enough steps that something can happen in between; the same result."""
    return spec.model_copy(update={"training": spec.training.model_copy(update=training)})


def test_a_stopped_run_goes_on_where_it_was(
    spec: TrainRun, workspace: Workspace, tmp_path: Path, whole: stages.TrainedArtifact
) -> None:
    with pytest.raises(Cancelled):
        train(spec, workspace, tmp_path, Watching(2000, lambda me: me.stop(Cancelled)))
    steps = {path.name for path in (tmp_path / "run").glob("process-*/step-*")}
    assert len(steps) == 1 and "step-0000000100" not in steps, "both saved the same step"
    assert not processes_of(tmp_path)
    again = train(spec, workspace, tmp_path)
    assert_same(load_sae(again.folder), load_sae(whole.folder))


@pytest.mark.parametrize(
    "whom",
    [
        "one process",
        pytest.param("torchrun", marks=pytest.mark.campaign),
        pytest.param("the starter", marks=pytest.mark.campaign),
    ],
)
def test_who_is_told_to_end_has_all_save_first(
    spec: TrainRun,
    workspace: Workspace,
    tmp_path: Path,
    whole: stages.TrainedArtifact,
    whom: str,
) -> None:
    def tell(_: Any) -> None:
        receiver = {
            "one process": lambda: processes_of(tmp_path)[-1],
            "torchrun": lambda: processes_of(tmp_path, torchrun=True)[0],
            "the starter": os.getpid,
        }[whom]
        os.kill(receiver(), signal.SIGINT if whom == "the starter" else signal.SIGTERM)

    ends = KeyboardInterrupt if whom == "the starter" else Interrupted
    with pytest.raises(ends):
        train(spec, workspace, tmp_path, Watching(1000, tell))
    steps = [path.name for path in (tmp_path / "run").glob("process-*/step-*")]
    assert len(steps) == 2 and len(set(steps)) == 1, "both saved the same step"
    assert not processes_of(tmp_path)
    if whom == "one process":
        alone = slowly(spec, devices=1)
        with pytest.raises(DataError, match=r"on 2 processes; now .* on 1 process\."):
            train(alone, workspace, tmp_path)
    again = train(spec, workspace, tmp_path)
    assert_same(load_sae(again.folder), load_sae(whole.folder))


@pytest.mark.campaign
def test_a_killed_process_ends_the_run_and_the_next_attempt_ends_it_well(
    spec: TrainRun, workspace: Workspace, tmp_path: Path, whole: stages.TrainedArtifact
) -> None:
    def kill_one(_: Any) -> None:
        """Whoever is left is asked to stop, as torchrun does, and cannot: they stop together."""
        os.kill(processes_of(tmp_path)[-1], signal.SIGKILL)
        ask_to_stop(tmp_path / "run")

    often = slowly(spec, checkpoint_seconds=0.02)
    with pytest.raises(MonosemyError, match="ended with status"):
        train(often, workspace, tmp_path, Watching(2000, kill_one))
    assert not processes_of(tmp_path)
    kept = [sorted(p.name for p in d.glob("step-*")) for d in (tmp_path / "run").glob("process-*")]
    assert all(kept), "a killed run has checkpoints to go on from"
    again = train(often, workspace, tmp_path)
    assert_same(load_sae(again.folder), load_sae(whole.folder))


def test_processes_end_with_the_one_that_started_them(
    spec: TrainRun, workspace: Workspace, tmp_path: Path
) -> None:
    file = tmp_path / "spec.json"
    file.write_text(slowly(spec, tokens=128 * 50_000).model_dump_json())
    command = [sys.executable, __file__, str(file), str(workspace.root)]
    with ChildProcess(command, tmp_path / "starter.log") as starter:
        starter.wait_until(lambda: (tmp_path / "run" / "metrics.jsonl").exists())
        # For a moment a third may be there, forked by one of them to become another program.
        starter.wait_until(lambda: len(processes_of(tmp_path)) == 2)
    wait_for(lambda: not processes_of(tmp_path), seconds=60)


def test_the_reason_of_a_failure_comes_through(
    spec: TrainRun, workspace: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(MonosemyError, match=r"diverged.*smaller training\.learning_rate"):
        train(slowly(spec, learning_rate=1e30, warmup_steps=0), workspace, tmp_path)


@pytest.mark.parametrize(
    ("training", "sae", "message"),
    [
        ({"devices": 3}, {}, "do not divide over 3 devices"),
        ({"devices": 2, "split": "dictionary"}, {"architecture": "batchtopk"}, "for topk"),
        ({"devices": 2, "split": "dictionary"}, {"ista_steps": 1}, "without ista_steps"),
        ({"devices": 2, "split": "dictionary"}, {"d_sae": 64, "k": 40}, "at least k latents"),
    ],
)
def test_what_cannot_be_split_is_refused(
    training: dict[str, Any], sae: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        parse_spec({"kind": "train", "training": training, "sae": {"architecture": "topk", **sae}})


def processes_of(folder: Path, torchrun: bool = False) -> list[int]:
    """Training processes of the job in ``folder``, or the torchrun that started them."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            launcher = b"torch.distributed.run" in words
            if str(folder / "run").encode() in words and launcher == torchrun:
                pids.append(int(entry.name))
    return sorted(pids)


if __name__ == "__main__":  # the process that starts others and is killed
    _spec = parse_spec(json.loads(Path(sys.argv[1]).read_text()))
    assert isinstance(_spec, TrainRun)
    train(_spec, Workspace(sys.argv[2]), Path(sys.argv[1]).parent)
