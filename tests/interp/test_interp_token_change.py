"""Words that a planted latent makes likelier, and what the explainer makes of them."""

from __future__ import annotations

import asyncio
import copy
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch

from monosemy.errors import DataError, SpecError
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.explainers.base import ExplainingExamples, Explanation
from monosemy.interp.judging.judge import Judge
from monosemy.interp.registry import create_explainer
from monosemy.interp.token_change import TokenChanges, gains
from monosemy.interp.tools import Tools
from monosemy.interventions.effects import PromptEffects
from monosemy.specs import ExplanationSpec, JudgeSpec, parse_part
from tests.support.interp_examples import evidence, positives
from tests.support.planted_hosted_sae import long_host, planted_hosted_sae
from tests.support.stub_server import StubServer, good

TOKEN = 300


@pytest.fixture(scope="module")
def hosted(tiny_tokenizer: Any) -> HostedSAE:
    return planted_hosted_sae(long_host(tiny_tokenizer), TOKEN)


@pytest.fixture(scope="module")
def prompts(hosted: HostedSAE) -> tuple[tuple[int, ...], ...]:
    ids = torch.randint(5, hosted.host.d_vocab, (6, 8), generator=torch.Generator().manual_seed(0))
    return tuple(tuple(row) for row in ids.tolist())


def test_the_raised_token_comes_first(hosted: HostedSAE, prompts: Any) -> None:
    (word,) = hosted.host.token_bytes().whole([TOKEN]) or ("",)
    raised = TokenChanges(hosted)(0, prompts)
    assert raised[0] == word and len(raised) <= 30
    assert raised == TokenChanges(hosted)(0, prompts), "no chance in it"
    assert TokenChanges(hosted)(1, prompts)[0] != word


def test_the_parts_sum_to_the_divergence(hosted: HostedSAE, prompts: Any) -> None:
    effects = PromptEffects(hosted, prompts)
    addition, kl = effects.tuned(0, 0.7)
    gain_V = gains(effects.predictions(addition), effects.clean)
    assert float(gain_V.sum()) == pytest.approx(kl, rel=1e-6)
    assert int(gain_V.argmax()) == TOKEN


def test_threads_do_not_meet_in_the_host_model(hosted: HostedSAE, prompts: Any) -> None:
    alone = [TokenChanges(hosted)(latent, prompts) for latent in range(6)]
    shared = TokenChanges(hosted)
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda latent: shared(latent, prompts), range(6))) == alone


def test_a_latent_without_effect_is_an_error(hosted: HostedSAE, prompts: Any) -> None:
    sae = copy.deepcopy(hosted.sae)
    with torch.no_grad():
        sae.W_dec[2] = 0
    with pytest.raises(DataError, match="empty decoder direction"):
        TokenChanges(replace(hosted, sae=sae))(2, prompts)


def explain(change: Any, hosted: HostedSAE, prompts: Any) -> tuple[Explanation, str]:
    """The explanation, and what the judge was shown."""

    async def run(url: str) -> Explanation:
        async with Judge(url, None, "stub", JudgeSpec()) as judge:
            spec = ExplanationSpec(explainer="output_centric", token_change=True)
            explainer = create_explainer(spec, Tools(judge=judge, hosted=hosted))
            assert explainer.wants_prompts
            if change is not None:
                explainer.token_change = change  # type: ignore[attr-defined]
            shown = ExplainingExamples(tuple(positives(4)), prompts=prompts)
            return await explainer.explain(evidence(), shown)

    answer = good(label="an airport", explanation="Names a place to fly from.", confidence="low")
    with StubServer([answer]) as stub:
        explanation = asyncio.run(run(stub.url))
        return explanation, stub.requests[0]["messages"][-1]["content"]


def test_the_explainer_shows_them_and_says_so(hosted: HostedSAE, prompts: Any) -> None:
    expected = TokenChanges(hosted)(evidence().feature, prompts)
    explanation, content = explain(None, hosted, prompts)
    (line,) = [row for row in content.splitlines() if row.startswith("likelier in context")]
    shown = json.loads(line.removeprefix("likelier in context: "))
    # Told as text that cannot close the fence: a word may lose its space and odd characters.
    words = [word for word in expected[:15] if word.strip().isalnum() and word.isascii()]
    assert len(words) > 3 and set(words) <= set(shown)
    assert explanation.provenance["parameters"]["token_change"] is True


def test_without_an_effect_the_promoted_words_are_left(hosted: HostedSAE, prompts: Any) -> None:
    def none(feature: int, prompts: Any) -> list[str]:
        raise DataError(f"No strength moves {feature}.")

    explanation, content = explain(none, hosted, prompts)
    assert "likelier in context: []" in content and "airport" in content
    assert explanation.provenance["parameters"]["token_change"] == "No strength moves 7."


def test_it_is_for_the_output_centric_explainer_alone() -> None:
    with pytest.raises(SpecError, match="output_centric"):
        parse_part(ExplanationSpec, {"token_change": True})
    with pytest.raises(SpecError, match="output_centric"):
        parse_part(
            ExplanationSpec,
            {"explainer": "ensemble", "candidates": ["default"], "token_change": True},
        )
    assert ExplanationSpec(explainer="ensemble", token_change=True).token_change
