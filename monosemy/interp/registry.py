"""Explainers and scorers by the names that run specs use: one file and one line each."""

from __future__ import annotations

from collections.abc import Callable

from monosemy.interp.explainers.base import Explainer
from monosemy.interp.explainers.default import DefaultExplainer
from monosemy.interp.scorers.base import Scorer
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.interp.tools import Tools
from monosemy.specs.parts import ExplanationSpec, ScoringSpec

explainers: dict[str, Callable[[ExplanationSpec, Tools], Explainer]] = {
    "default": lambda spec, tools: DefaultExplainer(tools.need_judge(), spec.examples),
}

scorers: dict[str, Callable[[ScoringSpec, Tools], Scorer]] = {
    "detection": lambda spec, tools: DetectionScorer(
        tools.need_judge(), spec.texts_per_call, spec.seed
    ),
    "surprisal": lambda _, tools: _surprisal(tools),
    "intervention": lambda spec, tools: _intervention(spec, tools),
}


def _surprisal(tools: Tools) -> Scorer:
    from monosemy.interp.scorers.surprisal import SurprisalScorer  # needs torch

    return SurprisalScorer(tools.need_lab())


def _intervention(spec: ScoringSpec, tools: Tools) -> Scorer:
    from monosemy.interp.scorers.intervention import InterventionScorer  # needs torch

    return InterventionScorer(tools.need_lab(), spec.intervention, spec.seed)


def create_explainer(spec: ExplanationSpec, tools: Tools) -> Explainer:
    """The explainer that ``spec.explainer`` names; ``DataError`` if a tool is missing."""
    return explainers[spec.explainer](spec, tools)


def create_scorer(spec: ScoringSpec, tools: Tools) -> Scorer:
    """The scorer that ``spec.scorer`` names; ``DataError`` if a tool is missing."""
    return scorers[spec.scorer](spec, tools)
