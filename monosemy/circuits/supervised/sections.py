"""Tests 1 and 2 of a task: do reconstructions keep it, and do edits by few features steer it?

All activations are read once from clean forwards; what is put in place, is put at all nodes of a
section at once.  Source: arXiv 2405.08366, sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from monosemy.circuits.supervised.coders import Coder
from monosemy.circuits.supervised.dictionary import SupervisedDictionary, explained
from monosemy.circuits.supervised.estimates import Array, Estimates
from monosemy.circuits.supervised.nodes import Acts, Advance, Nodes, Outcome, Rows, answer
from monosemy.circuits.supervised.sparse_edit import (
    SparseEdit,
    greedy_edit,
    scaled_magnitude,
    weights,
)
from monosemy.models.host import HostModel
from monosemy.specs.rest.tasks import (
    Approximation,
    Control,
    ControlFloor,
    Estimate,
    MethodKind,
    MethodResult,
)

Place = tuple[str, int]
"""A node: a site and the number of a position."""

SUPERVISED_EDIT = 2
"""Features that change where one value becomes another."""


@dataclass(frozen=True)
class Method:
    """A dictionary at every node of a section."""

    name: str
    kind: MethodKind
    sae: str | None = None
    coders: Mapping[Place, Coder] = field(default_factory=dict)
    supervised: Mapping[Place, SupervisedDictionary] = field(default_factory=dict)

    @property
    def features(self) -> int:
        """Of the dictionary at the first node."""
        if self.supervised:
            return next(iter(self.supervised.values())).values.count
        return len(next(iter(self.coders.values())).rows_FD)


@dataclass(frozen=True)
class Edits:
    """Pairs of one attribute: test prompts and their counterfactuals' activations."""

    attribute: str
    sources: list[int]
    """Places in the test half."""
    acts: Acts
    """Of the counterfactuals, ``[pairs, P, d]``."""
    old_N: Tensor
    """Code of the value that the source has,"""
    new_N: Tensor
    """and of that of its counterfactual."""


@dataclass(frozen=True)
class Ground:
    """What the tests of a section stand on."""

    host: HostModel
    rows: Rows
    """Of the test half."""
    acts: Acts
    codes_NK: Tensor
    """Codes of the test half's values."""
    clean: Outcome
    edits: Sequence[Edits]
    means: Mapping[Place, Tensor]
    """Of the fitted half, at every node."""
    estimates: Estimates
    counts: Sequence[int]
    """Features that may change at a node."""
    seed: int


