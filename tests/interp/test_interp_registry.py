"""From specs to explainers and scorers: every name has a class, and gets what it says it needs."""

import pytest

from monosemy.errors import DataError
from monosemy.interp.explainers.default import DefaultExplainer
from monosemy.interp.judging.judge import Judge
from monosemy.interp.registry import create_explainer, create_scorer
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.interp.tools import NONE, Tools
from monosemy.specs import (
    ARCHITECTURES,
    EXPLAINERS,
    SCORERS,
    ExplanationSpec,
    JudgeSpec,
    Need,
    ScoringSpec,
    implementation_of,
)


@pytest.mark.parametrize("registry", [ARCHITECTURES, EXPLAINERS, SCORERS])
def test_every_spec_names_a_class_that_is_there(registry: dict) -> None:
    assert len(registry) > 3
    for name, spec in registry.items():
        made = implementation_of(spec)
        assert isinstance(made, type)
        if registry is not ARCHITECTURES:
            assert callable(made.create) and getattr(made, "name", name) == name


@pytest.mark.parametrize("name", list(SCORERS))
def test_a_scorer_without_its_tools_says_which_one_it_lacks(name: str) -> None:
    words = {Need.JUDGE: "judge", Need.HOST: "host model", Need.EMBEDDER: "embedder"}
    spec = ScoringSpec(scorer=name)
    (need,) = spec.required
    with pytest.raises(DataError, match=words[need]):
        create_scorer(spec, NONE)


def test_needs_follow_the_options() -> None:
    assert ExplanationSpec(explainer="output_centric").required == {Need.JUDGE}
    changed = ExplanationSpec(explainer="ensemble", token_change=True)
    assert changed.required == {Need.JUDGE, Need.HOST}


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
