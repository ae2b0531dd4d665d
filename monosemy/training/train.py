"""A training run: one stream in, one SAE or many (with frozen-decoder baselines) out, resumable at
any step."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.changes import listed
from monosemy.data.store import TokenStore
from monosemy.data.text_stamp import text_changes
from monosemy.errors import DataError, Interrupted, Stopped
from monosemy.models.columns import Limits, columns_of
from monosemy.models.fingerprint import changed_parts
from monosemy.models.packing import reading_order
from monosemy.models.precision import choose_device, choose_dtype
from monosemy.progress import SILENT, Reporter, Stage
from monosemy.specs import TrainingSpec, TrainRun
from monosemy.specs.hooks import Hooks
from monosemy.specs.memory import sae_bytes
from monosemy.specs.readings import BASELINE_FVU
from monosemy.training.buffer import choose_placement
from monosemy.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from monosemy.training.history import READ_EVERY, History, history_file
from monosemy.training.run_group import ALONE, RunGroup
from monosemy.training.sae_training import SAETraining, TrainedSAE
from monosemy.training.signals import Signalled, StopSignals
from monosemy.training.stream import ActivationStream, RowSource, mlp_rows
from monosemy.training.terms import PROCESSES, check_terms, flat, stream_terms, training_terms
from monosemy.versions import versions
from monosemy.workspace import fingerprint

__all__ = ["TrainedSAE", "TrainingLoop", "train_sae", "train_saes"]

_STATE_FORMAT = 3
"""Part of a checkpoint's key: raise it when the meaning of its contents changes."""


def train_sae(
    spec: TrainRun,
    store: TokenStore,
    source: RowSource,
    checkpoint_dir: Path,
    reporter: Reporter = SILENT,
) -> TrainedSAE:
    """``train_saes`` for one."""
    return train_saes([spec], store, source, checkpoint_dir, reporter)[0]


def train_saes(
    specs: Sequence[TrainRun],
    store: TokenStore,
    source: RowSource,
    checkpoint_dir: Path,
    reporter: Reporter = SILENT,
    stream: TrainingSpec | None = None,
    group: RunGroup = ALONE,
) -> list[TrainedSAE]:
    """Trains on the store's training documents, all SAEs on the very same batches.

    ``source`` has the places of all of them side by side (``ActivationSource.columns``).  Length,
    batch, buffer and the seed of the order come from ``stream`` (the first spec's training, by
    default); each SAE has its own rate, seed and architecture.
    Stage ``train``, in tokens; the host's forwards, where nothing is cached, are part of it.  A run
    that is stopped (``Interrupted``, ``Cancelled``) writes a checkpoint before it ends; on a CPU a
    resumed run gives the very bits of one that was never stopped, given the same number of threads.
    A SIGINT or SIGTERM that nobody else handles does so too, then ends as it usually does.
    Raises ``DataError`` for text or checkpoints that cannot be used, and where ``checkpoint_dir``
    holds those of a run on other terms (spec, text, number of processes), which it names.  Every
    process of a ``group`` calls this, with the same arguments, and gets the same SAEs.
    """
    loop = TrainingLoop(
        specs, store, source, Path(checkpoint_dir), stream or specs[0].training, group
    )
    return loop.run(reporter)


