"""Which queue a run goes to."""

from __future__ import annotations

import pytest

from monosemy.specs import (
    KINDS,
    SCORERS,
    ExplainRun,
    ExplanationSpec,
    Need,
    PipelineRun,
    ScoreRun,
    ScoringSpec,
    TrainRun,
    queue_of,
)


def test_only_what_runs_the_host_model_leaves_the_queue_of_its_kind() -> None:
    assert queue_of(ScoreRun(sae="s")) == KINDS["score"].queue == "interp"
    hosted = [name for name, spec in SCORERS.items() if Need.HOST in spec.needs]
    assert hosted == ["surprisal", "intervention"]
    for name in hosted:
        assert queue_of(ScoreRun(sae="s", scoring=ScoringSpec(scorer=name))) == "gpu"
    assert queue_of(ExplainRun(sae="s")) == "interp"
    changed = ExplanationSpec(explainer="output_centric", token_change=True)
    assert queue_of(ExplainRun(sae="s", explanation=changed)) == "gpu"
    assert queue_of(TrainRun()) == "gpu"
    assert queue_of(PipelineRun(scoring=ScoringSpec(scorer="surprisal"))) == "none"
    assert {name for name, kind in KINDS.items() if kind.queue == "none"} == {
        "pipeline",
        "basis_pipeline",
    }


@pytest.mark.parametrize("wrong", [{"kl": 0}, {"new_tokens": 0}, {"mode": "half"}, {"prompts": 1}])
def test_interventions_that_mean_nothing_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ScoringSpec(scorer="intervention", intervention=wrong)


def test_an_intervention_is_not_looked_at_in_parts() -> None:
    with pytest.raises(ValueError, match="tuned on all its prompts"):
        ScoringSpec(scorer="intervention", half_width=0.1)
    assert ScoringSpec(scorer="surprisal", half_width=0.1).half_width == 0.1
