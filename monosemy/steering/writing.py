"""Writing on, token by token, pushed beside not pushed.  Needs torch.

Both texts are rows of one batch over one cache of keys and values, and are sampled with the same
noise: where pushing changes nothing, they are the same text.  A model without a usable cache (a
recurrent one, GPT-1) reads the whole text anew for each token, with the same result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.models.hook_points import Edit
from monosemy.models.host import HostModel

Where = Literal["all", "new"]


class Editing(Protocol):
    def edits(self, where_BS: Tensor) -> Mapping[str, Edit]: ...


@dataclass(frozen=True)
class Writing:
    """How to write on."""

    new_tokens: int = 64
    temperature: float = 0.7
    """0 takes the likeliest token each time."""
    seed: int = 0
    where: Where = "all"
    """``all``: the prompt's tokens are pushed too; ``new``: from its last token on, which predicts
    the first new one.  BOS never is."""
    special_tokens: bool = False
    """Push at special tokens of the prompt too, such as a chat template's."""
    logprobs: int = 0
    """So many likeliest tokens are told with each."""


@dataclass(frozen=True)
class Written:
    """One new token of one row."""

    token: int
    logprob: float
    """Of it, in nats, before temperature."""
    top: tuple[tuple[int, float], ...]
    """The likeliest tokens in its place with their log probabilities."""
    last: bool
    """Whether the row ends with it ..."""
    stopped: bool
    """... because the model says so."""


def write_on(
    host: HostModel, prompt: Sequence[int], pushed: Sequence[Editing | None], how: Writing
) -> Iterator[list[Written | None]]:
    """One forward for each ``next``: the next token of every row, None for rows that have ended.

    There is a row for each of ``pushed``; None is not pushed.  ``prompt`` has its BOS and at least
    one token.  ``DataError`` for a text that would be longer than the model reads, ``ModelError``
    for a model that predicts no tokens.
    """
    host.need_logits()
    limit = host.abilities.positions
    if limit is not None and len(prompt) + how.new_tokens > limit:
        raise DataError(
            f"The prompt has {len(prompt)} tokens and {how.new_tokens} are to come; {host.name} "
            f"can hold {limit}."
        )
    rows = len(pushed)
    ids_BS = torch.tensor([list(prompt)] * rows)
    where_S = _places(host, prompt, how)
    reader = _WithCache(host, pushed) if host.abilities.cache else _Anew(host, pushed)
    ends = _ends(host)
    noise = torch.Generator().manual_seed(how.seed)
    going = [True] * rows
    for number in range(how.new_tokens):
        logits_BV = reader.read(ids_BS, where_S)
        log_p_BV = logits_BV.cpu().double().log_softmax(-1)
        chosen_B = _sampled(log_p_BV, how.temperature, noise)
        result: list[Written | None] = []
        for row, token in enumerate(chosen_B.tolist()):
            if not going[row]:
                result.append(None)
                continue
            stopped = token in ends
            last = stopped or number + 1 == how.new_tokens
            going[row] = not last
            logprob = float(log_p_BV[row, token])
            top = _top(log_p_BV[row], how.logprobs)
            result.append(Written(token, logprob, top, last, stopped))
        yield result
        if not any(going):
            return
        ids_BS, where_S = chosen_B[:, None], torch.ones(1, dtype=torch.bool)


class _WithCache:
    """Reads new tokens alone, after a cache of those before."""

    def __init__(self, host: HostModel, pushed: Sequence[Editing | None]) -> None:
        self.host, self.pushed = host, pushed
        self._cache: object = None

    def read(self, ids_BS: Tensor, where_S: Tensor) -> Tensor:
        """Logits ``[B, V]`` after the new tokens, which are pushed where ``where_S`` says."""
        edits = _edits(self.pushed, where_S.expand(len(ids_BS), -1))
        logits_BV, self._cache = self.host.extend(ids_BS, self._cache, edits)
        return logits_BV


class _Anew:
    """As ``_WithCache``, for a model without: every token again, pushed as it was before."""

    def __init__(self, host: HostModel, pushed: Sequence[Editing | None]) -> None:
        self.host, self.pushed = host, pushed
        self._ids_BS = torch.empty(len(pushed), 0, dtype=torch.long)
        self._where_S = torch.empty(0, dtype=torch.bool)

    def read(self, ids_BS: Tensor, where_S: Tensor) -> Tensor:
        self._ids_BS = torch.cat([self._ids_BS, ids_BS], 1)
        self._where_S = torch.cat([self._where_S, where_S])
        edits = _edits(self.pushed, self._where_S.expand(len(ids_BS), -1))
        return self.host.logits(self._ids_BS, torch.ones_like(self._ids_BS), edits)[:, -1]


def _edits(pushed: Sequence[Editing | None], where_BS: Tensor) -> dict[str, Edit]:
    """Each row's edits where that row is, one after the other."""
    joined: dict[str, list[Edit]] = {}
    for row, each in enumerate(pushed):
        if each is None:
            continue
        own_BS = torch.zeros_like(where_BS)
        own_BS[row] = where_BS[row]
        for site, edit in each.edits(own_BS).items():
            joined.setdefault(site, []).append(edit)
    return {site: _chain(edits) for site, edits in joined.items()}


def _chain(edits: Sequence[Edit]) -> Edit:
    def apply(value: Tensor) -> Tensor:
        for edit in edits:
            value = edit(value)
        return value

    return apply


def _places(host: HostModel, prompt: Sequence[int], how: Writing) -> Tensor:
    """Which tokens of the prompt are pushed, bool [S]."""
    places = torch.full((len(prompt),), how.where == "all")
    if not how.special_tokens:
        special = set(host.tokenizer.all_special_ids)
        places &= torch.tensor([token not in special for token in prompt])
    if host.bos_id is not None and prompt[0] == host.bos_id:
        places[0] = False
    places[-1] = True
    return places


def _ends(host: HostModel) -> set[int]:
    """Tokens that end a text."""
    told = getattr(host.model.generation_config, "eos_token_id", None)
    listed = told if isinstance(told, list) else [told]
    return {token for token in (*listed, host.tokenizer.eos_token_id) if token is not None}


def _sampled(log_p_BV: Tensor, temperature: float, noise: torch.Generator) -> Tensor:
    """A token for each row, by the same Gumbel noise."""
    if temperature == 0:
        return log_p_BV.argmax(-1)
    uniform_V = torch.rand(log_p_BV.shape[1], generator=noise, dtype=torch.float64)
    gumbel_V = -(-uniform_V.clamp_min(1e-300).log()).log()
    return (log_p_BV / temperature + gumbel_V).argmax(-1)


def _top(log_p_V: Tensor, count: int) -> tuple[tuple[int, float], ...]:
    if count == 0:
        return ()
    values, ids = log_p_V.topk(min(count, len(log_p_V)))
    return tuple(zip(ids.tolist(), values.tolist(), strict=True))
