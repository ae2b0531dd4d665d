"""Checkpoints survive what happens to disks; the history agrees with them."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from monosemy.errors import DataError
from monosemy.progress import Reporter
from monosemy.specs.readings import TrainingReading
from monosemy.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from monosemy.training.history import MOST_READINGS, RESULT_READINGS, History, read_history


def write(folder: Path, step: int, key: str = "a") -> None:
    tensors = {"x": torch.full((100,), float(step)), "t": torch.ones(2, 3).T}
    save_checkpoint(folder, Checkpoint(step, key, tensors, {"step_twice": 2 * step}))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 900, 10_000):
        write(tmp_path / "c", step)
    checkpoint = load_checkpoint(tmp_path / "c", "a")
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.values) == (10_000, {"step_twice": 20_000})
    assert (checkpoint.tensors["x"] == 10_000).all() and checkpoint.tensors["t"].shape == (3, 2)
    assert names(tmp_path / "c") == ["step-0000000900", "step-0000010000"]


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none", "a") is None


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no json", "empty json", "no tensors"])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)
    newest = tmp_path / "step-0000000002"
    tensors, values = newest / "state.safetensors", newest / "state.json"
    if damage == "truncated":
        tensors.write_bytes(tensors.read_bytes()[:-40])
    elif damage == "flipped":
        data = bytearray(tensors.read_bytes())
        data[-20] ^= 1
        tensors.write_bytes(bytes(data))
    elif damage == "no json":
        values.unlink()
    elif damage == "empty json":
        values.write_text("")
    else:
        tensors.unlink()
    checkpoint = load_checkpoint(tmp_path, "a")
    assert checkpoint is not None and checkpoint.step == 1
    # The run goes on from there and its next checkpoint is the newest again.
    write(tmp_path, 2)
    again = load_checkpoint(tmp_path, "a")
    assert again is not None and again.step == 2
    assert len(names(tmp_path)) == 2


def test_a_damaged_one_ahead_never_shadows_the_run(tmp_path: Path) -> None:
    write(tmp_path, 10)
    write(tmp_path, 20)
    (tmp_path / "step-0000000020" / "state.json").write_text("{")
    write(tmp_path, 15)
    assert names(tmp_path) == ["step-0000000010", "step-0000000015"]


def test_another_runs_checkpoint_is_not_taken(tmp_path: Path) -> None:
    write(tmp_path, 3, key="b")
    assert load_checkpoint(tmp_path, "a") is None


def test_a_half_written_one_is_not_seen(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / ".step-0000000002.partial").mkdir()
    checkpoint = load_checkpoint(tmp_path, "a")
    assert checkpoint is not None and checkpoint.step == 1


@pytest.mark.parametrize("at", ["save_file", "_checksum", "_sync"])
@pytest.mark.parametrize("failure", [OSError("no space left"), KeyboardInterrupt()])
def test_a_write_that_breaks_off_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, failure: BaseException
) -> None:
    def breaks(*_args: object) -> None:
        raise failure

    write(tmp_path, 1)
    with monkeypatch.context() as broken:
        broken.setattr(f"monosemy.training.checkpoint.{at}", breaks)
        with pytest.raises((DataError, KeyboardInterrupt)):
            write(tmp_path, 2)
    checkpoint = load_checkpoint(tmp_path, "a")
    assert checkpoint is not None and checkpoint.step == 1
    assert names(tmp_path) == ["step-0000000001"], "nothing half-written stays for good"


def test_an_unwritable_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / ".step-0000000001.partial").write_text("in the way")
    with pytest.raises(DataError, match="Cannot write a checkpoint"):
        write(tmp_path / "c", 1)


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_however_it_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def breaks(*_args: object) -> None:
        raise failure

    monkeypatch.setattr("monosemy.training.checkpoint.save_file", breaks)
    with pytest.raises(DataError, match="No space is left on that disk: free some, and retry"):
        write(tmp_path, 1)


def reading(step: int, fvu: float = 0.5) -> TrainingReading:
    return TrainingReading(step=step, tokens=10 * step, fvu=fvu)


def test_history_drops_what_lies_past_the_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "c" / "metrics.jsonl"
    history = History(file)
    history.start(0)
    for step in (10, 20, 30):
        history.add(reading(step, 1 / step))
    with file.open("a") as stream:
        stream.write('{"step": 40, "fv')
    resumed = History(file)
    resumed.start(20)
    resumed.add(reading(30, 0.5))
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [10, 20, 30]
    assert resumed.readings[-1] == reading(30, 0.5)


def test_of_a_long_training_at_most_so_many_readings_are_reported(tmp_path: Path) -> None:
    reported: list[int | None] = []

    class Noted(Reporter):
        def reading(self, place: int, reading: TrainingReading) -> None:
            assert place == 3
            reported.append(reading.step)

    total = 100_007
    history = History(tmp_path / "metrics.jsonl", 3, total)
    history.start(0, Noted())
    for step in [1, *range(10, total, 10), total]:
        history.add(reading(step))
    assert MOST_READINGS * 0.8 < len(reported) <= MOST_READINGS + 2
    assert (reported[0], reported[-1]) == (1, total)
    assert len(read_history(history.file)) == len(history.readings) == 10_002


def test_history_is_downsampled_and_ends_with_the_last(tmp_path: Path) -> None:
    history = History(tmp_path / "metrics.jsonl")
    history.start(0)
    history.readings = [reading(step) for step in range(1, 1235)]
    shown = [each.step for each in history.downsampled()]
    assert len(shown) == RESULT_READINGS and shown[-1] == 1234 and shown == sorted(set(shown))
