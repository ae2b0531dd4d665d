"""Detection by a trained probe of the host model's states, which asks where unsure.  Needs torch.

The measure is detection's, balanced accuracy; what the probe is unsure of goes to the judge, as in
``monosemy.interp.probe``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.probe.items import RADIUS
from monosemy.interp.probe.linear import Floats
from monosemy.interp.probe.probe import Probe
from monosemy.interp.probe.states import ProbeStates
from monosemy.interp.scorers.balanced_accuracy import balanced_accuracy
from monosemy.interp.scorers.base import ScoringExamples, judgement_of
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.interp.scorers.result import Judged, Judgement, Summary
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.tiers import ACTIVATING, RANDOM


@dataclass(frozen=True)
class _Asked:
    """What makes two scores by probes the same work, besides judge and examples."""

    probe: str
    detection: dict[str, str | int]

    def provenance(self) -> dict[str, Any]:
        return asdict(self)


class ProbeScorer:
    """Every judgement has an answer; those that the probe gave itself also its probability."""

    name = "probe"
    headline = RANDOM
    needs_explanation = True

    def __init__(self, hosted: HostedSAE, probe: Probe, detection: DetectionScorer) -> None:
        """Raises ``DataError`` for a probe that does not beat TF-IDF on held-out features, or that
        was trained on another host model, precision or prompt."""
        probe.check_serves()
        self.probe = probe
        self.detection = detection
        self.prompt = _Asked(probe.identity, detection.prompt.provenance())
        site = probe.view.rpartition(":")[0]
        self.states = ProbeStates(hosted.host, [site] if site else None, [probe.view])
        known = {name: probe.source.get(name) for name in ("fingerprint", "dtype", "prompt")}
        if known != self._mine() and not self._is_mine_by_first_form(known, hosted):
            raise DataError(
                f"The probe was trained on {probe.source.get('model')} as {known}, and this is "
                f"{hosted.host.name} as {self._mine()}."
            )

    def tiers(self, asked: Sequence[str]) -> tuple[str, ...]:
        return self.detection.tiers(asked)

    async def judge(self, explanation: str, examples: ScoringExamples) -> Judged:
        """Raises as detection does.  Unsure texts that the judge spoils count as failed."""
        items = examples.with_tiers()
        if len({tier == ACTIVATING for tier, _ in items}) < 2:
            raise DataError(
                "A probe's score needs activating examples and others.",
                "Index more text, or leave the feature out.",
            )
        pairs = [(explanation, example.cropped(RADIUS).text) for _, example in items]
        states = await asyncio.to_thread(self.states, pairs)
        p_N = self.probe.probabilities(states[self.probe.view])
        active_N = np.array([tier == ACTIVATING for tier, _ in items])
        asked = set(self._escalated(p_N, active_N))
        judged = Judged(())
        if asked:
            judged = await self.detection.judge(explanation, _only(examples, asked))
        answers = iter(judged.judgements)  # in the order of ``with_tiers``, as ``_only`` keeps it
        judgements = tuple(
            next(answers)
            if n in asked
            else judgement_of(tier, example, answer=bool(p_N[n] >= 0.5), value=float(p_N[n]))
            for n, (tier, example) in enumerate(items)
        )
        return Judged(judgements, judged.usage)

    def summarise(self, judgements: Sequence[Judgement], z: float = Z95) -> Summary:
        """Balanced accuracy against ``headline``; ``details`` says how many the judge answered."""
        found = balanced_accuracy(judgements, self.headline, z)
        found.details["escalated"] = sum(judgement.value is None for judgement in judgements)
        return found

    def provenance(self) -> dict[str, Any]:
        detection = self.detection.provenance()
        return {
            **detection,
            "parameters": {
                **detection["parameters"],
                "probe": self.probe.identity,
                "view": self.probe.view,
                "band": self.probe.band.as_dict(),
            },
            "probe": {"source": dict(self.probe.source), "verdict": self.probe.report.verdict},
        }

    def _mine(self) -> dict[str, Any]:
        return {name: self.states.source()[name] for name in ("fingerprint", "dtype", "prompt")}

    def _is_mine_by_first_form(self, known: dict[str, Any], hosted: HostedSAE) -> bool:
        """A probe of earlier days has the first form of a fingerprint, and keeps its identity."""
        return known == {**self._mine(), "fingerprint": hosted.host.sampled_fingerprint}

    def _escalated(self, p_N: Floats, active_N: np.ndarray) -> list[int]:
        """Items in the band.  Where these are of one class, the least sure of the other joins: a
        judge asked about one kind alone would meet calls unlike those it was measured with."""
        chosen = np.flatnonzero(self.probe.band.unsure(p_N))
        if not len(chosen) or len(set(active_N[chosen].tolist())) == 2:
            return [int(n) for n in chosen]
        others = np.flatnonzero(active_N != active_N[chosen[0]])
        nearest = others[np.abs(p_N[others] - 0.5).argmin()]
        return sorted(int(n) for n in [*chosen, nearest])


def _only(examples: ScoringExamples, wanted: set[int]) -> ScoringExamples:
    """The examples whose numbers in ``with_tiers`` are wanted, in the same order."""
    kept: dict[str, list[Any]] = {}
    for n, (tier, example) in enumerate(examples.with_tiers()):
        if n in wanted:
            kept.setdefault(tier, []).append(example)
    active = tuple(kept.pop(ACTIVATING, ()))
    return ScoringExamples(
        examples.feature, active, {tier: tuple(found) for tier, found in kept.items()}
    )
