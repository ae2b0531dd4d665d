"""A training run: stream in, SAE (and its frozen-decoder twin) out, resumable at any step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monosemy.data.store import TokenStore
from monosemy.errors import DataError, Stopped
from monosemy.models.host import HostModel
from monosemy.models.precision import choose_device, choose_dtype
from monosemy.progress import SILENT, Reporter, Stage
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import TrainRun
from monosemy.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from monosemy.training.history import History, Reading
from monosemy.training.schedule import learning_rate
from monosemy.training.stream import ActivationStream, RowSource
from monosemy.training.trainer import SAETrainer
from monosemy.workspace import fingerprint

_READ_EVERY = 10
"""Steps between readings: a reading waits for the device."""

_STATE_FORMAT = 1
"""Part of a checkpoint's key: raise it when the meaning of its contents changes."""

_IRRELEVANT: Any = {"name": True, "training": {"checkpoint_seconds"}}
"""What may differ between a checkpoint's spec and that of the run that resumes it."""


@dataclass(frozen=True)
class TrainedSAE:
    sae: SAE
    """Float32 on the CPU, without gradients, for activations as the host has them."""
    baseline: SAE | None
    metrics: dict[str, Any]
    """tokens, steps, epochs, seconds, tokens_per_second, fvu, l0, loss, auxk (means over the last
    batches), dead_share, outliers, max_norm, activation_scale, product_dtype; fvu, l0, loss, auxk
    and dead_share of the frozen-decoder twin under ``baseline``."""
    history: list[Reading]
    """At most 200 readings: step, tokens, seconds, learning_rate, fvu, l0, loss, auxk, dead_share,
    and the twin's fvu as baseline_fvu.  All of them are in ``checkpoint_dir/metrics.jsonl``."""


def train_sae(
    spec: TrainRun,
    host: HostModel | Callable[[], HostModel] | None,
    store: TokenStore,
    source: RowSource,
    checkpoint_dir: Path,
    reporter: Reporter = SILENT,
) -> TrainedSAE:
    """Trains on the store's training documents; resumes from ``checkpoint_dir`` where it can.

    Stage ``train``, in tokens; the host's forwards, where nothing is cached, are part of it.  A run
    that is stopped (``Interrupted``, ``Cancelled``) writes a checkpoint before it ends; on a CPU a
    resumed run gives the very bits of one that was never stopped, given the same number of threads.
    Raises ``DataError`` for text or checkpoints that cannot be used.
    """
    del host  # the source reads it; part of the signature for objectives that run the host
    return TrainingLoop(spec, store, source, Path(checkpoint_dir)).run(reporter)


