"""Explainers and scorers by the names that run specs use: one file and one line each."""

from __future__ import annotations

from collections.abc import Callable

from monosemy.interp.detection import DetectionScorer, Scorer
from monosemy.interp.explain import DefaultExplainer, Explainer
from monosemy.interp.judge import Judge
from monosemy.specs.parts import ExplanationSpec, ScoringSpec

explainers: dict[str, Callable[[ExplanationSpec, Judge], Explainer]] = {
    "default": lambda spec, judge: DefaultExplainer(judge, spec.examples),
}

scorers: dict[str, Callable[[ScoringSpec, Judge], Scorer]] = {
    "detection": lambda spec, judge: DetectionScorer(judge, spec.texts_per_call, spec.seed),
}


def create_explainer(spec: ExplanationSpec, judge: Judge) -> Explainer:
    """The explainer that ``spec.explainer`` names, calling ``judge``."""
    return explainers[spec.explainer](spec, judge)


def create_scorer(spec: ScoringSpec, judge: Judge) -> Scorer:
    """The scorer that ``spec.scorer`` names, calling ``judge``."""
    return scorers[spec.scorer](spec, judge)
