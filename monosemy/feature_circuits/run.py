"""A sparse feature circuit from a spec: pairs read, effects and edges found, checked on others.

Marks et al., "Sparse Feature Circuits", arXiv 2403.19647.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.feature_circuits.circuit_graph import CircuitGraph, circuit_graph, column_texts
from monosemy.feature_circuits.coded_sites import CodedSite, coded_sites, with_tokens
from monosemy.feature_circuits.edges import find_edges
from monosemy.feature_circuits.effects import (
    Done,
    clean_gradients,
    cut_effect,
    exact_effects,
    mean_gradient,
    midpoints,
)
from monosemy.feature_circuits.forecast import forecast
from monosemy.feature_circuits.held_out import (
    AblatedHost,
    check_held_out,
    dimension_nodes,
    dimension_reading,
    most_passes,
)
from monosemy.feature_circuits.intervals import OverPrompts
from monosemy.feature_circuits.nodes import (
    Features,
    Floats,
    SiteNodes,
    site_nodes,
    strongest,
    values_of,
)
from monosemy.feature_circuits.pairs import PairGroup, groups_of, halves, pairs_of
from monosemy.feature_circuits.readings import GroupReading, SiteReading, read_group
from monosemy.graphs.forecast import tell_forecast
from monosemy.graphs.graph import Graph
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.statistics.correlation import pearson_interval
from monosemy.models.host import HostModel
from monosemy.progress import SILENT, Reporter
from monosemy.specs.feature_circuits import (
    ExactEffects,
    FeatureCircuitSpec,
    FeatureCircuitSummary,
    HeldOutCheck,
    SiteEffects,
    TokenEffects,
)
from monosemy.specs.graphs import GraphForecast
from monosemy.specs.rest.circuits import WithInterval

STAGE, EXACT_STAGE, CHECK_STAGE = "feature_circuit", "patched one by one", "held-out pairs"


@dataclass(frozen=True)
class MadeFeatureCircuit:
    """A circuit as a graph, and what is said of it."""

    graph: Graph
    features: Features
    summary: FeatureCircuitSummary
    prompt: str
    """The first of those that it was found on."""


def make_feature_circuit(
    host: HostModel,
    saes: Sequence[HostedSAE],
    names: Sequence[str],
    spec: FeatureCircuitSpec,
    reporter: Reporter = SILENT,
    allowed: int | None = None,
) -> MadeFeatureCircuit:
    """``names`` of the SAEs.  Its progress is three stages: effects and edges by rows of the host,
    features that are patched one by one, and the check on held-out pairs.

    What it will take is told before (one line of the reporter's), and refused (``DataError``) where
    that is more than ``allowed`` bytes, or than there are.  Raises ``DataError`` also for pairs
    that cannot be used, too few of them, and SAEs that do not fit together; ``ModelError`` for a
    host that predicts no tokens.
    """
    host.need_logits()
    placed = coded_sites(host, saes)
    own_sites = [site for _, site in placed]
    pairs = pairs_of(spec, host)
    patched = all(pair.patch is not None for pair in pairs)
    sites = with_tokens(host, own_sites) if patched else own_sites
    fit, test = (
        groups_of(each, host, spec.prepend_bos)
        for each in halves(pairs, spec.test_share, spec.seed)
    )
    cost = forecast(host, sites, fit, test, spec)
    tell_forecast(
        cost,
        f"{sum(map(len, fit))} pairs of up to {cost.tokens} tokens, {len(own_sites)} sites",
        "Take fewer or shorter pairs, fewer SAEs, or a smaller batch.",
        host,
        allowed,
        reporter,
    )
    first = len(sites) - len(own_sites)
    coders = [-1] * first + [number for number, _ in placed]
    with reporter.stage(STAGE, total=_rows(sites, fit, spec), unit="rows") as stage:
        work = _Work(host, sites, fit, spec, stage.advance)
        features = strongest(work.nodes, spec.nodes)
        made = work.graph(features, coders)
    exact = work.exact(features, reporter)
    check = work.check(features, test, reporter)
    by_site = [
        work.site(number, names[coder], features)
        for number, coder in enumerate(coders)
        if coder >= 0
    ]
    summary = _summary(spec, work, made, by_site, exact, check, cost)
    return MadeFeatureCircuit(made.graph, features, summary, fit[0].pairs[0].text)


def _summary(
    spec: FeatureCircuitSpec,
    work: _Work,
    made: CircuitGraph,
    by_site: list[SiteEffects],
    exact: ExactEffects | None,
    check: HeldOutCheck,
    cost: GraphForecast,
) -> FeatureCircuitSummary:
    return FeatureCircuitSummary(
        task=spec.pairs.task,
        method=spec.method,
        midpoints=spec.midpoints,
        positions=spec.positions,
        pairs=len(work.pairs),
        held_out=check.pairs,
        patched=all(pair.patch is not None for pair in work.pairs),
        clean=work.metric("clean"),
        patch=work.metric("patch"),
        sites=by_site,
        tokens=work.tokens(),
        edges=len(made.graph.rows.source),
        edge_share=made.edge_share,
        unexplained=made.unexplained,
        exact=exact,
        check=check,
        forecast=cost.model_copy(update={"features": sum(each.active for each in by_site)}),
    )


def _rows(sites: Sequence[CodedSite], fit: Sequence[PairGroup], spec: FeatureCircuitSpec) -> int:
    pairs = sum(map(len, fit))
    effects = 1 if spec.method == "atp" else len(sites) * spec.midpoints + 1
    return pairs * (effects + spec.edge_midpoints)


class _Work:
    """The pairs that the circuit is found on, read, and what is made of them."""

    def __init__(
        self,
        host: HostModel,
        sites: Sequence[CodedSite],
        fit: Sequence[PairGroup],
        spec: FeatureCircuitSpec,
        done: Done,
    ) -> None:
        self.host, self.sites, self.spec, self.done = host, sites, spec, done
        self.aligned = spec.positions == "aligned"
        self.pairs = [pair for group in fit for pair in group.pairs]
        self.prompts = OverPrompts(fit, spec.seed)
        self.readings: list[GroupReading] = []
        self.at_clean: list[list[Tensor]] = []
        self.gradients: list[list[Tensor]] = []
        for group in fit:
            reading = read_group(host, sites, group, spec.batch)
            if not bool(torch.isfinite(torch.cat([reading.clean_P, reading.patch_P])).all()):
                raise DataError("The host model's logits are not all finite numbers.")
            at_clean = clean_gradients(host, reading, spec.batch, done)
            self.readings.append(reading)
            self.at_clean.append(at_clean)
            self.gradients.append(at_clean if spec.method == "atp" else self._mean(reading))
        self.nodes = self._nodes(self.gradients)

    def _mean(self, reading: GroupReading) -> list[Tensor]:
        shares = midpoints(self.spec.midpoints)
        return [
            mean_gradient(self.host, reading, number, shares, self.spec.batch, self.done)
            for number in range(len(self.sites))
        ]

    def _nodes(self, gradients: Sequence[Sequence[Tensor]]) -> list[SiteNodes]:
        return [
            site_nodes(self.readings, gradients, number, self.aligned)
            for number in range(len(self.sites))
        ]

    def graph(self, features: Features, coders: Sequence[int]) -> CircuitGraph:
        texts = column_texts(self.host, self.pairs, self.aligned)
        edges = find_edges(
            self.host,
            self.readings,
            self.gradients,
            features,
            midpoints(self.spec.edge_midpoints),
            self.aligned,
            self.spec.batch,
            self.done,
        )
        return circuit_graph(
            self.readings[0].sites,
            coders,
            self.nodes,
            features,
            edges,
            texts,
            (self._metric_name(), self._difference()),
            self.spec.edges,
        )

    def _metric_name(self) -> str:
        answers = {(pair.right, pair.wrong) for pair in self.pairs}
        if len(answers) > 1:
            return "right answer - wrong answer"
        ((right, wrong),) = answers
        return " - ".join(repr(self.host.tokenizer.decode([side[0]])) for side in (right, wrong))

    def metric(self, side: str) -> WithInterval:
        """``clean`` or ``patch``."""
        return self.prompts.mean(values_of(self.readings, side))

    def _difference(self) -> float:
        clean_P, patch_P = (values_of(self.readings, side) for side in ("clean", "patch"))
        return float((clean_P - patch_P).mean())

    def site(self, number: int, name: str, features: Features) -> SiteEffects:
        own, there = self.nodes[number], self.sites[number]
        kept = features.at_site(number)
        effect = float(own.effect_CF.sum())
        error, whole = float(own.error_C.sum()), self._cut(number)
        size = sum(abs(features.effect[place]) for place in kept)
        return SiteEffects(
            site=there.site,
            reads=there.reads,
            sae=name,
            active=len(own.latents),
            kept=len(kept),
            features=effect,
            error=error,
            cut=whole,
            residual=effect + error - whole,
            kept_share=size / max(float(np.abs(own.effect_CF).sum()), 1e-30),
        )

    def tokens(self) -> TokenEffects | None:
        """Of the first site, where it is the prompt's tokens."""
        if self.sites[0].coder is not None:
            return None
        effect, whole = float(self.nodes[0].error_C.sum()), self._cut(0)
        return TokenEffects(effect=effect, cut=whole, residual=effect - whole)

    def _cut(self, number: int) -> float:
        cut = [cut_effect(self.host, each, number, self.spec.batch) for each in self.readings]
        return float(torch.cat(cut).double().mean())

    def exact(self, features: Features, reporter: Reporter) -> ExactEffects | None:
        """Half of the sample those of the largest effects, the others at random."""
        top = features.first(self.spec.exact - self.spec.exact // 2)
        rest = strongest(self.nodes, sum(each.effect_CF.size for each in self.nodes))
        others = np.arange(len(top), len(rest))
        rng = np.random.default_rng(abs(self.spec.seed))
        size = min(self.spec.exact // 2, len(others))
        drawn = np.sort(rng.choice(others, size, replace=False)) if size else others[:0]
        chosen = [*range(len(top)), *drawn.tolist()]
        if len(chosen) < 2:
            return None
        with reporter.stage(EXACT_STAGE, total=len(chosen), unit="features") as stage:
            real = self._real(rest, chosen, stage.advance)
        at_clean = _effects_of(self._nodes(self.at_clean), rest, chosen)
        estimated = np.array([rest.effect[place] for place in chosen])
        return ExactEffects(
            n=len(chosen),
            correlation=self._correlation(real, estimated),
            attribution_patching=self._correlation(real, at_clean),
            mean_real=float(np.abs(real).mean()),
        )

    def _real(self, features: Features, chosen: Sequence[int], done: Done) -> Floats:
        real = np.zeros(len(chosen))
        for number in range(len(self.sites)):
            places = [at for at, place in enumerate(chosen) if features.site[place] == number]
            if not places:
                continue
            wanted = [
                (features.latent[at], features.column[at] if self.aligned else None)
                for at in (chosen[place] for place in places)
            ]
            for reading in self.readings:
                effect_NP = exact_effects(self.host, reading, number, wanted, self.spec.batch)
                real[places] += effect_NP.double().sum(1).numpy()
                done(0)
            done(len(places))
        return real / len(self.pairs)

    def _correlation(self, real: Floats, estimated: Floats) -> WithInterval | None:
        made = pearson_interval(real, estimated, range(len(real)), abs(self.spec.seed))
        if made.value is None:
            return None
        return WithInterval(value=made.value, low=made.low, high=made.high)

    def check(
        self, features: Features, test: Sequence[PairGroup], reporter: Reporter
    ) -> HeldOutCheck:
        numbers = [at for at, each in enumerate(self.sites) if each.coder is not None]
        there = [[each.sites[at] for each in self.readings] for at in numbers]
        spec = self.spec
        passes = most_passes(len(features), spec.random_circuits, spec.neurons)
        total = passes * sum(map(len, test))
        with reporter.stage(CHECK_STAGE, total=total, unit="rows") as stage:

            def ablated(readings: Sequence[Sequence[SiteReading]]) -> AblatedHost:
                return AblatedHost(
                    self.host, readings, numbers, self.aligned, spec.batch, stage.advance
                )

            neurons = None
            if spec.neurons:
                bos = self.readings[0].group.bos
                plain = [[dimension_reading(each, bos) for each in groups] for groups in there]
                effects = dimension_nodes(self.readings, self.gradients, self.aligned)
                neurons = ablated(plain), effects
            return check_held_out(
                ablated(there),
                test,
                features,
                self.nodes,
                neurons,
                spec.random_circuits,
                spec.seed,
            )


def _effects_of(nodes: Sequence[SiteNodes], features: Features, chosen: Sequence[int]) -> Floats:
    """By other gradients, of the same features."""
    effects = []
    for place in chosen:
        own = nodes[features.site[place]]
        at = own.latents.index(features.latent[place])
        effects.append(own.effect_CF[features.column[place], at])
    return np.array(effects)
