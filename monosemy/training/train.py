"""A training run: stream in, SAE (and its frozen-decoder twin) out, resumable at any step."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monosemy.data.store import TokenStore
from monosemy.errors import Stopped
from monosemy.models.host import HostModel
from monosemy.models.precision import bfloat16_is_faster_on_cpu
from monosemy.progress import SILENT, Reporter, Stage
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import TrainingSpec, TrainRun
from monosemy.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from monosemy.training.schedule import learning_rate
from monosemy.training.stream import ActivationStream, RowSource, StreamSettings
from monosemy.training.trainer import SAETrainer, StepMetrics

_LOG_SECONDS = 1.0
_SMOOTHING = 0.05
"""Weight of the newest reading in the averages that end up in ``metrics``."""


@dataclass(frozen=True)
class TrainedSAE:
    sae: SAE
    baseline: SAE | None
    metrics: dict[str, Any]
    """tokens, steps, epochs, seconds, tokens_per_second, fvu, l0, dead_share, outliers, max_norm,
    activation_scale; the frozen-decoder twin's fvu, l0 and dead_share under ``baseline``."""
    history: list[dict[str, Any]]
    """A reading about every second: step, tokens, fvu, l0, dead_share, loss."""


def train_sae(
    spec: TrainRun,
    host: HostModel,
    store: TokenStore,
    source: RowSource,
    checkpoint_dir: Path,
    reporter: Reporter = SILENT,
) -> TrainedSAE:
    """Trains on the store's training documents; resumes from ``checkpoint_dir`` where it can.

    A run that is stopped (``Interrupted``, ``Cancelled``) writes a checkpoint before it ends.
    """
    del host  # the source reads it; it is part of the signature for architectures that need it
    run = TrainingLoop(spec, store, source, checkpoint_dir)
    return run.run(reporter)


@dataclass
class _Averages:
    """Running means of the logged readings."""

    values: dict[str, float] = field(default_factory=dict)

    def add(self, **readings: float) -> None:
        for name, value in readings.items():
            old = self.values.get(name, value)
            self.values[name] = old + _SMOOTHING * (value - old)


