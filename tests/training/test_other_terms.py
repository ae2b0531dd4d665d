"""A run is gone on from on its own terms or not at all; signals save first; damage is said."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monosemy.errors import DataError, Interrupted
from monosemy.progress import Reporter, StageProgress
from monosemy.specs import SAESpec, TrainingSpec, TrainRun
from monosemy.specs.architectures import BatchTopKSpec, JumpReLUSpec, TopKSpec
from monosemy.training.checkpoint import Checkpoint, newest_header, save_checkpoint
from monosemy.training.signals import StopSignals
from monosemy.training.terms import check_terms, flat
from monosemy.training.train import TrainedSAE, train_sae, train_saes

SITE = "blocks.0.hook_resid_post"
WIDTH, ROWS, LENGTH = 16, 120, 25


class Source:
    """Random activations of ``ROWS`` rows."""

    width = WIDTH

    def __init__(self) -> None:
        self.acts = torch.randn(ROWS * LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))

    def rows(self, rows: np.ndarray) -> tuple[Tensor, np.ndarray]:
        places = (rows[:, None] * LENGTH + np.arange(LENGTH)).reshape(-1)
        return self.acts[torch.from_numpy(places)], places

    def flush(self) -> None:
        pass


class Store:
    """A text of which every row is trained on."""

    row_start = np.arange(ROWS + 1) * LENGTH
    row_sequence = None

    def __init__(self, text_id: str = "a-text") -> None:
        self.text_id = text_id

    def training_rows(self) -> np.ndarray:
        return np.arange(ROWS)


class Acts(Reporter):
    """Calls ``act`` once 2,000 tokens are trained; keeps the lines."""

    def __init__(self, act: Any = None) -> None:
        super().__init__(lambda: self.reason)
        self.act, self.reason = act, None
        self.started_at: int | None = None
        self.lines: list[str] = []

    def update(self, progress: StageProgress) -> None:
        if self.started_at is None:
            self.started_at = progress.done
        if self.act is not None and progress.done >= 2000:
            act, self.act = self.act, None
            act(self)

    def log(self, message: str, **fields: Any) -> None:
        self.lines.append(f"{message} {fields}")

    def interrupt(self) -> None:
        self.reason = Interrupted  # type: ignore[assignment]


def run_of(sae: SAESpec | None = None, site: str = SITE, **training: Any) -> TrainRun:
    settings = {"tokens": 6000, "batch_tokens": 100, "buffer_tokens": 500, **training}
    return TrainRun(
        model={"name": "none", "dtype": "float32", "device": "cpu"},  # type: ignore[arg-type]
        site=site,
        sae=sae or TopKSpec(d_sae=24, k=3),
        training=TrainingSpec(frozen_decoder_baseline=False, **settings),
    )


def train(
    folder: Path, spec: TrainRun | None = None, act: Any = None, text: str = "a-text"
) -> tuple[TrainedSAE, Acts]:
    reporter = Acts(act)
    made = train_sae(spec or run_of(), Store(text), Source(), folder, reporter)  # type: ignore[arg-type]
    return made, reporter


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run folder with a checkpoint of step 20."""
    with pytest.raises(Interrupted):
        train(tmp_path, act=Acts.interrupt)
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-0000000020"]
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (run_of(seed=3), "training.seed 0 then, 3 now"),
        (run_of(batch_tokens=50), "training.batch_tokens 100 then, 50 now"),
        (run_of(tokens=9000), "training.tokens 6000 then, 9000 now"),
        (run_of(learning_rate=0.5), "training.learning_rate 0.002 then, 0.5 now"),
        (run_of(optimiser="signum"), "training.optimiser 'adam' then, 'signum' now"),
        (run_of(TopKSpec(d_sae=32, k=3)), "sae.d_sae 24 then, 32 now"),
        (run_of(TopKSpec(d_sae=24, k=4)), "sae.k 3 then, 4 now"),
        (run_of(BatchTopKSpec(d_sae=24, k=3)), "sae.architecture 'topk' then, 'batchtopk' now"),
        (run_of(JumpReLUSpec(d_sae=24)), "sae.architecture 'topk' then, 'jumprelu' now"),
        (run_of(site="blocks.1.hook_resid_post"), f"site '{SITE}' then"),
        (run_of(split="dictionary"), "training.split 'batch' then, 'dictionary' now"),
    ],
)
def test_other_terms_are_refused_by_name_and_nothing_is_lost(
    stopped: Path, spec: TrainRun, named: str
) -> None:
    with pytest.raises(DataError, match="To start over") as refused:
        train(stopped, spec)
    assert named in str(refused.value) and "step 20" in str(refused.value)
    _, resumed = train(stopped)
    assert resumed.started_at == 2000, "on its own terms it goes on where it was"