class TrainingLoop:
    """The state of one training run; ``run`` takes it from wherever it stands to the end."""

    def __init__(
        self, spec: TrainRun, store: TokenStore, source: RowSource, checkpoint_dir: Path
    ) -> None:
        self.spec, self.source, self.checkpoint_dir = spec, source, checkpoint_dir
        rows = store.training_rows()
        self.text_tokens = int(np.diff(store.row_start)[rows].sum())
        capacity = min(spec.training.buffer_tokens, self.text_tokens)
        self.stream = ActivationStream(source, rows, spec.training, capacity)
        self.device = choose_device(spec.model.device)
        self.trainer = self._trainer(frozen=False)
        self.twin = self._trainer(frozen=True) if spec.training.frozen_decoder_baseline else None
        self.product_dtype = _product_dtype(spec, self.device)
        self.batch = spec.training.batch_tokens
        self.total_steps = -(-spec.training.tokens // self.batch)
        self.step = 0
        self.scale = 1.0
        self.seconds = 0.0
        self._clock = time.monotonic()
        self.history = History(checkpoint_dir / "metrics.jsonl")
        relevant = spec.model_dump(mode="json", exclude=_IRRELEVANT)
        self.key = fingerprint([_STATE_FORMAT, relevant, store.text_id])

    def _trainer(self, frozen: bool) -> SAETrainer:
        sae = create(self.spec.sae, self.source.width)
        seed = self.spec.training.seed
        sae.initialise(torch.Generator().manual_seed(seed + (10_007 if frozen else 0)))
        return SAETrainer(sae.to(self.device), self.spec.training, frozen_decoder=frozen)

    def _trainers(self) -> list[SAETrainer]:
        return [self.trainer, *([self.twin] if self.twin else [])]

    def run(self, reporter: Reporter) -> TrainedSAE:
        """Stage ``train`` from the checkpoint, if there is one, to the end."""
        self._restore(reporter)
        self.history.start(self.step)
        for trainer in self._trainers():
            trainer.sae.product_dtype = self.product_dtype
        done, total = self.step * self.batch, self.total_steps * self.batch
        self._clock = time.monotonic()
        with reporter.stage("train", total, "tokens", done) as stage:
            # A long read tells that the run lives, and can be stopped within it.
            self.stream.on_read = lambda _tokens: stage.advance(0)
            try:
                if not self.stream.filled:
                    self._start(stage)
                self._loop(stage)
            except Stopped:
                self._save()
                raise
            self._save()
        return self._result()

    def _start(self, stage: Stage) -> None:
        """Scale and decoder bias from the data: the first fill of the buffer."""
        read = 0

        def show(tokens: int) -> None:
            nonlocal read
            read += tokens
            stage.advance(0, buffer_filled=round(min(1.0, read / len(self.stream.buffer)), 3))

        usual, self.stream.on_read = self.stream.on_read, show
        self.stream.fill()
        self.stream.on_read = usual
        sample = self.stream.buffer
        mean_norm = sample.norm(dim=1).mean()
        self.scale = float(sample.shape[1] ** 0.5 / mean_norm.clamp_min(1e-12))
        with torch.no_grad():
            for trainer in self._trainers():
                trainer.sae.b_dec.copy_(sample.mean(0) * self.scale)

    def _loop(self, stage: Stage) -> None:
        saved = time.monotonic()
        while self.step < self.total_steps:
            x_ND = self.stream.next_batch().to(self.device, non_blocking=True) * self.scale
            rate = learning_rate(self.step, self.total_steps, self.spec.training)
            for trainer in self._trainers():
                trainer.step(x_ND, self.step, rate)
            self.step += 1
            self._tick()
            shown = {}
            if self.step % _READ_EVERY == 0 or self.step in (1, self.total_steps):
                shown = self._read(rate)
            if time.monotonic() - saved >= self.spec.training.checkpoint_seconds:
                self._save()
                saved = time.monotonic()
            stage.advance(self.batch, **shown)

    def _tick(self) -> None:
        """Adds to ``seconds``, which a resumed run goes on counting."""
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now

    def _read(self, rate: float) -> dict[str, float]:
        readings = self.trainer.readings()
        line: Reading = {
            "step": self.step,
            "tokens": self.step * self.batch,
            "seconds": round(self.seconds, 2),
            "learning_rate": rate,
            **readings,
        }
        if self.twin is not None:
            line["baseline_fvu"] = self.twin.readings()["fvu"]
        self.history.add(line)
        names = {"fvu": "fvu", "l0": "l0", "dead": "dead_share", "loss": "loss"}
        return {shown: round(readings[name], 5) for shown, name in names.items()}

    def _save(self) -> None:
        """Writes a checkpoint, unless there is nothing yet but what the cache has anyway."""
        self.source.flush()
        if not self.stream.filled:
            return
        tensors: dict[str, Tensor] = self.trainer.state("sae")
        if self.twin is not None:
            tensors |= self.twin.state("baseline")
        stream_tensors, stream_values = self.stream.state()
        tensors |= {f"stream.{name}": value for name, value in stream_tensors.items()}
        values = {
            "stream": stream_values,
            "scale": self.scale,
            "seconds": self.seconds,
            "product_dtype": _name(self.product_dtype),
        }
        save_checkpoint(self.checkpoint_dir, Checkpoint(self.step, self.key, tensors, values))

    def _restore(self, reporter: Reporter) -> None:
        found = load_checkpoint(self.checkpoint_dir, self.key, reporter)
        if found is None:
            return
        stream = {
            name.removeprefix("stream."): value
            for name, value in found.tensors.items()
            if name.startswith("stream.")
        }
        try:
            self.stream.restore(stream, found.values["stream"])
            self.trainer.restore("sae", found.tensors)
            if self.twin is not None:
                self.twin.restore("baseline", found.tensors)
            self.scale, self.seconds = found.values["scale"], found.values["seconds"]
            # Not what this machine would choose: the run goes on as it began.
            self.product_dtype = getattr(torch, found.values["product_dtype"])
        except (KeyError, AttributeError) as error:
            raise DataError(
                f"The checkpoint in {self.checkpoint_dir} lacks {error}.",
                "Delete it to start over.",
            ) from None
        self.step = found.step
        reporter.log("resumed from a checkpoint", step=self.step, tokens=self.step * self.batch)

    def _result(self) -> TrainedSAE:
        tokens = self.step * self.batch
        metrics: dict[str, Any] = {
            "tokens": tokens,
            "steps": self.step,
            "epochs": round(tokens / max(self.text_tokens, 1), 2),
            "seconds": round(self.seconds, 1),
            "tokens_per_second": round(tokens / max(self.seconds, 1e-9), 1),
            **_rounded(self.trainer.readings()),
            "outliers": self.stream.outliers,
            "max_norm": self.stream.max_norm,
            "activation_scale": self.scale,
            "product_dtype": _name(self.product_dtype),
        }
        if self.twin is not None:
            metrics["baseline"] = _rounded(self.twin.readings())
        for trainer in self._trainers():
            trainer.sae.rescale(self.scale, self.scale)
            trainer.sae.product_dtype = None
            trainer.sae.requires_grad_(False).cpu()
        baseline = self.twin.sae if self.twin else None
        return TrainedSAE(self.trainer.sae, baseline, metrics, self.history.downsampled())


def _product_dtype(spec: TrainRun, device: torch.device) -> torch.dtype:
    """bfloat16 for the encoder's product where the host runs in it, or where it is the faster."""
    dtype = choose_dtype(spec.model.dtype, device)
    return choose_dtype("auto", device) if dtype == torch.float16 else dtype


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _rounded(readings: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in readings.items()}
