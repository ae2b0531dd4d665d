"""One SAE of a training run: its part of the stream, its baseline, its scale and its
readings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from monosemy.models.columns import Columns
from monosemy.progress import Reporter
from monosemy.saes.base import SAE, Factor
from monosemy.specs import TrainRun
from monosemy.specs.readings import BASELINE, TrainingReading, figures
from monosemy.training.history import History
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
    baseline under ``frozen_decoder_baseline``."""
    history: list[TrainingReading]
    """At most 200 readings; all of them are in the run's folder."""
    density: Tensor
    """Share of the training tokens (the last few hundred batches) on which each latent fired."""


class SAETraining:
    """``columns`` says where in the stream each place is (``ActivationSource.columns``)."""

    def __init__(
        self,
        spec: TrainRun,
        columns: Mapping[str, slice],
        device: torch.device,
        history: History,
        group: RunGroup = ALONE,
    ) -> None:
        self.spec = spec
        self.group = group
        self.columns = Columns.of(spec.hooks, columns)
        self.device = device
        self.trainer = self._trainer(frozen=False)
        self.baseline = (
            self._trainer(frozen=True) if spec.training.frozen_decoder_baseline else None
        )
        self.history = history
        self.tracker: Tracker | None = None
        one = self.trainer.sae.one_scale
        self.scale = Scale(self.columns.read, one)
        """What is read is multiplied by this, what is written by ``target_scale``."""
        write_columns = self.columns.written
        self.target_scale = self.scale if write_columns is None else Scale(write_columns, one)

    def _trainer(self, frozen: bool) -> SAETrainer:
        write_columns = self.columns.written
        d_out = None if write_columns is None else sum(map(_width, write_columns))
        seed = self.spec.training.seed + (10_007 if frozen else 0)
        generator = torch.Generator().manual_seed(seed)
        d_in = sum(map(_width, self.columns.read))
        sae = self.group.create(self.spec.sae, d_in, d_out, generator)
        read = list(map(_width, self.columns.read))
        sae.check_widths(read, read if write_columns is None else list(map(_width, write_columns)))
        return SAETrainer(sae.to(self.device), self.spec.training, frozen_decoder=frozen)

    @property
    def trainers(self) -> list[SAETrainer]:
        return [self.trainer, *([self.baseline] if self.baseline else [])]

    def begin(self, step: int, reporter: Reporter) -> None:
        """Opens what readings go to, at the step the run starts or resumes from."""
        self.history.start(step, reporter)
        if self.spec.training.tracker is not None and self.group.rank == 0:
            config = self.spec.model_dump(mode="json")
            self.tracker = Tracker(self.spec.training.tracker, self.spec.name, config, reporter)

    def end(self) -> None:
        if self.tracker is not None:
            self.tracker.close()

    @property
    def starts_with_mlp(self) -> str | None:
        """The place whose MLP's rows the decoder starts with, if it is to."""
        wanted = getattr(self.spec.sae, "initial_decoder", "random") == "mlp"
        return str(self.spec.hooks.writes[0]) if wanted else None

    def start(self, sample_NW: Tensor, mlp_rows: Tensor | None = None) -> None:
        """Scales and decoder bias from the first tokens of the stream; ``mlp_rows``
        ``[d_mlp, d_out]`` where the decoder ``starts_with_mlp``."""
        self.scale.measure(sample_NW, self.group)
        if self.target_scale is not self.scale:
            self.target_scale.measure(sample_NW, self.group)
        own_ND = self.columns.reads(sample_NW[: _BEGIN_TOKENS // self.group.processes])
        x_ND = self.group.gathered(own_ND).to(self.device) * self.scale.factor(self.device)
        target_ND = self.columns.target(sample_NW)
        target_ND = self.columns.reads(sample_NW) if target_ND is None else target_ND
        bias = middle(target_ND, self.spec.training.decoder_bias)
        centre = self.group.mean(bias) * self.target_scale.factor(sample_NW.device)
        if mlp_rows is not None:
            generator = torch.Generator().manual_seed(self.spec.training.seed)
            self.trainer.sae.take_decoder_rows(mlp_rows, generator)
        rate = getattr(self.spec.sae, "initial_rate", None)
        with torch.no_grad():
            for trainer in self.trainers:
                trainer.sae.b_dec.copy_(centre)
                trainer.sae.begin(x_ND)
                if rate is not None:
                    trainer.sae.fire_at(x_ND, rate)

    def step(self, batch_NW: Tensor, number: int, total_steps: int) -> None:
        """Trains SAE and baseline on one batch of the stream, which is on the device already."""
        x_ND = self.columns.reads(batch_NW) * self.scale.factor(self.device)
        target_ND = self.columns.target(batch_NW)
        if target_ND is not None:
            target_ND = target_ND * self.target_scale.factor(self.device)
        rate = self.rate(number, total_steps)
        for trainer in self.trainers:
            trainer.step(x_ND, number, rate, total_steps, target_ND)

    def rate(self, number: int, total_steps: int) -> float:
        return learning_rate(number, total_steps, self.spec.training)

    def read(self, step: int, tokens: int, seconds: float, rate: float) -> TrainingReading:
        """Adds a reading to the history."""
        baseline = None if self.baseline is None else figures(self.baseline.readings())
        reading = TrainingReading.model_validate(
            {
                **{"step": step, "tokens": tokens, "seconds": seconds, "learning_rate": rate},
                **figures(self.trainer.readings()),
                BASELINE: baseline,
            }
        )
        self.history.add(reading)
        if self.tracker is not None:
            self.tracker.log(step, reading.flat())
        return reading

    def state(self, prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """For the checkpoint: tensors, their names under ``prefix``, and plain values."""
        tensors = self.trainer.state(f"{prefix}sae")
        if self.baseline is not None:
            tensors |= self.baseline.state(f"{prefix}baseline")
        return tensors, {"scale": self.scale.value, "target_scale": self.target_scale.value}

    def restore(self, prefix: str, tensors: dict[str, Tensor], values: Mapping[str, Any]) -> None:
        """Raises ``KeyError`` or ``DataError`` where the checkpoint is of something else."""
        self.trainer.restore(f"{prefix}sae", tensors)
        if self.baseline is not None:
            self.baseline.restore(f"{prefix}baseline", tensors)
        self.scale.value, self.target_scale.value = values["scale"], values["target_scale"]

    def finish(self, sample_NW: Tensor, metrics: dict[str, Any]) -> TrainedSAE:
        """Calibrates on tokens of the stream and folds the scales into the weights."""
        metrics = {
            **metrics,
            **_rounded(self.trainer.readings()),
            "activation_scale": self.scale.value,
        }
        if self.baseline is not None:
            metrics[BASELINE] = _rounded(self.baseline.readings())
        x_ND = self.columns.reads(sample_NW[:_CALIBRATION_TOKENS]).to(self.device)
        x_ND = x_ND * self.scale.factor(self.device)
        for trainer in self.trainers:
            with torch.no_grad():
                trainer.sae.calibrate(x_ND)
            factor = self.scale.factor(self.device)
            same = self.target_scale is self.scale
            trainer.sae.rescale(factor, factor if same else self.target_scale.factor(self.device))
            trainer.sae.product_dtype = None
            trainer.sae.requires_grad_(False)
        sae, *baseline = [
            self.group.whole_sae(trainer.sae, self.spec.sae) for trainer in self.trainers
        ]
        density = self.group.whole_density(self.trainer.density).float().cpu()
        metrics["density"] = density_histogram(density.tolist())
        history = self.history.downsampled()
        return TrainedSAE(sae, baseline[0] if baseline else None, metrics, history, density)


class Scale:
    """What brings activations to a mean norm of ``sqrt(d)`` at each place, so that rates and
    penalties mean the same everywhere and every place counts by its width; with ``one``, all places
    together by the same number."""

    def __init__(self, parts: Sequence[slice], one: bool) -> None:
        self.parts = parts
        self.value: float | list[float] = 1.0 if one or len(parts) == 1 else [1.0] * len(parts)
        """One number, or one for each place."""
        self._vector: tuple[list[float], Tensor] | None = None

    def measure(self, sample_NW: Tensor, group: RunGroup) -> None:
        """Sets ``value`` by tokens of the stream, those of all processes."""
        if isinstance(self.value, list):
            self.value = [_factor(sample_NW[:, part], group) for part in self.parts]
        else:
            self.value = _factor(Columns(tuple(self.parts)).reads(sample_NW), group)

    def factor(self, device: torch.device) -> Factor:
        """The number, or a vector ``[d]`` that has each place's along its width."""
        if not isinstance(self.value, list):
            return self.value
        if self._vector is None or self._vector[0] != self.value:
            widths = torch.tensor([_width(part) for part in self.parts])
            vector_D = torch.tensor(self.value).repeat_interleave(widths)
            self._vector = self.value, vector_D.to(device)  # once: a copy waits for the device
        return self._vector[1].to(device)


def _factor(x_ND: Tensor, group: RunGroup) -> float:
    typical = group.mean(x_ND.norm(dim=1).mean())
    return float(x_ND.shape[1] ** 0.5 / typical.clamp_min(1e-12))


def _width(columns: slice) -> int:
    return int(columns.stop - columns.start)


def _rounded(readings: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in readings.items()}
