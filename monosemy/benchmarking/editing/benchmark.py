"""Attribute editing: RAVEL's question (Huang et al., arXiv 2402.17700), without its gaps.

Attributes, prompts and counterfactuals are those of indirect objects (arXiv 2211.00593); where
RAVEL has half of its score for doing nothing, doing nothing has none here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monosemy.benchmarking.base import Bench, Benchmark, BenchmarkSae, Measured
from monosemy.benchmarking.editing.choose import (
    Move,
    Pairs,
    interchange,
    latents_of,
    random_latents,
    subspace_of,
)
from monosemy.benchmarking.editing.prompts import ATTRIBUTES, EditTask, Half, edit_task
from monosemy.benchmarking.editing.shares import Effects, Floats, disentanglement
from monosemy.benchmarking.units import Column
from monosemy.circuits.supervised.coders import Coder, sae_coder
from monosemy.circuits.supervised.nodes import Nodes, Rows, answer, answer_logits, read
from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.specs.benchmarks import EditingBenchmark
from monosemy.specs.rest.benchmarks import BenchmarkUnit
from monosemy.workspace import fingerprint

_TOKENS: Mapping[str, tuple[int, ...]] = {"IO": (0, 1, 2), "S": (0, 1, 3), "Pos": (0, 1)}
"""Of the names IO, S, the other IO and the other S: those that a pair knows."""
_LEAST_KNOWN = 4

Chosen = Mapping[str, Move]
"""By attribute: the edit of it."""


@dataclass(frozen=True)
class _Read:
    """Activations of one half: ``[n, P, d]``."""

    base: Tensor
    sources: Mapping[str, Tensor]

    def pairs(self, attributes: Sequence[str]) -> Pairs:
        return {name: (self.base, self.sources[name]) for name in attributes}


@dataclass(frozen=True)
class _Seed:
    """What one seed measures by."""

    choosing: _Read
    test: _Read
    rows: Rows
    tokens_N4: Tensor
    cells: Sequence[tuple[str, str]]
    """(template, order) of each test prompt."""
    clean_N4: Floats
    whole: Mapping[str, Floats]
    """``[n, 4]`` with the whole activation of the counterfactual, by attribute."""
    attributes: tuple[str, ...]
    """Those that the site has."""
    asked: int
    """Test prompts that were drawn."""


class Editing(Benchmark[EditingBenchmark]):
    """See the module."""

    unit = "attribute"

    def __init__(self, spec: EditingBenchmark, bench: Bench) -> None:
        super().__init__(spec, bench)
        self.tasks = [edit_task(bench.host.tokenizer, spec, seed) for seed in spec.seeds]
        cells = {cell for task in self.tasks for cell in task.test.cells}
        self.units: list[tuple[str, str, str]] = [
            (name, *cell) for name in ATTRIBUTES for cell in sorted(cells)
        ]

    @property
    def headline(self) -> str:
        return "disentanglement"

    def data_digest(self) -> str:
        return fingerprint(
            [
                [each.ids for each in (*half.base, *sum(half.sources.values(), ()))]
                for task in self.tasks
                for half in (task.choosing, task.test)
            ]
        )

    def check(self, sae: BenchmarkSae) -> None:
        sae.check_one_site()

    # ------------------------------------------------------------------ the host model
    def prepare(self) -> None:
        self.bench.host.need_logits()
        self.site = self.bench.hooks.reads[0].site
        self.nodes = Nodes((self.site,), tuple(self.spec.positions))
        each = 4 * (self.spec.choosing + self.spec.pairs) + 8 * self.spec.pairs
        total = each * len(self.tasks)
        with self.bench.reporter.stage("editing: prompts", total, "prompts") as stage:
            self.seeds = [self._seed(task, stage.advance) for task in self.tasks]
        dense = [self._subspaces(seed) for seed in self.seeds]
        total = sum(self._forwards(seed) for seed in self.seeds)
        with self.bench.reporter.stage("editing: subspaces", total, "prompts") as stage:
            self.dense = [
                self._found(seed, chosen, stage.advance)
                for seed, chosen in zip(self.seeds, dense, strict=True)
            ]

    def _rows(self, half: Sequence[Any]) -> Rows:
        return Rows(self.bench.host, half, self.nodes.positions)

    def _read(self, half: Half, advance: Callable[[int], None]) -> _Read:
        host, nodes, site = self.bench.host, self.nodes, self.site
        base = read(host, self._rows(half.base), nodes, advance)[site]
        sources = {
            name: read(host, self._rows(each), nodes, advance)[site]
            for name, each in half.sources.items()
        }
        return _Read(base, sources)

    def _seed(self, task: EditTask, advance: Callable[[int], None]) -> _Seed:
        host, asked = self.bench.host, len(task.test.base)
        half = self._known(task.test, advance) if self.spec.known_only else task.test
        test, rows = self._read(half, advance), self._rows(half.base)
        tokens_N4 = torch.tensor(
            [
                [base.right[0], base.wrong[0], io.right[0], s.wrong[0]]
                for base, io, s in zip(
                    half.base, half.sources["IO"], half.sources["S"], strict=True
                )
            ]
        )
        # With its own activations put in place: an edit of nothing then changes not one bit.
        clean_N4 = answer_logits(host, rows, tokens_N4, advance, {self.site: test.base})
        whole: dict[str, Floats] = {
            name: answer_logits(host, rows, tokens_N4, advance, {self.site: test.sources[name]})
            for name in ATTRIBUTES
        }
        there = tuple(
            name
            for name in ATTRIBUTES
            if self._effects(name, clean_N4, whole[name], clean_N4).size_N.mean()
            >= self.spec.least_effect
        )
        if len(there) < 2:
            raise DataError(
                f"{plural(len(there), 'attribute')} of {len(ATTRIBUTES)} can be changed at "
                f"{self.site}, at {', '.join(self.nodes.positions)}; two are needed.",
                "Take an SAE of another site, other positions, or a lower least_effect.",
            )
        choosing = self._read(task.choosing, advance)
        return _Seed(choosing, test, rows, tokens_N4, half.cells, clean_N4, whole, there, asked)

    def _known(self, half: Half, advance: Callable[[int], None]) -> Half:
        right_N = np.ones(len(half.base), bool)
        for examples in (half.base, *half.sources.values()):
            difference_N = answer(self.bench.host, self._rows(examples), advance).difference
            right_N &= difference_N > 0
        if right_N.sum() < _LEAST_KNOWN:
            raise DataError(
                f"{self.bench.host.name} answers {int(right_N.sum())} of {len(right_N)} prompts "
                f"and their counterfactuals rightly; {_LEAST_KNOWN} are needed.",
                "Take another host model, more pairs, or set known_only to false.",
            )
        return half.taken(np.flatnonzero(right_N).tolist())

    # ------------------------------------------------------------------ edits
    def measure(self, sae: BenchmarkSae) -> Measured:
        coders = {"sae": sae_coder(sae.sae)}
        if sae.baseline is not None:
            coders["frozen"] = sae_coder(sae.baseline)
        found: dict[str, list[dict[str, Floats]]] = {"dense": self.dense}
        counts: list[dict[str, list[int]]] = []
        total = sum(self._forwards(seed) for seed in self.seeds) * (len(coders) + 1)
        with self.bench.reporter.stage(f"editing: {sae.name}", total, "prompts") as stage:
            for number, seed in zip(self.spec.seeds, self.seeds, strict=True):
                for subject, coder in coders.items():
                    latents = self._latents(seed, coder)
                    edits = _interchanged(coder, latents)
                    found.setdefault(subject, []).append(self._found(seed, edits, stage.advance))
                    if subject == "sae":
                        counts.append({name: of.sum(1).tolist() for name, of in latents.items()})
                        others = self._random(seed, coder, latents, number)
                        edits = _interchanged(coder, others)
                        by_chance = self._found(seed, edits, stage.advance)
                        found.setdefault("random", []).append(by_chance)
        columns = [
            column
            for subject in ("sae", *[name for name in found if name != "sae"])
            for column in _columns(subject, found[subject], self.spec.least_effect)
        ]
        units = [BenchmarkUnit(name=" ".join(unit), family=unit[1]) for unit in self.units]
        return Measured(units, columns, list(_NOTES), self._details(counts))

    def _latents(self, seed: _Seed, coder: Coder) -> dict[str, Tensor]:
        """By attribute: bool ``[P, d_sae]``."""
        pairs = seed.choosing.pairs(seed.attributes)
        return {name: latents_of(coder, pairs, name) for name in seed.attributes}

    def _random(
        self, seed: _Seed, coder: Coder, chosen: Mapping[str, Tensor], number: int
    ) -> dict[str, Tensor]:
        """As many latents as were chosen, of all that change."""
        pairs = seed.choosing.pairs(seed.attributes)
        return {
            name: random_latents(coder, pairs, chosen[name].sum(1), number + place)
            for place, name in enumerate(seed.attributes)
        }

    def _subspaces(self, seed: _Seed) -> Chosen:
        pairs = seed.choosing.pairs(seed.attributes)
        return {name: subspace_of(pairs, name) for name in seed.attributes}

    def _forwards(self, seed: _Seed) -> int:
        return len(seed.attributes) ** 2 * len(seed.rows)

    def _found(
        self, seed: _Seed, chosen: Chosen, advance: Callable[[int], None]
    ) -> dict[str, Floats]:
        """Sums over the pairs of each unit ``[U]``, by name."""
        sums = {name: np.zeros(len(self.units)) for name in _SUMS}
        place = {unit: number for number, unit in enumerate(self.units)}
        for edited in seed.attributes:
            at_N = [place[(edited, *cell)] for cell in seed.cells]
            np.add.at(sums["prompts"], at_N, 1.0)
            for differs in seed.attributes:
                base, source = seed.test.base, seed.test.sources[differs]
                acts = {self.site: base + chosen[edited](base, source)}
                logits_N4 = answer_logits(self.bench.host, seed.rows, seed.tokens_N4, advance, acts)
                of = self._effects(differs, seed.clean_N4, seed.whole[differs], logits_N4)
                added = (
                    (of.cause_N, of.size_N, of.follows_N, of.turned_N)
                    if differs == edited
                    else (of.isolation_N, of.size_N, of.stays_N, of.turned_N)
                )
                names = _SUMS[:4] if differs == edited else _SUMS[4:8]
                for name, value_N in zip(names, added, strict=True):
                    np.add.at(sums[name], at_N, value_N)
        return sums

    def _effects(
        self, attribute: str, clean_N4: Floats, whole_N4: Floats, edited_N4: Floats
    ) -> Effects:
        known = list(_TOKENS[attribute])
        return Effects(clean_N4[:, known], whole_N4[:, known], edited_N4[:, known])

    def _details(self, counts: list[dict[str, list[int]]]) -> dict[str, Any]:
        return {
            "positions": list(self.nodes.positions),
            "seeds": [
                {
                    "attributes": list(seed.attributes),
                    "prompts_to_choose_by": len(seed.choosing.base),
                    "prompts_tested": len(seed.rows),
                    "prompts_drawn": seed.asked,
                    "latents_chosen": of,
                }
                for seed, of in zip(self.seeds, counts, strict=True)
            ],
        }


_SUMS = (
    *("cause", "wanted", "follows", "turned"),
    *("isolation", "wanted_otherwise", "stays", "turned_otherwise"),
    "prompts",
)
_NOTES = (
    "Cause and isolation are shares of what the whole counterfactual activation changes; "
    "disentanglement is their product, so that doing nothing and changing everything both have 0.",
    "Units are attributes in templates and orders; templates are resampled whole, and there are "
    "few of them.",
)


def _interchanged(coder: Coder, latents: Mapping[str, Tensor]) -> Chosen:
    return {name: interchange(coder, of) for name, of in latents.items()}


def _columns(subject: str, found: Sequence[Mapping[str, Floats]], least: float) -> list[Column]:
    """A unit counts in a seed in which the whole activation changes ``least`` nats there."""
    sums = {name: np.stack([each[name] for each in found]) for name in _SUMS}
    counts_SU = (sums["prompts"] > 0) & (sums["wanted"] >= least * sums["prompts"])

    def of(part: str, weight: str) -> tuple[Floats, Floats]:
        """(parts, weights) ``[S, U]``"""
        there_SU = counts_SU & (sums[weight] > 0)
        return np.where(there_SU, sums[part], np.nan), sums[weight]

    cause, isolation = of("cause", "wanted"), of("isolation", "wanted_otherwise")
    with np.errstate(divide="ignore", invalid="ignore"):
        both_SU = disentanglement(cause[0] / cause[1], isolation[0] / isolation[1])
    return [
        Column("disentanglement", subject, both_SU),
        Column("cause", subject, *cause),
        Column("isolation", subject, *isolation),
        Column("cause_share", subject, *of("follows", "turned")),
        Column("isolation_share", subject, *of("stays", "turned_otherwise")),
    ]
