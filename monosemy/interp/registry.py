"""From the spec of an explainer or a scorer to what explains or judges: the class that it names."""

from __future__ import annotations

from monosemy.interp.explainers.base import Explainer
from monosemy.interp.explainers.single_token import SingleTokenExplainer
from monosemy.interp.scorers.base import Scorer
from monosemy.interp.tools import Tools
from monosemy.specs import ExplanationSpec, ScoringSpec, implementation_of


def create_explainer(spec: ExplanationSpec, tools: Tools) -> Explainer:
    """The explainer that ``spec`` names; ``DataError`` if a tool is missing."""
    tools.check(spec.required)
    explainer: Explainer = implementation_of(spec).create(spec, tools)
    return SingleTokenExplainer(explainer) if spec.single_token else explainer


def create_scorer(spec: ScoringSpec, tools: Tools) -> Scorer:
    """The scorer that ``spec`` names; ``DataError`` if a tool is missing."""
    tools.check(spec.required)
    scorer: Scorer = implementation_of(spec).create(spec, tools)
    return scorer