def test_another_text_or_host_model_is_refused(stopped: Path) -> None:
    with pytest.raises(DataError, match="the text, or the host model, changed"):
        train(stopped, text="another-text")


def test_another_number_of_saes_is_refused(stopped: Path) -> None:
    with pytest.raises(DataError, match="other terms"):
        train_saes([run_of(), run_of(seed=1)], Store(), Source(), stopped)  # type: ignore[arg-type]


def test_what_does_not_matter_may_differ(stopped: Path) -> None:
    other = run_of(checkpoint_seconds=3.0).model_copy(update={"name": "renamed"})
    assert train(stopped, other)[1].started_at == 2000


@pytest.mark.parametrize(("then", "now"), [(1, 2), (2, 1), (2, 4), (4, 2)])
@pytest.mark.parametrize("written", [True, False])
def test_another_number_of_processes_is_refused(
    tmp_path: Path, then: int, now: int, written: bool
) -> None:
    """``written`` False: by a version that did not write its terms down."""
    places = [tmp_path] if then == 1 else [tmp_path / f"process-{rank}" for rank in range(then)]
    terms = {"processes": then} if written else {}
    for place in places:
        save_checkpoint(place, Checkpoint(7, "key", {"x": torch.ones(3)}, {}, terms=terms))
    message = (
        rf"step 7\) of a run on {then} process.* on {now} process.*training.devices to {then} "
    )
    with pytest.raises(DataError, match=message):
        check_terms(tmp_path, "another", {"processes": now})
    check_terms(tmp_path, "key", {"processes": then})


def test_a_checkpoint_from_before_terms_were_written_down(stopped: Path) -> None:
    file = stopped / "step-0000000020" / "state.json"
    values = json.loads(file.read_text())
    del values["terms"], values["values"]["versions"]
    file.write_text(json.dumps(values))
    with pytest.raises(DataError, match="earlier version of monosemy has not written down which"):
        train(stopped, run_of(seed=3))
    assert train(stopped)[1].started_at == 2000


def test_other_versions_are_said(stopped: Path) -> None:
    file = stopped / "step-0000000020" / "state.json"
    values = json.loads(file.read_text())
    values["values"]["versions"] |= {"torch": "0.1", "monosemy": "0.0"}
    file.write_text(json.dumps(values))
    _, reporter = train(stopped)
    (line,) = [line for line in reporter.lines if line.startswith("other versions")]
    assert "'torch': '0.1, now" in line and "monosemy" in line and "numpy" not in line


def test_a_damaged_checkpoint_is_said_and_the_one_before_taken(tmp_path: Path) -> None:
    often = run_of(checkpoint_seconds=1e-9)
    with pytest.raises(Interrupted):
        train(tmp_path, often, Acts.interrupt)
    tensors = tmp_path / "step-0000000020" / "state.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-8])
    _, reporter = train(tmp_path, often)
    assert reporter.started_at == 1900
    assert any(line.startswith("damaged checkpoint passed over") for line in reporter.lines)


def test_where_none_is_sound_the_start_is_said(stopped: Path) -> None:
    (stopped / "step-0000000020" / "state.safetensors").write_bytes(b"")
    _, reporter = train(stopped)
    assert reporter.started_at == 0
    assert any("no sound checkpoint is left" in line for line in reporter.lines)


@pytest.mark.parametrize(
    ("number", "ends"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_saves_first(
    tmp_path: Path, number: signal.Signals, ends: type[BaseException]
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(ends):
        train(tmp_path, act=lambda _: os.kill(os.getpid(), number))
    assert signal.getsignal(number) == before
    header = newest_header(tmp_path)
    assert header is not None and header.step >= 20
    whole, _ = train(tmp_path / "whole")
    resumed, reporter = train(tmp_path)
    assert reporter.started_at == header.step * 100
    for name, value in whole.sae.state_dict().items():
        assert torch.equal(value, resumed.sae.state_dict()[name]), name


def test_a_second_signal_acts_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), StopSignals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_of_others_and_other_threads_are_left_alone() -> None:
    def mine(*_: object) -> None:
        pass

    usual = signal.signal(signal.SIGTERM, mine)
    try:
        with StopSignals():
            assert signal.getsignal(signal.SIGTERM) is mine
        seen: list[Any] = []

        def elsewhere() -> None:
            with StopSignals():
                seen.append(signal.getsignal(signal.SIGINT))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert seen == [signal.default_int_handler]
    finally:
        signal.signal(signal.SIGTERM, usual)


def test_terms_are_flat() -> None:
    nested = {"a": {"b": 1, "c": [2, {"d": None}]}, "e": []}
    assert flat(nested) == {"a.b": 1, "a.c[0]": 2, "a.c[1].d": None}
