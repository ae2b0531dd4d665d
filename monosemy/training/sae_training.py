"""One SAE of a training run: its part of the stream, its twin, its scale and its readings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monosemy.progress import Reporter
from monosemy.saes.base import SAE
from monosemy.specs import TrainRun, TranscoderSpec
from monosemy.training.history import History, Reading
from monosemy.training.initial_bias import middle
from monosemy.training.page import density_histogram
from monosemy.training.run_group import ALONE, RunGroup
from monosemy.training.schedule import learning_rate
from monosemy.training.tracker import Tracker
from monosemy.training.trainer import SAETrainer

_CALIBRATION_TOKENS = 65_536
_BEGIN_TOKENS = 8192


@dataclass(frozen=True)
class TrainedSAE:
    sae: SAE
    """Float32 on the CPU, without gradients, for activations as the host has them."""
    baseline: SAE | None
    metrics: dict[str, Any]
    """tokens, steps, epochs, seconds, tokens_per_second, fvu, l0, loss and the architecture's terms
    (means over the last batches), dead_share, density (``density_histogram``), outliers, max_norm,
    activation_scale, product_dtype; fvu, l0, loss, the terms and dead_share of the frozen-decoder
    twin under ``baseline``."""
    history: list[Reading]
    """At most 200 readings: step, tokens, seconds, learning_rate, fvu, l0, loss, the terms,
    dead_share, and the twin's fvu as baseline_fvu.  All of them are in the run's folder."""
    density: Tensor
    """Share of the training tokens (the last few hundred batches) on which each latent fired."""


class SAETraining:
    """``columns`` says where in the stream each site of the run is."""

    def __init__(
        self,
        spec: TrainRun,
        columns: Mapping[str, slice],
        device: torch.device,
        file: Path,
        group: RunGroup = ALONE,
    ) -> None:
        self.spec = spec
        self.group = group
        self.site = columns[spec.site]
        is_transcoder = isinstance(spec.sae, TranscoderSpec)
        self.target = columns[spec.sae.target_site] if is_transcoder else None  # type: ignore[union-attr]
        self.device = device
        self.trainer = self._trainer(frozen=False)
        self.twin = self._trainer(frozen=True) if spec.training.frozen_decoder_baseline else None
        self.history = History(file)
        self.tracker: Tracker | None = None
        self.scale = self.target_scale = 1.0

    def _trainer(self, frozen: bool) -> SAETrainer:
        d_out = _width(self.target) if self.target is not None else None
        seed = self.spec.training.seed + (10_007 if frozen else 0)
        generator = torch.Generator().manual_seed(seed)
        sae = self.group.create(self.spec.sae, _width(self.site), d_out, generator)
        return SAETrainer(sae.to(self.device), self.spec.training, frozen_decoder=frozen)

    @property
    def trainers(self) -> list[SAETrainer]:
        return [self.trainer, *([self.twin] if self.twin else [])]

    def begin(self, step: int, reporter: Reporter) -> None:
        """Opens what readings go to, at the step the run starts or resumes from."""
        self.history.start(step)
        if self.spec.training.tracker is not None and self.group.rank == 0:
            config = self.spec.model_dump(mode="json")
            self.tracker = Tracker(self.spec.training.tracker, self.spec.name, config, reporter)

    def end(self) -> None:
        if self.tracker is not None:
            self.tracker.close()

    def start(self, sample_NW: Tensor) -> None:
        """Scales and decoder bias from the first tokens of the stream."""
        self.scale = self._scale(sample_NW[:, self.site])
        reconstructed = self.site if self.target is None else self.target
        self.target_scale = self._scale(sample_NW[:, reconstructed])
        own_NW = sample_NW[: _BEGIN_TOKENS // self.group.processes, self.site]
        x_ND = self.group.gathered(own_NW).to(self.device) * self.scale
        bias = middle(sample_NW[:, reconstructed], self.spec.training.decoder_bias)
        centre = self.group.mean(bias)
        with torch.no_grad():
            for trainer in self.trainers:
                trainer.sae.b_dec.copy_(centre * self.target_scale)
                trainer.sae.begin(x_ND)

    def _scale(self, x_ND: Tensor) -> float:
        """Brings the mean norm to ``sqrt(d)``: rates and penalties mean the same everywhere."""
        typical = self.group.mean(x_ND.norm(dim=1).mean())
        return float(x_ND.shape[1] ** 0.5 / typical.clamp_min(1e-12))

    def step(self, batch_NW: Tensor, number: int, total_steps: int) -> None:
        """Trains SAE and twin on one batch of the stream, which is on the device already."""
        x_ND = batch_NW[:, self.site] * self.scale
        target_ND = None if self.target is None else batch_NW[:, self.target] * self.target_scale
        rate = self.rate(number, total_steps)
        for trainer in self.trainers:
            trainer.step(x_ND, number, rate, total_steps, target_ND)

    def rate(self, number: int, total_steps: int) -> float:
        return learning_rate(number, total_steps, self.spec.training)

    def read(self, place: Reading, rate: float) -> Reading:
        """Adds a line to the history: ``place`` (step, tokens, seconds) and the readings."""
        line: Reading = {**place, "learning_rate": rate, **self.trainer.readings()}
        if self.twin is not None:
            line["baseline_fvu"] = self.twin.readings()["fvu"]
        self.history.add(line)
        if self.tracker is not None:
            self.tracker.log(line)
        return line

    def state(self, prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """For the checkpoint: tensors, their names under ``prefix``, and plain values."""
        tensors = self.trainer.state(f"{prefix}sae")
        if self.twin is not None:
            tensors |= self.twin.state(f"{prefix}baseline")
        return tensors, {"scale": self.scale, "target_scale": self.target_scale}

    def restore(self, prefix: str, tensors: dict[str, Tensor], values: Mapping[str, Any]) -> None:
        """Raises ``KeyError`` or ``DataError`` where the checkpoint is of something else."""
        self.trainer.restore(f"{prefix}sae", tensors)
        if self.twin is not None:
            self.twin.restore(f"{prefix}baseline", tensors)
        self.scale, self.target_scale = values["scale"], values["target_scale"]

    def finish(self, sample_NW: Tensor, metrics: dict[str, Any]) -> TrainedSAE:
        """Calibrates on tokens of the stream and folds the scales into the weights."""
        metrics = {**metrics, **_rounded(self.trainer.readings()), "activation_scale": self.scale}
        if self.twin is not None:
            metrics["baseline"] = _rounded(self.twin.readings())
        x_ND = sample_NW[:_CALIBRATION_TOKENS, self.site].to(self.device) * self.scale
        for trainer in self.trainers:
            with torch.no_grad():
                trainer.sae.calibrate(x_ND)
            trainer.sae.rescale(self.scale, self.target_scale)
            trainer.sae.product_dtype = None
            trainer.sae.requires_grad_(False)
        sae, *twin = [self.group.whole(trainer.sae, self.spec.sae) for trainer in self.trainers]
        density = self.group.whole_density(self.trainer.density).float().cpu()
        metrics["density"] = density_histogram(density.tolist())
        shown = self.history.downsampled()
        return TrainedSAE(sae, twin[0] if twin else None, metrics, shown, density)


def _width(columns: slice) -> int:
    return int(columns.stop - columns.start)


def _rounded(readings: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in readings.items()}