class TrainingLoop:
    """The state of one training run; ``run`` takes it from wherever it stands to the end."""

    def __init__(
        self, spec: TrainRun, store: TokenStore, source: RowSource, checkpoint_dir: Path
    ) -> None:
        self.spec, self.checkpoint_dir = spec, checkpoint_dir
        training = spec.training
        settings = StreamSettings(
            training.batch_tokens,
            training.buffer_tokens,
            training.host_rows,
            training.seed,
            training.max_norm_ratio,
        )
        self.stream = ActivationStream(source, store.training_rows(), settings)
        self.trainer = self._trainer(source.width, training, frozen=False)
        self.twin = (
            self._trainer(source.width, training, frozen=True)
            if training.frozen_decoder_baseline
            else None
        )
        self.total_steps = -(-training.tokens // training.batch_tokens)
        self.step = 0
        self.scale = 1.0
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.averages, self.twin_averages = _Averages(), _Averages()

    def _trainer(self, width: int, training: TrainingSpec, frozen: bool) -> SAETrainer:
        sae = create(self.spec.sae, width)
        sae.initialise(torch.Generator().manual_seed(training.seed + (10_007 if frozen else 0)))
        if bfloat16_is_faster_on_cpu():
            sae.product_dtype = torch.bfloat16
        return SAETrainer(sae, training, frozen_decoder=frozen)

    def run(self, reporter: Reporter) -> TrainedSAE:
        batch = self.spec.training.batch_tokens
        resumed = self._restore()
        if resumed:
            reporter.log("resumed from checkpoint", step=self.step, tokens=self.step * batch)
        done, total = self.step * batch, self.total_steps * batch
        if not resumed:
            with reporter.stage("fill", len(self.stream.buffer), "tokens") as fill:
                self.stream.on_read = fill.advance
                self._start()
                self.stream.on_read = None
        with reporter.stage("train", total, "tokens", done) as stage:
            try:
                self._loop(stage, batch)
            except Stopped:
                self._save()
                raise
        return self._result()

    def _start(self) -> None:
        """Scale and decoder bias from the data: the first fill of the buffer."""
        sample = self.stream.first_fill()
        mean_norm = sample.norm(dim=1).mean()
        self.scale = float(sample.shape[1] ** 0.5 / mean_norm.clamp_min(1e-12))
        with torch.no_grad():
            for trainer in self._trainers():
                trainer.sae.b_dec.copy_(sample.mean(0) * self.scale)

    def _trainers(self) -> list[SAETrainer]:
        return [self.trainer, *([self.twin] if self.twin else [])]

    def _loop(self, stage: Stage, batch: int) -> None:
        started = logged = saved = time.monotonic()
        before = self.seconds
        while self.step < self.total_steps:
            x_ND = self.stream.next_batch() * self.scale
            rate = learning_rate(self.step, self.total_steps, self.spec.training)
            metrics = self.trainer.step(x_ND, self.step, rate)
            twin_metrics = self.twin.step(x_ND, self.step, rate) if self.twin else None
            self.step += 1
            now = time.monotonic()
            self.seconds = before + now - started
            readings: dict[str, float] = {}
            if now - logged >= _LOG_SECONDS or self.step == self.total_steps or self.step == 1:
                readings = self._log(metrics, twin_metrics)
                logged = now
            if now - saved >= self.spec.training.checkpoint_seconds:
                self._save()
                saved = time.monotonic()
            stage.advance(batch, **readings)

    def _log(self, metrics: StepMetrics, twin: StepMetrics | None) -> dict[str, float]:
        readings = {
            "fvu": float(metrics.fvu),
            "l0": float(metrics.l0),
            "dead_share": self.trainer.dead_share(),
        }
        self.averages.add(**readings)
        if twin is not None and self.twin is not None:
            self.twin_averages.add(
                fvu=float(twin.fvu), l0=float(twin.l0), dead_share=self.twin.dead_share()
            )
        tokens = self.step * self.spec.training.batch_tokens
        line = {"step": self.step, "tokens": tokens, "loss": float(metrics.loss), **readings}
        self.history.append(line)
        self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        with (self.checkpoint_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return readings

    def _save(self) -> None:
        self.stream.source.flush()
        tensors: dict[str, Tensor] = self.trainer.state("sae")
        if self.twin is not None:
            tensors |= self.twin.state("baseline")
        stream_tensors, stream_values = self.stream.state()
        tensors |= {f"stream.{name}": value for name, value in stream_tensors.items()}
        values = {
            "stream": stream_values,
            "scale": self.scale,
            "seconds": self.seconds,
            "history": self.history,
            "averages": self.averages.values,
            "twin_averages": self.twin_averages.values,
            "spec": self.spec.model_dump(mode="json"),
        }
        save_checkpoint(self.checkpoint_dir, Checkpoint(self.step, tensors, values))

    def _restore(self) -> bool:
        found = load_checkpoint(self.checkpoint_dir)
        if found is None or found.values["spec"] != self.spec.model_dump(mode="json"):
            return False
        self.trainer.restore("sae", found.tensors)
        if self.twin is not None:
            self.twin.restore("baseline", found.tensors)
        stream = {
            name.removeprefix("stream."): value
            for name, value in found.tensors.items()
            if name.startswith("stream.")
        }
        self.stream.restore(stream, found.values["stream"])
        self.step = found.step
        self.scale = found.values["scale"]
        self.seconds = found.values["seconds"]
        self.history = found.values["history"]
        self.averages.values = found.values["averages"]
        self.twin_averages.values = found.values["twin_averages"]
        return True

    def _result(self) -> TrainedSAE:
        dead_share = self.trainer.dead_share()
        for trainer in self._trainers():
            trainer.sae.rescale_input(self.scale)
            trainer.sae.product_dtype = torch.float32
            trainer.sae.requires_grad_(False)
        tokens = self.step * self.spec.training.batch_tokens
        metrics: dict[str, Any] = {
            "tokens": tokens,
            "steps": self.step,
            "epochs": round(
                self.stream.epoch + self.stream.next_row / len(self.stream.all_rows), 2
            ),
            "seconds": round(self.seconds, 1),
            "tokens_per_second": round(tokens / max(self.seconds, 1e-9), 1),
            **{name: round(value, 5) for name, value in self.averages.values.items()},
            "dead_share": round(dead_share, 5),
            "outliers": self.stream.outliers,
            "max_norm": self.stream.max_norm,
            "activation_scale": self.scale,
        }
        if self.twin is not None:
            twin = {name: round(value, 5) for name, value in self.twin_averages.values.items()}
            metrics["baseline"] = twin | {"dead_share": round(self.twin.dead_share(), 5)}
        baseline = self.twin.sae if self.twin else None
        return TrainedSAE(self.trainer.sae, baseline, metrics, self.history)