class SectionTests:
    """Both tests for any number of methods at the nodes of one section."""

    def __init__(
        self,
        ground: Ground,
        nodes: Nodes,
        supervised: Mapping[Place, SupervisedDictionary],
        advance: Advance,
    ) -> None:
        self.ground, self.nodes, self.advance = ground, nodes, advance
        self.supervised = supervised
        self._ablated = self._answer(self._every(lambda at, x: ground.means[at].expand_as(x)))
        self._targets = [
            self._answer({site: each.acts[site] for site in nodes.sites}, each.sources)
            for each in ground.edits
        ]

    @property
    def mean_ablated(self) -> Estimate:
        return self.ground.estimates.mean(self._ablated.difference)

    # ------------------------------------------------------------------ test 1
    def approximation(self, method: Method) -> Approximation:
        """Sufficiency, necessity and the share of variance."""
        means, clean = self.ground.means, self.ground.clean.difference
        made = self._every(lambda at, x: self._made(method, at, x))
        left = {site: self._rest(site, made[site]) for site in self.nodes.sites}
        sufficient = self._answer(made).difference
        necessary = self._answer(left).difference
        r2 = [
            explained(self.ground.acts[site][:, p], made[site][:, p], means[site, p])
            for site, p in self._places()
        ]
        columns = np.stack([sufficient, clean], 1)
        three = np.stack([self._ablated.difference, necessary, clean], 1)
        return Approximation(
            sufficiency=self.ground.estimates.of(lambda m: m[:, 0] / m[:, 1], columns),
            necessity=self.ground.estimates.of(_necessity, three),
            r2=float(np.mean(r2)),
        )

    def _made(self, method: Method, at: Place, x_ND: Tensor) -> Tensor:
        if method.supervised:
            return method.supervised[at].reconstruct(self.ground.codes_NK)
        coder = method.coders[at]
        return coder.decode(coder.encode(x_ND))

    def _rest(self, site: str, made_NPD: Tensor) -> Tensor:
        means_PD = torch.stack(
            [self.ground.means[site, p] for p in range(len(self.nodes.positions))]
        )
        return means_PD + self.ground.acts[site] - made_NPD

    # ------------------------------------------------------------------ test 2
    def floors(self) -> list[ControlFloor]:
        """Of each attribute with pairs, what no edit and a random move reach."""
        floors = []
        for number, (each, target) in enumerate(zip(self.ground.edits, self._targets, strict=True)):
            generator = torch.Generator().manual_seed((self.ground.seed + number) % 2**63)

            def moved(
                at: Place, x_ND: Tensor, each: Edits = each, g: torch.Generator = generator
            ) -> Tensor:
                rows_UD = self.supervised[at].rows_UD
                length_N = (rows_UD[each.new_N] - rows_UD[each.old_N]).norm(dim=1, keepdim=True)
                noise_ND = torch.randn(x_ND.shape, generator=g)
                return x_ND + noise_ND / noise_ND.norm(dim=1, keepdim=True) * length_N

            untouched = self.ground.clean.first[each.sources] == target.first
            random = self._answer(self._every(moved, each.sources), each.sources)
            whole, changing, among = self._accuracies(each, target, random)
            floors.append(
                ControlFloor(
                    attribute=each.attribute,
                    untouched=self._share(untouched),
                    random=whole,
                    random_changing=changing,
                    random_answers=among,
                    pairs=len(each.sources),
                )
            )
        return floors

    def control(self, method: Method) -> list[Control]:
        """Edits of every attribute with pairs; by every number of features, or, of the supervised
        dictionary, of one value into another."""
        found = []
        for each, target in zip(self.ground.edits, self._targets, strict=True):
            if method.supervised:
                found.append(self._supervised(method, each, target))
            else:
                found += self._sparse(method, each, target)
        return found

    def _supervised(self, method: Method, each: Edits, target: Outcome) -> Control:
        edited = self._every(
            lambda at, x: method.supervised[at].edit(x, each.old_N, each.new_N), each.sources
        )
        return self._control(each, target, SUPERVISED_EDIT, edited, float(SUPERVISED_EDIT), None)

    def _sparse(self, method: Method, each: Edits, target: Outcome) -> list[Control]:
        moves: dict[Place, SparseEdit] = {}
        magnitudes: dict[int, list[Tensor]] = {count: [] for count in self.ground.counts}
        for at in self._places():
            site, p = at
            coder = method.coders[at]
            x_ND, wanted_ND = self.ground.acts[site][each.sources, p], each.acts[site][:, p]
            edit = greedy_edit(
                coder.encode(x_ND),
                coder.encode(wanted_ND),
                coder.rows_FD,
                wanted_ND - x_ND,
                list(self.ground.counts),
            )
            moves[at] = edit
            taken_N = self._supervised_weight(at, each)
            for count in self.ground.counts:
                magnitudes[count].append(scaled_magnitude(edit.removed[count], taken_N))
        controls = []
        for count in self.ground.counts:
            edited = self._every(lambda at, x, c=count: x + moves[at].moved[c], each.sources)  # type: ignore[misc]
            changed = float(torch.stack([m.edited[count] for m in moves.values()]).float().mean())
            magnitude = float(torch.stack(magnitudes[count]).median())
            controls.append(self._control(each, target, count, edited, changed, magnitude))
        return controls

    def _supervised_weight(self, at: Place, each: Edits) -> Tensor:
        """``[pairs]``: which part of the supervised reconstruction the old value's code is."""
        codes_NK = self.ground.codes_NK[each.sources]
        weights_NK = weights(codes_NK, torch.ones(codes_NK.shape), self.supervised[at].rows_UD)
        return (weights_NK * (codes_NK == each.old_N[:, None])).sum(1)

    def _control(
        self,
        each: Edits,
        target: Outcome,
        count: int,
        edited: dict[str, Tensor],
        changed: float,
        magnitude: float | None,
    ) -> Control:
        answered = self._answer(edited, each.sources)
        distances = [
            (edited[site] - each.acts[site]).norm(dim=2)
            / (self.ground.acts[site][each.sources] - each.acts[site]).norm(dim=2).clamp_min(1e-9)
            for site in self.nodes.sites
        ]
        whole, changing, among = self._accuracies(each, target, answered)
        return Control(
            attribute=each.attribute,
            features=count,
            accuracy=whole,
            accuracy_changing=changing,
            accuracy_answers=among,
            edited=changed,
            distance=float(torch.cat(distances, 1).mean()),
            magnitude=magnitude,
        )

    def _accuracies(
        self, each: Edits, target: Outcome, answered: Outcome
    ) -> tuple[Estimate, Estimate, Estimate]:
        """How often the likeliest token is that after the true activations: of all pairs, of those
        where the true activations change it, and of those where they change which of the task's
        answers is the likeliest, that one."""
        clean = self.ground.clean
        hits = answered.first == target.first
        changing = clean.first[each.sources] != target.first
        among = clean.first_answer[each.sources] != target.first_answer
        answer_hits = answered.first_answer == target.first_answer
        parts = (hits, hits[changing], answer_hits[among])
        return self._share(parts[0]), self._share(parts[1]), self._share(parts[2])

    # ------------------------------------------------------------------ the nodes
    def result(self, method: Method) -> MethodResult:
        """Both tests of one method."""
        active = [
            method.coders[at].encode(self.ground.acts[at[0]][:, at[1]]).l0().float().mean()
            for at in (self._places() if method.coders else ())
        ]
        l0 = float(torch.stack(active).mean()) if active else float(self.ground.codes_NK.shape[1])
        return MethodResult(
            name=method.name,
            kind=method.kind,
            sae=method.sae,
            features=method.features,
            l0=l0,
            approximation=self.approximation(method),
            control=self.control(method),
        )

    def _places(self) -> list[Place]:
        return [(site, p) for site in self.nodes.sites for p in range(len(self.nodes.positions))]

    def _every(
        self, change: Callable[[Place, Tensor], Tensor], rows: list[int] | None = None
    ) -> dict[str, Tensor]:
        """Of every node's activations (of ``rows`` of the test half) what ``change`` makes."""
        made = {}
        for site in self.nodes.sites:
            x_NPD = self.ground.acts[site] if rows is None else self.ground.acts[site][rows]
            made[site] = torch.stack(
                [change((site, p), x_NPD[:, p]) for p in range(x_NPD.shape[1])], 1
            )
        return made

    def _answer(self, acts: Acts, rows: list[int] | None = None) -> Outcome:
        return answer(self.ground.host, self.ground.rows, self.advance, rows, acts)

    def _share(self, hits_N: Array) -> Estimate:
        return self.ground.estimates.share(hits_N)


def _necessity(means_RC: Array) -> Array:
    """Of mean-ablated, changed and clean logit differences."""
    ablated, changed, clean = means_RC.T
    necessity: Array = 1 - np.abs(ablated - changed) / np.abs(ablated - clean)
    return necessity


def forwards(methods: Sequence[Method], test: int, pairs: Sequence[int], counts: int) -> int:
    """Prompts that a section reads in all."""
    whole = test + 2 * sum(pairs)
    for method in methods:
        whole += 2 * test + sum(pairs) * (1 if method.supervised else counts)
    return whole
