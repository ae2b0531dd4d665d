"""Sparse probing: k latents of an SAE beside as many of other bases, and beside words alone.

The protocol of ``sae-probes`` (Kantamneni et al., arXiv 2502.16681): activations at the last token,
latents chosen by the difference of their class means, a logistic probe on them.  Beside it what the
package lacks: texts that are told apart by their characters, a random dictionary as sparse, the
frozen-decoder baseline, shuffled labels, and intervals by families of tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monosemy.benchmarking.base import Benchmark, BenchmarkSae, Measured
from monosemy.benchmarking.probing.probe import Floats, Told, chosen_columns, one_thread, told
from monosemy.benchmarking.probing.split import LEAST_TEXTS, Split, draw, leaked, usable_rows
from monosemy.benchmarking.probing.tasks import (
    NOT_WHAT_THEY_SAY,
    Labels,
    ProbingTask,
    digest_of_tasks,
    read_tasks,
)
from monosemy.benchmarking.probing.vectors import Reading, last_token_vectors
from monosemy.benchmarking.probing.words import told_by_characters, told_by_length
from monosemy.benchmarking.units import Column, paired_difference
from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.saes.base import SAE
from monosemy.saes.bases import components, mean_l0, random_directions
from monosemy.specs.benchmarks import ProbingBenchmark
from monosemy.specs.rest.benchmarks import BenchmarkUnit
from monosemy.workspace import fingerprint

METRICS = ("auc", "accuracy", "f1", "validation_auc")
HARD = 0.8
"""A task is hard where characters alone have a smaller area than this."""
_WIDEST_PCA = 4096
_SAMPLE = 8192
"""Texts by which a random dictionary is made as sparse as the SAE."""
_ANY_K = 0
"""Stands for all numbers of latents, where the subject has none."""


@dataclass
class _Drawn:
    """One task by one seed."""

    task: ProbingTask
    split: Split
    train_rows: slice
    """Of the vectors of all drawn texts."""
    test_rows: slice

    @property
    def labels(self) -> tuple[Labels, Labels]:
        return self.task.labels[self.split.train], self.task.labels[self.split.test]


@dataclass
class _Found:
    """What probes told, by subject, number of latents, seed and task."""

    seeds: int
    tasks: int
    values: dict[tuple[str, str, int], Floats] = field(default_factory=dict)
    """``[seeds, tasks]`` by metric, subject, number of latents."""
    latents: dict[str, list[int]] = field(default_factory=dict)
    """By task: those of the SAE that the first seed chose, the best first."""
    unconverged: int = 0

    def note(self, subject: str, k: int, seed: int, task: int, made: Told) -> None:
        self.unconverged += not made.converged
        for metric in METRICS:
            value = getattr(made, metric)
            if not np.isnan(value):
                empty = np.full((self.seeds, self.tasks), np.nan)
                self.values.setdefault((metric, subject, k), empty)[seed, task] = value


class SparseProbing(Benchmark[ProbingBenchmark]):
    """See the module."""

    unit = "task"

    @property
    def headline(self) -> str:
        return f"auc_k{5 if 5 in self.spec.ks else self.spec.ks[0]}"

    def data_digest(self) -> str:
        return fingerprint(digest_of_tasks(self.spec.source))

    def check(self, sae: BenchmarkSae) -> None:
        if sae.hosted.hooks.other_hosts:
            raise DataError("It is hooked in several host models, and this takes one host model.")

    def prepare(self) -> None:
        spec, reporter = self.spec, self.bench.reporter
        tasks = read_tasks(spec.source, spec.tasks)
        self.left_out: list[str] = []
        if spec.variant == "clean":
            for task in [each for each in tasks if each.name in NOT_WHAT_THEY_SAY]:
                self.left_out.append(f"{task.name}: {NOT_WHAT_THEY_SAY[task.name]}")
                tasks.remove(task)
        self._draw(tasks)
        texts = [
            one.task.texts[at]
            for drawn in self.drawn
            for one in drawn
            for at in (*one.split.train, *one.split.test)
        ]
        reading = Reading(spec.context, spec.prepend_bos, spec.long_texts == "cut")
        with reporter.stage("probing: texts", len(texts), "texts") as stage:
            self.vectors_TD = last_token_vectors(self.bench, texts, reading, stage.advance)
        self.shared = _Found(len(spec.seeds), len(self.tasks))
        total = len(self.tasks) * len(spec.seeds)
        with reporter.stage("probing: baselines", total, "tasks") as stage:
            self._each(self._baselines, stage.advance)
        area_T = self.shared.values["auc", "tfidf", _ANY_K].mean(0)
        self.hard_T = area_T < HARD

    def _draw(self, tasks: Sequence[ProbingTask]) -> None:
        spec = self.spec
        self.tasks: list[ProbingTask] = []
        self.drawn: list[list[_Drawn]] = []
        """By task and seed."""
        at = 0
        for task in tasks:
            rows = usable_rows(task, spec.variant)
            splits = [draw(task, rows, spec.train_rows, spec.test_rows, s) for s in spec.seeds]
            if splits[0] is None:
                few = f"fewer than {plural(LEAST_TEXTS, 'different text')}"
                self.left_out.append(f"{task.name}: {few}, both classes together")
                continue
            self.tasks.append(task)
            drawn = []
            for split in splits:
                assert split is not None  # how many texts there are is not a matter of the seed
                middle, end = at + len(split.train), at + len(split.train) + len(split.test)
                drawn.append(_Drawn(task, split, slice(at, middle), slice(middle, end)))
                at = end
            self.drawn.append(drawn)
        if not self.tasks:
            raise DataError("No task has texts enough.", "; ".join(self.left_out[:5]))

    def _each(
        self, work: Callable[[_Drawn, int, int], None], advance: Callable[[int], None]
    ) -> None:
        with one_thread():
            for task, drawn in enumerate(self.drawn):
                for seed, one in enumerate(drawn):
                    self.bench.reporter.check()
                    work(one, seed, task)
                    advance(1)

    def _baselines(self, one: _Drawn, seed: int, task: int) -> None:
        """What all SAEs of the bench stand beside."""
        train_ND, test_MD = self._vectors(one)
        on_N, on_M = one.labels
        found = self.shared
        found.note("tfidf", _ANY_K, seed, task, told_by_characters(one.task, one.split))
        found.note("length", _ANY_K, seed, task, told_by_length(one.task, one.split))
        found.note("dense", _ANY_K, seed, task, told(train_ND, on_N, test_MD, on_M))
        self._sparse(found, "coordinates", train_ND, test_MD, one, seed, task)
        if train_ND.shape[1] <= _WIDEST_PCA:
            mean_D = train_ND.mean(0)
            rows = components(torch.from_numpy(train_ND), min(train_ND.shape)).numpy().T
            centred = (train_ND - mean_D) @ rows, (test_MD - mean_D) @ rows
            self._sparse(found, "pca", *centred, one, seed, task)

    def _vectors(self, one: _Drawn) -> tuple[Floats, Floats]:
        return self.vectors_TD[one.train_rows].numpy(), self.vectors_TD[one.test_rows].numpy()

    def _sparse(
        self,
        found: _Found,
        subject: str,
        train_NF: Floats,
        test_MF: Floats,
        one: _Drawn,
        seed: int,
        task: int,
        labels: Labels | None = None,
    ) -> None:
        """Probes on the best columns for each k; ``labels`` of the fit in place of the task's."""
        on_N, on_M = one.labels
        on_N = on_N if labels is None else labels
        order = chosen_columns(train_NF, on_N, max(self.spec.ks))
        if (subject, seed) == ("sae", 0):
            found.latents[one.task.name] = order.tolist()
        for k in self.spec.ks:
            columns = order[:k]
            made = told(train_NF[:, columns], on_N, test_MF[:, columns], on_M)
            found.note(subject, k, seed, task, made)

    def measure(self, sae: BenchmarkSae) -> Measured:
        spec = self.spec
        found = _Found(len(spec.seeds), len(self.tasks))
        sample_ND = self.vectors_TD[:: max(1, len(self.vectors_TD) // _SAMPLE)]
        l0 = mean_l0(sae.sae, sample_ND.to(sae.sae.device))
        randoms = [self._random(sae.sae, sample_ND, seed, l0) for seed in spec.seeds]

        def of_task(one: _Drawn, seed: int, task: int) -> None:
            own = self._codes(sae.sae, one)
            self._sparse(found, "sae", *own, one, seed, task)
            shuffled = np.random.default_rng([spec.seeds[seed], task]).permutation(one.labels[0])
            self._sparse(found, "shuffled", *own, one, seed, task, labels=shuffled)
            if sae.baseline is not None:
                self._sparse(found, "frozen", *self._codes(sae.baseline, one), one, seed, task)
            self._sparse(found, "random", *self._codes(randoms[seed], one), one, seed, task)

        total = len(self.tasks) * len(spec.seeds)
        with self.bench.reporter.stage(f"probing: {sae.name}", total, "tasks") as stage:
            self._each(of_task, stage.advance)
        return Measured(
            self._units(), self._columns(found), self._notes(), self._details(found, l0)
        )

    def _random(self, sae: SAE, sample_ND: Tensor, seed: int, l0: float) -> SAE:
        """Unit vectors at random, as many and as sparse as the SAE's latents."""
        return random_directions(sample_ND, sae.d_sae, seed, "top_k", l0)

    @torch.no_grad()
    def _codes(self, sae: SAE, one: _Drawn) -> tuple[Floats, Floats]:
        x_ND = self.vectors_TD[one.train_rows.start : one.test_rows.stop].to(sae.device)
        dense_NF = sae.encode(x_ND).dense(sae.d_sae).float().cpu().numpy()
        return dense_NF[: len(one.split.train)], dense_NF[len(one.split.train) :]

    # ------------------------------------------------------------------ what is said of it
    def _units(self) -> list[BenchmarkUnit]:
        return [BenchmarkUnit(name=each.name, family=each.family) for each in self.tasks]

    def _columns(self, found: _Found) -> list[Column]:
        """Subjects without a number of latents stand beside every number."""
        columns = []
        for k in self.spec.ks:
            for metric in METRICS:
                for (made, subject, own), values_ST in [
                    *found.values.items(),
                    *self.shared.values.items(),
                ]:
                    if made == metric and own in (k, _ANY_K):
                        columns.append(Column(f"{metric}_k{k}", subject, values_ST))
                        if metric == "auc":
                            hard_ST = np.where(self.hard_T, values_ST, np.nan)
                            columns.append(Column(f"auc_k{k}_hard", subject, hard_ST))
        return columns

    def _notes(self) -> list[str]:
        spec = self.spec
        says = {
            "clean": "Each text counts once, and what is tested was not fitted to.",
            "published": "Texts as published: some that are tested were fitted to as well, letter"
            " for letter.",
        }
        notes = [
            says[spec.variant],
            f"Hard tasks ({int(self.hard_T.sum())} of {len(self.tasks)}) are those of which the"
            f" characters of the texts alone have an area below {HARD}.",
        ]
        if self.left_out:
            notes.append(f"Left out: {'; '.join(self.left_out)}.")
        return notes

    def _details(self, found: _Found, l0: float) -> dict[str, Any]:
        families = [each.family for each in self.tasks]
        ones = np.ones(len(self.tasks))
        differences: dict[str, Any] = {}
        for k in self.spec.ks:
            own = found.values["auc", "sae", k].mean(0)
            for subject in ("dense", "tfidf", "random", "frozen", "coordinates", "pca"):
                beside = {**self.shared.values, **found.values}
                other = beside.get(("auc", subject, k), beside.get(("auc", subject, _ANY_K)))
                if other is not None:
                    pair = (own, ones), (other.mean(0), ones)
                    less = paired_difference(*pair, families)
                    ahead = float(np.mean(own > other.mean(0)))
                    differences[f"auc_k{k} less {subject}"] = {
                        **{n: getattr(less, n) for n in ("value", "low", "high")},
                        "tasks_ahead": ahead,
                    }
        first = [drawn[0] for drawn in self.drawn]
        return {
            "l0_at_the_last_token": l0,
            "leaked": float(np.mean([leaked(one.task, one.split) for one in first])),
            "unconverged_probes": found.unconverged,
            "differences": differences,
            "latents": found.latents,
        }
