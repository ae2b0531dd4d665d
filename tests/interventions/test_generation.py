"""Writing on with and without interventions: the cache, the noise, the end, and known answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.edits import Interventions
from monosemy.interventions.generation import Generation, NewToken, generate
from monosemy.interventions.intervention import steer
from monosemy.models.host import HostModel
from monosemy.specs.inference.places import TokenPlaces
from tests.support.planted_hosted_sae import long_host, planted_hosted_sae
from tests.support.written import beside

TOKEN = 300
PROMPT = [0, 17, 45, 201, 33, 99]


@pytest.fixture(scope="module")
def hosted(tiny_tokenizer: Any) -> HostedSAE:
    return planted_hosted_sae(long_host(tiny_tokenizer), TOKEN)


def rows(steps: Sequence[Sequence[NewToken | None]]) -> list[list[int]]:
    """Tokens of each row."""
    return [[each.token for each in row if each is not None] for row in zip(*steps, strict=True)]


def test_a_strong_push_writes_its_word(hosted: HostedSAE) -> None:
    push = Interventions([steer(0, 60.0)], hosted)
    steps = list(generate(hosted.host, beside(PROMPT, push, None), Generation(6, temperature=0)))
    steered, plain = rows(steps)
    assert steered == [TOKEN] * 6
    assert TOKEN not in plain


@pytest.mark.parametrize("where", ["all", "new"])
@pytest.mark.parametrize("mode", ["add", "clamp", "orthogonal"])
def test_the_cache_changes_nothing(hosted: HostedSAE, where: Any, mode: Any) -> None:
    """Each step's log probabilities are those of a whole forward with the same edits."""
    push = Interventions([steer(0, 2.0, mode)], hosted)
    how = Generation(5, temperature=0.8, places=TokenPlaces(where=where), logprobs=5)
    steps = list(generate(hosted.host, beside(PROMPT, push, None, seed=3), how))
    for row, edit in enumerate((push, None)):
        ids = list(PROMPT)
        for step in steps:
            written = step[row]
            assert written is not None
            where_BS = torch.ones(1, len(ids), dtype=torch.bool)
            where_BS[0, 0] = False  # BOS
            if where == "new":
                where_BS[0, : len(PROMPT) - 1] = False
            edits = None if edit is None else edit.edits(where_BS)
            row_BS = torch.tensor([ids])
            logits = hosted.host.logits(row_BS, torch.ones_like(row_BS), edits)[0, -1]
            log_p = logits.double().log_softmax(-1)
            assert written.logprob == pytest.approx(float(log_p[written.token]), abs=1e-4)
            values, best = log_p.topk(5)
            assert [token for token, _ in written.top] == best.tolist()
            assert [value for _, value in written.top] == pytest.approx(values.tolist(), abs=1e-4)
            ids.append(written.token)


def test_without_effect_both_are_the_same_text(hosted: HostedSAE) -> None:
    nothing = Interventions([steer(0, 0.0)], hosted)
    for seed in range(3):
        how = Generation(8, temperature=1.0)
        steered, plain = rows(
            list(generate(hosted.host, beside(PROMPT, nothing, None, seed=seed), how))
        )
        assert steered == plain
    written = set()
    for seed in range(6):
        steps = list(generate(hosted.host, beside(PROMPT, None, seed=seed), Generation(8, 1.0)))
        written.add(tuple(rows(steps)[0]))
    assert len(written) > 1, "the seed decides"


def test_a_row_ends_by_itself(hosted: HostedSAE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted.host.model.generation_config, "eos_token_id", TOKEN)
    push = Interventions([steer(0, 60.0)], hosted)
    steps = list(generate(hosted.host, beside(PROMPT, push, None), Generation(4, temperature=0)))
    assert len(steps) == 4
    assert steps[0][0] is not None and steps[0][0].last
    assert all(step[0] is None for step in steps[1:])
    last = steps[-1][1]
    assert last is not None and last.last
    assert len(list(generate(hosted.host, beside(PROMPT, push), Generation(4, temperature=0)))) == 1


def test_special_tokens_and_bos_are_left_alone(hosted: HostedSAE) -> None:
    """What is pushed is seen by an edit that only notes where."""
    noted: list[torch.Tensor] = []

    class Noting:
        def edits(self, where_BS: torch.Tensor, first: int = 0) -> dict[str, Any]:
            noted.append(where_BS.clone())
            assert first == (len(prompt) if len(noted) > 1 else 0)
            return {}

    special = 1
    assert special in hosted.host.tokenizer.all_special_ids
    prompt = [0, 50, special, 60, 70]
    for how, expected in (
        (Generation(2), [False, True, False, True, True]),
        (Generation(2, places=TokenPlaces(special_tokens=True)), [False, True, True, True, True]),
        (Generation(2, places=TokenPlaces(where="new")), [False, False, False, False, True]),
    ):
        noted.clear()
        list(generate(hosted.host, beside(prompt, Noting()), how))
        assert noted[0].tolist() == [expected] and noted[1].tolist() == [[True]]


def test_hooks_are_gone_between_steps(tiny_host: HostModel, hosted: HostedSAE) -> None:
    row_BS = torch.tensor([PROMPT])
    before = hosted.host.logits(row_BS, torch.ones_like(row_BS))
    writing = generate(
        hosted.host, beside(PROMPT, Interventions([steer(0, 50.0)], hosted)), Generation(3)
    )
    next(writing)
    assert torch.equal(hosted.host.logits(row_BS, torch.ones_like(row_BS)), before)
    next(writing)
