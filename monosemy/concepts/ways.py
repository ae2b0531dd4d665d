"""Ways to tell and to erase a concept, on the same texts, which chose nothing.  Needs torch."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from monosemy.concepts.deactivation import Deactivation
from monosemy.concepts.embeddings import embedding_test
from monosemy.concepts.features import Choosing, Chosen
from monosemy.concepts.figures import area, share
from monosemy.concepts.leace import leace, mean_difference
from monosemy.concepts.probes import linear_probe, radial_probe
from monosemy.concepts.readings import Readings
from monosemy.concepts.text_vectors import TextVectors, ways_of
from monosemy.concepts.texts import Uses
from monosemy.concepts.threshold import find_threshold
from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.progress import Reporter
from monosemy.saes.base import SAE
from monosemy.specs import ConceptRun
from monosemy.specs.concepts import ChoiceRule, Scoring
from monosemy.specs.rest.concepts import (
    Detector,
    DetectorKind,
    EmbeddingFigures,
    EmbeddingKind,
    Eraser,
    EraserKind,
    Share,
)

PAPERS_SCALE = -8.0
"""For celebrities."""
PAPERS_SHARE = 0.99
"""Of the least score of a target: the paper's threshold."""

TextScores = Callable[[Readings], list[float]]


@dataclass(frozen=True)
class ReadTexts:
    """The texts of every use, read."""

    fit_targets: Readings
    fit_retain: Readings
    threshold_retain: Readings
    test_targets: Readings
    test_retain: Readings
    misspelt: Readings
    paraphrases: Readings | None