class TrainingLoop:
    """The state of one training run; ``run`` takes it from wherever it stands to the end."""

    def __init__(
        self,
        specs: Sequence[TrainRun],
        store: TokenStore,
        source: RowSource,
        checkpoint_dir: Path,
        training: TrainingSpec,
        group: RunGroup = ALONE,
    ) -> None:
        self.source, self.training, self.group = source, training, group
        self.history_dir = checkpoint_dir
        self.checkpoint_dir = checkpoint_dir
        if group.processes > 1:
            self.checkpoint_dir = checkpoint_dir / f"process-{group.rank}"
            self.history_dir = self.checkpoint_dir if group.rank else checkpoint_dir
        rows = store.training_rows()
        self.text_tokens = int(np.diff(store.row_start)[rows].sum())
        self.columns = columns_of(source, specs[0].hooks)
        self.batch = training.batch_tokens
        self.total_steps = -(-training.tokens // self.batch)
        self.device = choose_device(specs[0].model.device)
        self.stream = self._stream(specs, store, rows)
        self.saes = [
            SAETraining(spec, self.columns, self.device, self._history(i, len(specs)), group)
            for i, spec in enumerate(specs)
        ]
        self.product_dtype = _product_dtype(specs[0], self.device)
        if any(group.any(self.product_dtype == torch.float32)):  # a machine may find either faster
            self.product_dtype = torch.float32
        self.step = 0
        self.seconds = 0.0
        self._clock = time.monotonic()
        relevant = [training_terms(spec) for spec in specs]
        shared = stream_terms(training)
        others: dict[str, str] = getattr(source, "other_hosts", dict)()
        made_of = [_STATE_FORMAT, relevant, shared, store.text_id]
        self.key = fingerprint([*made_of, others] if others else made_of)
        spec_terms = {"saes": relevant} if len(relevant) > 1 else relevant[0]
        self.terms = {
            **flat({**spec_terms, **({"stream": shared} if len(relevant) > 1 else {})}),
            "format": _STATE_FORMAT,
            "text_id": store.text_id,
            **flat(others, "host"),
            PROCESSES: group.processes,
        }
        self.store = store
        self.about: dict[str, Any] = {}
        if isinstance(store, TokenStore):
            self.about = {"model": store.host_info, "text": store.summary()}
        self.run_dir = checkpoint_dir
        self.signals = StopSignals()

    def _history(self, place: int, count: int) -> History:
        return History(history_file(self.history_dir, place, count), place, self.total_steps)

    def _stream(
        self, specs: Sequence[TrainRun], store: TokenStore, rows: npt.NDArray[np.int64]
    ) -> ActivationStream:
        source, units = reading_order(self.source, store, rows)
        share = self.group.share(self.training)
        total = self.total_steps * share.batch_tokens
        capacity = min(share.buffer_tokens, self.text_tokens // self.group.processes, total)
        parts = list(self.columns.values())
        widest = max(part.stop - part.start for part in parts)
        placement = choose_placement(
            share,
            self.device,
            getattr(self.source, "dtype", None) or choose_dtype(specs[0].model.dtype, self.device),
            numbers=max(capacity, 2 * share.batch_tokens) * source.width,
            beside=sae_bytes(specs, self.training, widest),
        )
        return ActivationStream(
            source,
            self.group.rows(units),
            share,
            capacity,
            columns=parts,
            mean=self.group.mean,
            total=total,
            placement=placement,
        )

    def run(self, reporter: Reporter) -> list[TrainedSAE]:
        """Stage ``train`` from the checkpoint, if there is one, to the end."""
        self._restore(reporter)
        for sae in self.saes:
            sae.begin(self.step, reporter)
            for trainer in sae.trainers:
                trainer.sae.product_dtype = self.product_dtype
        done, total = self.step * self.batch, self.total_steps * self.batch
        self._clock = time.monotonic()
        with reporter.stage("train", total, "tokens", done) as stage:
            if self.group.processes == 1:
                # A long read tells that the run lives, and can be stopped within it.  Of several
                # processes none may stop there: the others would wait for it.
                self.stream.on_read = lambda _tokens: self._show(stage)
            try:
                with self.signals:
                    if not self.stream.filled:
                        self._start(stage)
                    self._loop(stage)
            except Signalled as signalled:
                self._save()
                reporter.log("stopped by a signal; the state is saved", step=self.step)
                raise signalled.reason from None
            except Stopped:
                self._save()
                raise
            self._save()
        for sae in self.saes:
            sae.end()
        return self._results()

    def _show(self, stage: Stage, **metrics: Any) -> None:
        """A long read tells so; raises ``Stopped`` if it is to end."""
        self.signals.check()
        stage.advance(0, **metrics)

    def _start(self, stage: Stage) -> None:
        """Scale and decoder bias from the data: the first fill of the buffer."""
        read = 0

        def show(tokens: int) -> None:
            nonlocal read
            read += tokens
            if self.group.stop_asked():
                raise Interrupted
            self._show(stage, buffer_filled=round(min(1.0, read / len(self.stream.buffer)), 3))

        usual, self.stream.on_read = self.stream.on_read, show
        self.stream.fill()
        self.stream.on_read = usual
        stage.progress.metrics.pop("buffer_filled", None)  # no news from here on
        for sae in self.saes:
            place = sae.starts_with_mlp
            rows = None if place is None else mlp_rows(self.source, place)
            sae.start(self.stream.buffer.sample(), rows)

    def _loop(self, stage: Stage) -> None:
        saved = time.monotonic()
        while self.step < self.total_steps:
            batch_NW = self.group.batch(self.stream.next_batch())
            for sae in self.saes:
                sae.step(batch_NW, self.step, self.total_steps)
            self.step += 1
            self._tick()
            figures = {}
            if self.step % READ_EVERY == 0 or self.step in (1, self.total_steps):
                figures = self._read()
            due = time.monotonic() - saved >= self.training.checkpoint_seconds
            due, stop = self.group.any(due, self.group.stop_asked())
            if due:
                self._save()
                saved = time.monotonic()
            if stop:
                raise Interrupted
            self.signals.check()
            stage.advance(self.batch, **figures)

    def _tick(self) -> None:
        """Adds to ``seconds``, which a resumed run goes on counting."""
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now

    def _read(self) -> dict[str, float]:
        """Writes everybody's readings; shows those of the first."""
        tokens, seconds = self.step * self.batch, round(self.seconds, 2)
        first, *_ = [
            sae.read(self.step, tokens, seconds, sae.rate(self.step - 1, self.total_steps))
            for sae in self.saes
        ]
        values = first.flat()
        figures = {name: round(values[name], 5) for name in ("fvu", "l0", "dead_share", "loss")}
        figures["learning_rate"] = float(f"{values['learning_rate']:.4g}")
        if first.frozen_decoder_baseline is not None:
            figures[BASELINE_FVU] = round(first.frozen_decoder_baseline.fvu, 5)
        return figures

    def _prefix(self, number: int) -> str:
        return "" if len(self.saes) == 1 else f"{number}."

    def _save(self) -> None:
        """Writes a checkpoint, unless there is nothing yet but what the cache has anyway."""
        self.source.flush()
        if not self.stream.filled:
            return
        stream_tensors, stream_values = self.stream.state()
        tensors: dict[str, Tensor] = {f"stream.{name}": t for name, t in stream_tensors.items()}
        members: list[dict[str, Any]] = []
        for number, sae in enumerate(self.saes):
            own, values = sae.state(self._prefix(number))
            tensors |= own
            members.append(values)
        state = {
            "stream": stream_values,
            "members": members,
            "seconds": self.seconds,
            "product_dtype": _name(self.product_dtype),
            "versions": versions(),
        }
        save_checkpoint(
            self.checkpoint_dir,
            Checkpoint(self.step, self.key, tensors, state, self.terms, self.about),
        )

    def _changed_since(self, about: dict[str, Any]) -> list[str]:
        """What of host model and text is not as a checkpoint tells; nothing where it is silent."""
        if not about or not self.about:
            return []
        model, text = about.get("model") or {}, about.get("text") or {}
        parts = self.store.host_info.get("parts") or {}
        changes = changed_parts(model.get("parts") or {}, parts) if parts else []
        if changes:
            changes = [f"the host model ({listed(changes)})"]
        return [*changes, *text_changes(text, self.store)]

    def _restore(self, reporter: Reporter) -> None:
        check_terms(self.run_dir, self.key, self.terms, self._changed_since)
        checkpoint = load_checkpoint(self.checkpoint_dir, self.key, reporter)
        # Of several processes some may have died before they had saved the last step.
        common = self.group.least(-1 if checkpoint is None else checkpoint.step)
        if checkpoint is None or common < 0:
            if checkpoint is not None:
                reporter.log("another process has no sound checkpoint: training starts over")
            return
        if checkpoint.step > common:
            checkpoint = load_checkpoint(self.checkpoint_dir, self.key, reporter, at_most=common)
        steps = [
            self.group.least(sign * (checkpoint.step if checkpoint else -1)) for sign in (1, -1)
        ]
        if checkpoint is None or steps != [common, -common]:
            raise DataError(
                f"The checkpoints of the processes in {self.history_dir} are of different steps.",
                "Delete them to start over.",
            )
        stream = {
            name.removeprefix("stream."): value
            for name, value in checkpoint.tensors.items()
            if name.startswith("stream.")
        }
        try:
            self.stream.restore(stream, checkpoint.values["stream"])
            for number, sae in enumerate(self.saes):
                sae.restore(
                    self._prefix(number), checkpoint.tensors, checkpoint.values["members"][number]
                )
            self.seconds = checkpoint.values["seconds"]
            # Not what this machine would choose: the run goes on as it began.
            self.product_dtype = getattr(torch, checkpoint.values["product_dtype"])
        except (KeyError, AttributeError, IndexError) as error:
            raise DataError(
                f"The checkpoint in {self.checkpoint_dir} lacks {error}.",
                "Delete it to start over.",
            ) from None
        self.step = checkpoint.step
        before, now = checkpoint.values.get("versions", {}), versions()
        changed = {name: f"{before[name]}, now {now.get(name)}" for name in before}
        changed = {
            name: change for name, change in changed.items() if before[name] != now.get(name)
        }
        if changed:
            warning = "other versions than the run began with: its bits may differ"
            reporter.log(warning, **changed)
        reporter.log("resumed from a checkpoint", step=self.step, tokens=self.step * self.batch)

    def _results(self) -> list[TrainedSAE]:
        tokens = self.step * self.batch
        metrics: dict[str, Any] = {
            "tokens": tokens,
            "steps": self.step,
            "epochs": round(tokens / max(self.text_tokens, 1), 2),
            "seconds": round(self.seconds, 1),
            "tokens_per_second": round(tokens / max(self.seconds, 1e-9), 1),
            "outliers": self.group.total(self.stream.outliers),
            "devices": self.group.processes,
            "product_dtype": _name(self.product_dtype),
        }
        limits = self.stream.max_norms
        by_place = dict(zip(self.columns, limits, strict=True)) if limits else {}
        sample_NW = self.stream.buffer.sample()
        return [
            sae.finish(sample_NW, {**metrics, "max_norm": _limit(sae.spec.hooks, by_place)})
            for sae in self.saes
        ]


def _limit(hooks: Hooks, by_place: Mapping[str, float]) -> Limits:
    """The largest norms at what is read: one number where that is one place."""
    if len(hooks.reads) == 1 or not by_place:
        return by_place.get(hooks.site)
    return {str(hook): by_place[str(hook)] for hook in hooks.reads}


def _product_dtype(spec: TrainRun, device: torch.device) -> torch.dtype:
    """bfloat16 for the encoder's product where the host runs in it, or where it is the faster."""
    dtype = choose_dtype(spec.model.dtype, device)
    return choose_dtype("auto", device) if dtype == torch.float16 else dtype


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
