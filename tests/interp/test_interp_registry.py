from typing import get_args

import pytest

from monosemy.interp.explainers.default import DefaultExplainer
from monosemy.interp.judging.judge import Judge
from monosemy.interp.registry import create_explainer, create_scorer, explainers, scorers
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.interp.tools import Tools
from monosemy.specs.parts import ExplanationSpec, JudgeSpec, ScoringSpec


@pytest.mark.parametrize(
    ("registry", "spec", "field"),
    [(explainers, ExplanationSpec, "explainer"), (scorers, ScoringSpec, "scorer")],
)
def test_every_name_a_spec_allows_is_registered(registry: dict, spec: type, field: str) -> None:
    assert set(registry) == set(get_args(spec.model_fields[field].annotation))


def test_specs_reach_what_they_configure() -> None:
    judge = Judge("http://127.0.0.1:9/v1", None, "m", JudgeSpec())
    explainer = create_explainer(ExplanationSpec(examples=6), Tools(judge=judge))
    assert isinstance(explainer, DefaultExplainer)
    assert (explainer.max_examples, explainer.judge) == (6, judge)
    scorer = create_scorer(ScoringSpec(texts_per_call=9, seed=4), Tools(judge=judge))
    assert isinstance(scorer, DetectionScorer)
    assert (scorer.texts_per_call, scorer.seed, scorer.judge_client) == (9, 4, judge)
    for name, made in (("default", explainer), ("detection", scorer)):
        assert made.name == name