class Ways:
    """Ways to tell and to erase a concept, on the same texts."""

    def __init__(
        self, sae: SAE, spec: ConceptRun, read: ReadTexts, chosen: Chosen, other: Sequence[int]
    ) -> None:
        self._sae, self._spec, self._read, self._chosen = _on_cpu(sae), spec, read, chosen
        self._other = tuple(other)
        """Features by the other rule."""
        self.own = self._by(chosen.own, spec.scale, spec.score)
        """Scores of texts for the concept itself."""

    @cached_property
    def _random(self) -> tuple[int, ...]:
        """As many features as the concept has, of all that fire in texts that choose."""
        draw = random.Random(f"random features {self._spec.seed}")
        firing = self._chosen.firing
        return tuple(draw.sample(firing, min(len(self._chosen.own), len(firing))))

    @property
    def _other_scale(self) -> float:
        return 0.0 if self._spec.scale != 0 else PAPERS_SCALE

    def _by(self, latents: Sequence[int], scale: float, score: Scoring) -> TextScores:
        deactivation = Deactivation(self._sae, dict.fromkeys(latents, scale))

        def scores(texts: Readings) -> list[float]:
            values_T = deactivation.token_scores(texts.codes, texts.x_TD, score)
            return [float(value) for value in texts.each_text(values_T)]

        return scores

    # ------------------------------------------------------------------ telling texts
    def detectors(self) -> list[Detector]:
        spec, chosen = self._spec, self._chosen
        own, score, scale = chosen.own, spec.score, spec.scale
        other: Scoring = "error" if score == "removed" else "removed"
        papers = self._by(own, scale, "error")
        least = PAPERS_SHARE * min(papers(self._read.fit_targets))
        probe = linear_probe(*self._means(self._read.fit_targets, self._read.fit_retain))
        ways: list[tuple[str, DetectorKind, Sequence[int] | None, float | None, Scoring | None]] = [
            ("the concept", "concept", own, scale, score),
            (f"rule {_OTHER[spec.rule]}", "rule", self._other, scale, score),
            (f"by {_SCORES[other]}", "score", own, scale, other),
            (f"scale {self._other_scale:g}", "scale", own, self._other_scale, "error"),
            ("no retain set", "no_retain", chosen.all, scale, score),
            ("random features", "random", self._random, scale, score),
        ]
        detectors = [
            self._detector(
                name, kind, len(latents or ()), at, by, self._by(latents or (), at or 0, by)
            )
            for name, kind, latents, at, by in ways
            if by is not None
        ]
        detectors.append(
            self._detector(
                "linear probe",
                "probe",
                None,
                None,
                None,
                lambda texts: probe(texts.means(texts.x_TD)).tolist(),
            )
        )
        detectors.append(
            self._detector(
                "the paper's threshold", "papers_threshold", len(own), scale, "error", papers, least
            )
        )
        return detectors

    def _detector(
        self,
        name: str,
        kind: DetectorKind,
        features: int | None,
        scale: float | None,
        score: Scoring | None,
        scores: TextScores,
        threshold: float | None = None,
    ) -> Detector:
        spec, read = self._spec, self._read
        if threshold is None:
            figures = find_threshold(
                scores(read.threshold_retain), spec.false_alarms, spec.confidence
            )
            threshold = figures.value
        targets, retain = scores(read.test_targets), scores(read.test_retain)
        others = scores(read.paraphrases) if read.paraphrases is not None else []

        def flagged(values: Sequence[float]) -> Share:
            return share([value > threshold for value in values])

        return Detector(
            name=name,
            kind=kind,
            features=features,
            scale=scale,
            score=score,
            threshold=threshold,
            area=area(targets, retain),
            found=flagged(targets),
            false_alarms=flagged(retain),
            misspelt=flagged(scores(read.misspelt)),
            paraphrases=flagged(others),
        )

    # ------------------------------------------------------------------ erasing
    def erasers(self) -> list[Eraser]:
        spec, chosen, read = self._spec, self._chosen, self._read
        fit = self._means(read.fit_targets, read.fit_retain, read.threshold_retain)
        test = self._means(read.test_targets, read.test_retain)
        erased = [self._eraser("nothing", "nothing", None, None, fit, test, (fit[0], test[0]))]
        ways: list[tuple[str, EraserKind, Sequence[int], float]] = [
            ("the concept", "concept", chosen.own, spec.scale),
            (f"rule {_OTHER[spec.rule]}", "rule", self._other, spec.scale),
            (f"scale {self._other_scale:g}", "scale", chosen.own, self._other_scale),
            ("no retain set", "no_retain", chosen.all, spec.scale),
            ("random features", "random", self._random, spec.scale),
        ]
        for name, kind, latents, scale in ways:
            deactivation = Deactivation(self._sae, dict.fromkeys(latents, scale), spec.keep_error)
            after = (
                self._after(deactivation, read.fit_targets, read.fit_retain, read.threshold_retain),
                self._after(deactivation, read.test_targets, read.test_retain),
            )
            erased.append(self._eraser(name, kind, len(latents), scale, fit, test, after))
        # Affine: what they make of a text's mean is the mean of what they make of its tokens.
        for name, kind, eraser in (
            ("mean difference", "mean_difference", mean_difference(*fit)),
            ("LEACE", "leace", leace(*fit)),
        ):
            after = eraser(fit[0]), eraser(test[0])
            erased.append(self._eraser(name, kind, None, None, fit, test, after))  # type: ignore[arg-type]
        return erased

    # ------------------------------------------------------------------ embeddings
    def embeddings(
        self,
        vectors: TextVectors,
        hosted: HostedSAE,
        uses: Uses,
        threshold: float,
        reporter: Reporter,
    ) -> EmbeddingFigures:
        """Of texts in use: those above the threshold are flagged, whatever is done to them then."""
        read, own, names = self._read, self._chosen.own, [each.name for each in fields(ReadTexts)]
        flagged = {
            name: [score > threshold for score in self.own(getattr(read, name))]
            for name in names
            if getattr(read, name) is not None
        }
        ways: list[tuple[str, EmbeddingKind, Sequence[int], float]] = [
            ("the concept", "concept", own, self._spec.scale),
            (f"scale {self._other_scale:g}", "scale", own, self._other_scale),
            ("random features", "random", self._random, self._spec.scale),
        ]
        eraser = leace(*self._means(read.fit_targets, read.fit_retain, read.threshold_retain))
        tried = ways_of(hosted, ways, self._spec.keep_error, eraser)
        test = embedding_test(vectors, self._spec, uses, flagged)
        with reporter.stage("embeddings", test.forwards(tried), "text") as stage:
            return test.figures(tried, lambda n: stage.advance(n))

    def _eraser(
        self,
        name: str,
        kind: EraserKind,
        features: int | None,
        scale: float | None,
        fit: tuple[Tensor, Tensor],
        test: tuple[Tensor, Tensor],
        after: tuple[Tensor, Tensor],
    ) -> Eraser:
        spread = float((fit[0] - fit[0].mean(0)).square().sum(1).mean()) or 1.0
        change_N = (after[1] - test[0]).square().sum(1) / spread
        areas = []
        for probe in (linear_probe, radial_probe):
            values_N = probe(after[0], fit[1])(after[1])
            areas.append(area(values_N[test[1]].tolist(), values_N[~test[1]].tolist()))
        return Eraser(
            name=name,
            kind=kind,
            features=features,
            scale=scale,
            linear=areas[0],
            nonlinear=areas[1],
            change_targets=float(change_N[test[1]].mean()),
            change_retain=float(change_N[~test[1]].mean()),
        )

    @staticmethod
    def _means(targets: Readings, *retain: Readings) -> tuple[Tensor, Tensor]:
        """(mean activation of each text ``[n, d]`` float64, which are targets ``[n]``)"""
        means = [each.means(each.x_TD.double()) for each in (targets, *retain)]
        on = torch.arange(sum(map(len, means))) < len(targets)
        return torch.cat(means), on

    def _after(self, deactivation: Deactivation, *texts: Readings) -> Tensor:
        """The same of activations that were deactivated at every token."""
        means = []
        for each in texts:
            if deactivation.keep_error:
                made_TD = each.x_TD.double() + deactivation.change(each.codes).double()
            else:
                made_TD = deactivation.reconstruction(each.codes, each.x_TD).double()
            means.append(each.means(made_TD))
        return torch.cat(means)


def by_other_rule(choosing: Choosing, spec: ConceptRun) -> tuple[int, ...]:
    """None where it leaves none."""
    try:
        return choosing.choose(_OTHER[spec.rule], spec.seed).own
    except DataError:
        return ()


_OTHER: dict[ChoiceRule, ChoiceRule] = {"difference": "share", "share": "difference"}
_SCORES: dict[Scoring, str] = {"removed": "what is removed", "error": "the whole error"}


def _on_cpu(sae: SAE) -> SAE:
    """Readings are on the CPU; an SAE that is elsewhere is copied there."""
    if sae.device.type == "cpu":
        return sae
    import copy

    return copy.deepcopy(sae).cpu()
