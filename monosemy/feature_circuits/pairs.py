"""Pairs of prompts as tokens, and the halves that a circuit is found and checked on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

from monosemy.data.tasks.examples import Example, encode
from monosemy.data.tasks.sources import prompts_of
from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.models.host import HostModel
from monosemy.specs.feature_circuits import FeatureCircuitSpec, GivenPairs, PromptPair

_LEAST = 2
"""Pairs of each half."""


@dataclass(frozen=True)
class Pair:
    """Two prompts of T tokens each, BOS included."""

    text: str
    clean: tuple[int, ...]
    patch: tuple[int, ...] | None
    right: tuple[int, ...]
    wrong: tuple[int, ...]


@dataclass(frozen=True)
class PairGroup:
    """P pairs of one length T."""

    pairs: tuple[Pair, ...]
    bos: int
    """Tokens at the beginning that are a BOS: 1 or 0."""

    @cached_property
    def clean_PT(self) -> Tensor:
        return torch.tensor([each.clean for each in self.pairs])

    @cached_property
    def patch_PT(self) -> Tensor | None:
        """None where the pairs have no patch."""
        rows = [each.patch for each in self.pairs if each.patch is not None]
        return torch.tensor(rows) if len(rows) == len(self.pairs) else None

    def metric(self, logits_RV: Tensor, pair_R: Sequence[int]) -> Tensor:
        """Log of the probability of right answers over that of wrong ones, ``[R]``; ``pair_R``:
        which pair a row is of."""
        rows = []
        for number, logits_V in zip(pair_R, logits_RV.float(), strict=True):
            sides = (self.pairs[number].right, self.pairs[number].wrong)
            right, wrong = (logits_V[list(side)].logsumexp(0) for side in sides)
            rows.append(right - wrong)
        return torch.stack(rows)

    def __len__(self) -> int:
        return len(self.pairs)


def pairs_of(spec: FeatureCircuitSpec, host: HostModel) -> list[Pair]:
    """The pairs that a spec asks for, each once.

    ``DataError`` for one whose prompts have unequal numbers of tokens, that is too long, whose
    answers are not one token each, and, where positions are aligned, for pairs of several lengths.
    """
    bos = _bos(host, spec.prepend_bos)
    if isinstance(spec.pairs, GivenPairs):
        given = enumerate(spec.pairs.items, 1)
        asked = [_given(item, host, bos, f"Pair {number}") for number, item in given]
    else:
        prompts = prompts_of(spec.pairs, host.tokenizer)
        both = zip(prompts.positive, prompts.negative, strict=True)
        asked = [_of_examples(clean, patch, bos) for clean, patch in both]
    for number, each in enumerate(asked, 1):
        _check(each, host, f"Pair {number}")
    pairs = list(dict.fromkeys(asked))
    lengths = sorted({len(each.clean) for each in pairs})
    if spec.positions == "aligned" and len(lengths) > 1:
        raise DataError(
            f"The prompts have {lengths[0]} to {lengths[-1]} tokens, so that none is at the same"
            " place in all.",
            "Take pairs of one template (pairs.templates), or positions: summed.",
        )
    return pairs


def _bos(host: HostModel, prepend: bool) -> tuple[int, ...]:
    """What is put before each prompt."""
    return (host.bos_id,) if prepend and host.bos_id is not None else ()


def _of_examples(clean: Example, patch: Example, bos: tuple[int, ...]) -> Pair:
    return Pair(clean.text, (*bos, *clean.ids), (*bos, *patch.ids), clean.right, clean.wrong)


def _given(item: PromptPair, host: HostModel, bos: tuple[int, ...], where: str) -> Pair:
    clean = encode(host.tokenizer, item.clean)
    patch = None if item.patch is None else encode(host.tokenizer, item.patch)
    answers = []
    for word in (item.answer, item.wrong):
        whole = encode(host.tokenizer, item.clean + word)
        if whole[: len(clean)] != clean or len(whole) != len(clean) + 1:
            raise DataError(
                f"{where}: {word!r:.80} is not one token of its own after the prompt.",
                "Begin it with the space that stands before the word; it must be a single token.",
            )
        answers.append(whole[-1:])
    whole_patch = None if patch is None else (*bos, *patch)
    return Pair(item.clean, (*bos, *clean), whole_patch, answers[0], answers[1])


def _check(pair: Pair, host: HostModel, where: str) -> None:
    count = len(pair.clean)
    if pair.patch is not None and len(pair.patch) != count:
        raise DataError(
            f"{where}: the prompt has {plural(count, 'token')}, its patch {len(pair.patch)}:"
            f" {pair.text!r:.80}.",
            "Both must have equally many, so that each token has one to be replaced by.",
        )
    if pair.patch == pair.clean:
        raise DataError(f"{where}: the prompt and its patch are the same: {pair.text!r:.80}.")
    if not pair.right or not pair.wrong:
        raise DataError(f"{where} has no answers to tell apart: {pair.text!r:.80}.")
    if set(pair.right) & set(pair.wrong):
        raise DataError(
            f"{where}: the host's tokenizer reads answer and wrong as one token: {pair.text!r:.80}."
        )
    limit = host.abilities.positions
    if count < 2 or (limit is not None and count > limit):
        most = "" if limit is None else f", at most {limit}"
        raise DataError(
            f"{where} has {plural(count, 'token')}; {host.name} needs at least two{most}:"
            f" {pair.text!r:.80}."
        )
    host.check_ids(torch.tensor([*pair.clean, *(pair.patch or ())]), where)


def halves(pairs: Sequence[Pair], test_share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """(pairs to find a circuit on, pairs to check it on); no prompt is in both.  ``DataError``
    where one of them would have fewer than two."""
    by_prompt: dict[tuple[int, ...], list[Pair]] = {}
    for each in pairs:
        by_prompt.setdefault(each.clean, []).append(each)
    prompts = list(by_prompt)
    random.Random(f"pairs {seed}").shuffle(prompts)
    wanted = round(test_share * len(prompts))
    count = min(max(wanted, _LEAST), max(len(prompts) - _LEAST, 0))
    if count < _LEAST:
        raise DataError(
            f"There are {plural(len(prompts), 'different prompt')}: too few to find a circuit on"
            " some and to check it on others.",
            f"Give at least {2 * _LEAST}; some dozen make intervals of any use.",
        )
    test, fit = prompts[:count], prompts[count:]
    return [p for key in fit for p in by_prompt[key]], [p for key in test for p in by_prompt[key]]


def groups_of(pairs: Sequence[Pair], host: HostModel, prepend_bos: bool) -> list[PairGroup]:
    """The pairs by their length, shortest first."""
    bos = len(_bos(host, prepend_bos))
    ordered = sorted(pairs, key=lambda pair: len(pair.clean))
    return [
        PairGroup(tuple(members), bos)
        for _, members in groupby(ordered, key=lambda pair: len(pair.clean))
    ]
