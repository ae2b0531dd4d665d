"""How far a graph is to be believed: its nodes, edges and circuit ablated in the real host.

A graph is exact in its own world, where patterns, norms and features stay as they are.  Here the
host computes anew what is downstream.  Of a feature the graph predicts the sum over all paths,
features taken as linear; of an edge what the target's pre-activation loses.  Beside the strongest
stand others of like size, drawn at random, and random circuits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.circuits.agreement import RESAMPLED, interval
from monosemy.errors import DataError
from monosemy.graphs.ablation import (
    feature_sites,
    feature_values,
    goal_site,
    goal_values,
    values_at,
    without_features,
)
from monosemy.graphs.circuit_runs import run_circuits
from monosemy.graphs.circuit_search import feature_name, search_circuit
from monosemy.graphs.goals import Goal
from monosemy.graphs.graph import Floats, Graph, Ints, NodeKind
from monosemy.graphs.influence import influence, total_effects
from monosemy.graphs.prompt import ReplacedPrompt
from monosemy.interp.statistics.correlation import spearman_interval
from monosemy.progress import SILENT, Reporter
from monosemy.specs.graphs import (
    AblationAgreement,
    CheckedPart,
    CircuitSearch,
    CircuitShare,
    GraphCheck,
    GraphCheckSpec,
    Held,
    PredictedChange,
)
from monosemy.specs.rest.circuits import WithInterval

STAGE = "check"
_ROWS = 16
"""Ablations that are run together."""
_ORDERS = 3
"""Random orders of features beside the search for a circuit."""


@dataclass(frozen=True)
class _Ablations:
    """Features to take away, one at a time, and where each is looked at: a feature, or the goal."""

    names: list[str]
    feature: list[int]
    target: list[int | None]
    predicted: Floats


def check_graph(
    prompt: ReplacedPrompt,
    goals: Sequence[Goal],
    whole: Graph,
    pruned: npt.NDArray[np.int64],
    spec: GraphCheckSpec | None = None,
    place: int = 0,
    reporter: Reporter = SILENT,
) -> GraphCheck:
    """Checks goal number ``place``.

    ``whole``: the traced graph of this prompt; ``pruned``: which of its nodes the pruned graph has
    (``Pruned.kept``), whose features are the circuit.  Its progress is the stage ``check``: rows of
    the host.
    """
    spec = spec or GraphCheckSpec()
    if whole.ids != prompt.ids_T or not 0 <= place < len(goals):
        raise DataError("The graph is of another prompt, or has no such goal.")
    work = _Check(prompt, goals[place], whole, place, spec)
    circuit = pruned[whole.nodes.kind[pruned] == NodeKind.feature]
    total = 2 * (spec.nodes + spec.edges) + 2 * (4 + 2 * spec.random_circuits)
    with reporter.stage(STAGE, total=total, unit="ablations") as stage:
        nodes = work.nodes(circuit)
        stage.advance(2 * spec.nodes)
        edges = work.edges()
        stage.advance(2 * spec.edges)
        shares = [work.circuit(circuit, errors) for errors in (True, False)]
        stage.advance(2 * (4 + 2 * spec.random_circuits))
        search = None
        if spec.keep is not None and len(work.features) and shares[0].kept is not None:
            search = work.search(spec.keep)
    return GraphCheck(
        goal=goals[place].label,
        nodes=nodes,
        edges=edges,
        with_errors=shares[0],
        without_errors=shares[1],
        search=search,
    )


class _Check:
    def __init__(
        self, prompt: ReplacedPrompt, goal: Goal, graph: Graph, place: int, spec: GraphCheckSpec
    ) -> None:
        self.prompt, self.goal, self.graph, self.place = prompt, goal, graph, place
        self.spec, self.rng = spec, np.random.default_rng(abs(spec.seed))
        self.features = np.flatnonzero(graph.nodes.kind == NodeKind.feature)

    def nodes(self, circuit: Ints) -> CheckedPart | None:
        """The features of the strongest effects on the goal."""
        if not self.spec.nodes or not len(self.features):
            return None
        effects = total_effects(self.graph)[self.place]
        traced = self.features[self.graph.row_of_node[self.features] >= 0]
        order = np.argsort(-np.abs(effects[traced]), kind="stable")
        strongest = traced[order[: self.spec.nodes]]
        others = np.setdiff1d(self.features, np.union1d(circuit, strongest))
        matched = _alike(
            self.graph.nodes.value[strongest], self.graph.nodes.value[others], others, self.rng
        )
        parts = [
            _Ablations(
                [self.name(number) for number in numbers],
                numbers.tolist(),
                [None] * len(numbers),
                -effects[numbers],
            )
            for numbers in (strongest, matched)
        ]
        return self._compared(parts[0], parts[1], mlps=False)

    def edges(self) -> CheckedPart | None:
        """The edges between features along which most flows."""
        rows, nodes = self.graph.rows, self.graph.nodes
        target_E = rows.target[rows.row_of_edge]
        inner = np.flatnonzero(
            (nodes.kind[rows.source] == NodeKind.feature)
            & (nodes.kind[target_E] == NodeKind.feature)
        )
        if not self.spec.edges or not len(inner):
            return None
        flow = influence(self.graph)
        along = flow.through_N[target_E[inner]] * flow.share_E[inner]
        order = inner[np.argsort(-along, kind="stable")]
        strongest, others = order[: self.spec.edges], order[self.spec.edges :]
        size = np.abs(rows.weight)
        matched = _alike(size[strongest], size[others], others, self.rng)
        parts = [
            _Ablations(
                [f"{self.name(rows.source[e])} -> {self.name(target_E[e])}" for e in edges],
                rows.source[edges].tolist(),
                target_E[edges].tolist(),
                -rows.weight[edges],
            )
            for edges in (strongest, matched)
        ]
        return self._compared(parts[0], parts[1], mlps=True)

    def name(self, node: int) -> str:
        return feature_name(self.graph, node)

    def _compared(self, strongest: _Ablations, matched: _Ablations, mlps: bool) -> CheckedPart:
        free = [self._changes(part, "nothing") for part in (strongest, matched)]
        frozen = self._changes(strongest, "all") if mlps else None
        held = self._changes(strongest, "mlps") if mlps else None
        seed = abs(self.spec.seed)
        return CheckedPart(
            strongest=_agreement(strongest.predicted, free[0], seed),
            matched=_agreement(matched.predicted, free[1], seed),
            mlps_held=None if held is None else _agreement(strongest.predicted, held, seed),
            changes=[
                PredictedChange(
                    name=name,
                    predicted=float(strongest.predicted[at]),
                    frozen=None if frozen is None else float(frozen[at]),
                    mlps_held=None if held is None else float(held[at]),
                    free=float(free[0][at]),
                )
                for at, name in enumerate(strongest.names)
            ],
        )

    def _changes(self, ablations: _Ablations, held: Held) -> Floats:
        """What each ablation changes where it is looked at."""
        changes = np.zeros(len(ablations.feature))
        for start in range(0, len(changes), _ROWS):
            part = range(start, min(start + _ROWS, len(changes)))
            targets = [ablations.target[at] for at in part]
            sites = self._sites(targets)
            deltas = without_features(self.prompt, [[], *([ablations.feature[a]] for a in part)])
            values = values_at(self.prompt, deltas, sites, held, len(part) + 1)
            for row, (at, target) in enumerate(zip(part, targets, strict=True), start=1):
                made = self._looked_at(target, values)
                changes[at] = float(made[row] - made[0])
        return changes

    def _sites(self, targets: Sequence[int | None]) -> list[str]:
        sites: dict[str, None] = {}
        for target in targets:
            if target is None:
                sites[goal_site(self.goal, self.prompt.layers)] = None
            else:
                sites.update(dict.fromkeys(feature_sites(self.prompt, target)))
        return list(sites)

    def _looked_at(self, target: int | None, values: dict[str, Tensor]) -> Tensor:
        if target is None:
            return goal_values(self.goal, values, self.prompt.layers)
        return feature_values(self.prompt, target, values)

    def circuit(self, circuit: Ints, errors: bool) -> CircuitShare:
        """The goal with the circuit alone and without it, beside random circuits."""
        count = len(self.prompt.features)
        sets = [np.zeros(count, bool) for _ in range(4)]
        sets[0][:] = True
        sets[2][circuit] = True
        sets[3] = ~sets[2]
        for _ in range(self.spec.random_circuits):
            drawn = self._random_like(sets[2])
            sets += [drawn, ~drawn]
        values = self._run(np.stack(sets), errors)
        whole, none = float(values[0]), float(values[1])
        span = whole - none

        def kept(value: Floats) -> Floats:
            return (value - none) / span

        def lost(value: Floats) -> Floats:
            return (whole - value) / span

        usable = abs(span) > 1e-6 * max(abs(whole), abs(none), 1e-6)
        return CircuitShare(
            features=len(circuit),
            whole=whole,
            none=none,
            kept=float(kept(values[2:3])[0]) if usable else None,
            lost=float(lost(values[3:4])[0]) if usable else None,
            random_kept=_spread(kept(values[4::2])) if usable else None,
            random_lost=_spread(lost(values[5::2])) if usable else None,
        )

    def _run(self, sets_BN: npt.NDArray[np.bool_], errors: bool) -> Floats:
        """The goal with each of these sets of features alone, ``[B]``."""
        parts = [
            run_circuits(
                self.prompt, torch.from_numpy(sets_BN[start : start + _ROWS]), self.goal, errors
            )
            for start in range(0, len(sets_BN), _ROWS)
        ]
        return np.asarray(torch.cat(parts).cpu().double().numpy())

    def search(self, wanted: float) -> CircuitSearch:
        """The smallest circuit that keeps ``wanted`` of what all features do."""
        count = len(self.prompt.features)
        none, whole = self._run(np.stack([np.zeros(count, bool), np.ones(count, bool)]), True)

        def kept(sets_BN: npt.NDArray[np.bool_]) -> Floats:
            return (self._run(sets_BN, True) - none) / (whole - none)

        return search_circuit(self.graph, kept, wanted, _ORDERS, self.rng)

    def _random_like(self, circuit_N: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """As many active features at each layer and token, drawn at random."""
        nodes = self.graph.nodes
        level = nodes.branch[self.features] * self.graph.layers + nodes.layer[self.features]
        place = level * len(self.graph.ids) + nodes.position[self.features]
        drawn = np.zeros(len(circuit_N), bool)
        for where in np.unique(place[circuit_N]):
            there = np.flatnonzero(place == where)
            drawn[self.rng.choice(there, int(circuit_N[there].sum()), replace=False)] = True
        return drawn


def _alike(
    wanted: Floats, sizes: Floats, numbers: Ints, rng: np.random.Generator, among: int = 10
) -> Ints:
    """For each wanted size one of those of nearest size, drawn from ten, none twice."""
    chosen: list[int] = []
    free = np.ones(len(numbers), bool)
    for size in wanted:
        at = np.flatnonzero(free)
        if not len(at):
            break
        near = at[np.argsort(np.abs(sizes[at] - size), kind="stable")[:among]]
        drawn = int(rng.choice(near))
        free[drawn] = False
        chosen.append(int(numbers[drawn]))
    return np.array(chosen, np.int64)


def _agreement(predicted: Floats, real: Floats, seed: int) -> AblationAgreement:
    n = len(predicted)
    if not n:
        return AblationAgreement(n=0, slope=None, spearman=None, same_sign=None, mean_real=None)
    rank = spearman_interval(real, predicted, range(n), seed)
    return AblationAgreement(
        n=n,
        slope=_slope(predicted, real, seed),
        spearman=_told(rank.value, rank.low, rank.high),
        same_sign=float((np.sign(predicted) == np.sign(real)).mean()),
        mean_real=float(np.abs(real).mean()),
    )


def _slope(predicted: Floats, real: Floats, seed: int) -> WithInterval | None:
    """Least squares through 0, as no ablation is no change; ablations resampled."""
    n, size = len(predicted), float(predicted @ predicted)
    if not size > 0:
        return None
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLED)
    below = counts @ predicted**2
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.where(below > 0, counts @ (predicted * real) / below, np.nan)
    return _told(float(predicted @ real) / size, *interval(drawn))


def _told(value: float | None, low: float, high: float) -> WithInterval | None:
    if value is None or not np.isfinite([low, high]).all():
        return None
    return WithInterval(value=value, low=low, high=high)


def _spread(values: Floats) -> WithInterval | None:
    if not len(values):
        return None
    low, high = interval(values)
    return WithInterval(value=float(values.mean()), low=low, high=high)
