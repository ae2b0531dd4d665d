"""The scores of heads, of patterns that are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monosemy.attribution.head_scores import score_heads
from monosemy.errors import DataError

WORDS = range(5, 300)


def to_the_token_before(ids: Tensor) -> Tensor:
    """One head."""
    return _one_hot((torch.arange(ids.shape[1]) - 1).clamp_min(0).expand_as(ids))


def to_the_same(ids: Tensor, shift: int = 0, least: int = 1) -> Tensor:
    """To the place ``shift`` after the last earlier one of the same token, if the ``least`` tokens
    up to here stood there; else to the first place."""
    rows, length = ids.shape
    to = torch.zeros_like(ids)
    for row in range(rows):
        for t in range(length):
            for s in range(t - 1, least - 2, -1):
                if torch.equal(ids[row, s - least + 1 : s + 1], ids[row, t - least + 1 : t + 1]):
                    to[row, t] = s + shift
                    break
    return _one_hot(to)


def _one_hot(to: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(to, to.shape[1]).float()[:, None]


@pytest.mark.parametrize("bos", [0, None])
def test_known_heads_get_their_scores(bos: int | None) -> None:
    def patterns(ids: Tensor) -> Tensor:
        if bos is not None:
            assert (ids[:, 0] == bos).all() and not (ids[:, 1:] == bos).any()
        heads = [to_the_token_before(ids), to_the_same(ids), to_the_same(ids, 1)]
        heads.append(to_the_same(ids, 1, least=3))
        return torch.cat(heads, dim=1)

    scores = score_heads(patterns, WORDS, bos, rows=3, prefixes=(1, 3, 5))
    assert scores.previous.tolist() == [1, 0, 0, 0]
    assert scores.duplicate[:3].tolist() == [0, 1, 0] and scores.duplicate[3] < 0.1
    assert scores.induction[:3].tolist() == [0, 0, 1] and scores.induction[3] > 0.9
    assert scores.prefixes[1].tolist() == [0, 0, 1, 0]
    assert scores.prefixes[3].tolist() == scores.prefixes[5].tolist() == [0, 0, 1, 1]
    assert scores.long_prefix[2] == 1 and scores.long_prefix[3] > 100
    assert scores.long_prefix[:2].isnan().all()


def test_attention_to_everything_scores_by_chance() -> None:
    def patterns(ids: Tensor) -> Tensor:
        size = ids.shape[1]
        even = torch.ones(size, size).tril()
        return (even / even.sum(dim=1, keepdim=True)).expand(len(ids), 1, size, size)

    scores = score_heads(patterns, WORDS, 0, rows=2)
    assert all(float(each) < 0.03 for each in (scores.previous, scores.duplicate, scores.induction))


def test_a_short_context_has_shorter_texts_or_none() -> None:
    lengths = []

    def patterns(ids: Tensor) -> Tensor:
        lengths.append(ids.shape[1])
        return to_the_same(ids, 1)

    scores = score_heads(patterns, WORDS, 0, rows=2, longest=32)
    assert scores.induction.item() == 1 and max(lengths) <= 32
    with pytest.raises(DataError, match="context of 12 tokens"):
        score_heads(patterns, WORDS, 0, rows=2, longest=12)


def test_a_small_vocabulary_is_refused() -> None:
    with pytest.raises(DataError, match="vocabulary has 20"):
        score_heads(to_the_same, range(20), None, rows=2)
