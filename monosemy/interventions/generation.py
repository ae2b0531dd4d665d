"""Text that the host model writes on, token by token, with and without interventions.  Needs torch.

Every row has noise of its own seed: rows of equal prompt and seed are the same text where an
intervention changes nothing.  Rows of one prompt length are read over one cache of keys and values;
a model without a usable one (a recurrent one, GPT-1) reads the whole text anew for each token, with
the same result, and so do rows of different lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.interventions.places import Places
from monosemy.interventions.rows import Editing, joined
from monosemy.models.host import HostModel
from monosemy.models.rows import LOGITS_AT_ONCE, batches, padded
from monosemy.specs.inference.places import TokenPlaces

ALL = TokenPlaces()


@dataclass(frozen=True)
class Row:
    """A text to be written on."""

    prompt: tuple[int, ...]
    """Token ids with their BOS, at least one."""
    interventions: Editing | None = None
    seed: int = 0


@dataclass(frozen=True)
class Generation:
    """How to write on."""

    new_tokens: int = 64
    temperature: float = 0.7
    """0 takes the likeliest token each time."""
    places: TokenPlaces = ALL
    """Which tokens are changed."""
    logprobs: int = 0
    """So many likeliest tokens are given with each."""
    stop: bool = True
    """A row ends with the model's end of text; else that is a token like others."""
    cache: bool = True
    """Use the cache where there is one.  Without, a row's text does not depend on its company, not
    even by rounding."""


@dataclass(frozen=True)
class NewToken:
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


def generate(
    host: HostModel,
    rows: Sequence[Row],
    how: Generation,
    logits_at_once: int = LOGITS_AT_ONCE,
) -> Iterator[list[NewToken | None]]:
    """One forward for each ``next``: the next token of every row, None for rows that have ended.

    ``DataError`` at once for an empty prompt, for a text that would be longer than the model reads
    and for places that no token can meet; ``ModelError`` for a model that predicts no tokens.
    """
    host.need_logits()
    _check_lengths(host, rows, how)
    places = Places(host, how.places)
    return _written(
        host, rows, how, places, [places.of_prompt(row.prompt) for row in rows], logits_at_once
    )


def _written(
    host: HostModel,
    rows: Sequence[Row],
    how: Generation,
    changed: Places,
    places: list[Tensor],
    logits_at_once: int,
) -> Iterator[list[NewToken | None]]:
    """``places``: of each prompt."""
    one_length = len({len(row.prompt) for row in rows}) == 1
    reader: _WithCache | _Anew
    if how.cache and host.abilities.cache and one_length:
        reader = _WithCache(host, rows)
    else:
        reader = _Anew(host, rows, logits_at_once)
    ends = _ends(host) if how.stop else frozenset()
    noise = [torch.Generator().manual_seed(row.seed) for row in rows]
    going = [True] * len(rows)
    texts = [row.prompt for row in rows]
    for number in range(how.new_tokens):
        log_p_BV = reader.read(texts, places).cpu().double().log_softmax(-1)
        chosen_B = sampled(log_p_BV, how.temperature, noise)
        result: list[NewToken | None] = []
        for i, token in enumerate(chosen_B.tolist()):
            if not going[i]:
                result.append(None)
                continue
            stopped = token in ends
            last = stopped or number + 1 == how.new_tokens
            going[i] = not last
            logprob = float(log_p_BV[i, token])
            result.append(NewToken(token, logprob, _top(log_p_BV[i], how.logprobs), last, stopped))
        yield result
        if not any(going):
            return
        texts = [(token,) for token in chosen_B.tolist()]
        places = [torch.tensor([changed.of_written(token)]) for (token,) in texts]


def last_logits(
    host: HostModel,
    texts: Sequence[Sequence[int]],
    places: Sequence[Tensor],
    interventions: Sequence[Editing | None],
    logits_at_once: int = LOGITS_AT_ONCE,
) -> Tensor:
    """Logits ``[rows, V]`` (CPU) after each text, by whole forwards of padded rows.

    A text's tokens are changed where its ``places`` (bool ``[tokens]``) say.
    """
    parts = []
    for chosen in batches(texts, host.d_vocab, logits_at_once):
        ids_BS, mask_BS = padded(texts[chosen], host.pad_id)
        where_BS = torch.zeros_like(mask_BS, dtype=torch.bool)
        for i, place_S in enumerate(places[chosen]):
            where_BS[i, : len(place_S)] = place_S
        edits = joined(interventions[chosen], where_BS, 0)
        logits_BSV = host.logits(ids_BS, mask_BS, edits)
        end_B = (mask_BS.sum(-1) - 1).to(logits_BSV.device)
        rows_B = torch.arange(len(ids_BS), device=logits_BSV.device)
        parts.append(logits_BSV[rows_B, end_B].cpu())
    return torch.cat(parts)


def sampled(log_p_BV: Tensor, temperature: float, noise: Sequence[torch.Generator]) -> Tensor:
    """A token for each row, ``[B]``: the largest with Gumbel noise of the row's own generator."""
    if temperature == 0:
        return log_p_BV.argmax(-1)
    uniform_BV = torch.stack(
        [torch.rand(log_p_BV.shape[1], generator=each, dtype=torch.float64) for each in noise]
    )
    gumbel_BV = -(-uniform_BV.clamp_min(1e-300).log()).log()
    return (log_p_BV / temperature + gumbel_BV).argmax(-1)


class _WithCache:
    """Reads new tokens alone, after a cache of those before."""

    def __init__(self, host: HostModel, rows: Sequence[Row]) -> None:
        self._host = host
        self._interventions = [row.interventions for row in rows]
        self._cache: object = None
        self._first = 0

    def read(self, texts: Sequence[Sequence[int]], places: Sequence[Tensor]) -> Tensor:
        """Logits ``[B, V]`` after the new tokens of each row, changed where ``places`` say."""
        ids_BS = torch.tensor([list(text) for text in texts])
        edits = joined(self._interventions, torch.stack(list(places)), self._first)
        logits_BV, self._cache = self._host.extend(ids_BS, self._cache, edits)
        self._first += ids_BS.shape[1]
        return logits_BV


class _Anew:
    """As ``_WithCache``, for a model without: every token again, changed as it was before."""

    def __init__(self, host: HostModel, rows: Sequence[Row], logits_at_once: int) -> None:
        self._host = host
        self._interventions = [row.interventions for row in rows]
        self._logits_at_once = logits_at_once
        self._texts: list[tuple[int, ...]] = [()] * len(rows)
        self._places = [torch.empty(0, dtype=torch.bool)] * len(rows)

    def read(self, texts: Sequence[Sequence[int]], places: Sequence[Tensor]) -> Tensor:
        self._texts = [(*old, *new) for old, new in zip(self._texts, texts, strict=True)]
        self._places = [torch.cat(pair) for pair in zip(self._places, places, strict=True)]
        return last_logits(
            self._host, self._texts, self._places, self._interventions, self._logits_at_once
        )


def _check_lengths(host: HostModel, rows: Sequence[Row], how: Generation) -> None:
    if not rows or not all(row.prompt for row in rows):
        raise DataError("Writing on needs prompts, each with at least one token.")
    longest, limit = max(len(row.prompt) for row in rows), host.abilities.positions
    if limit is not None and longest + how.new_tokens > limit:
        raise DataError(
            f"The prompt has {plural(longest, 'token')} and {how.new_tokens} are to come;"
            f" {host.name} "
            f"can hold {limit}."
        )


def _ends(host: HostModel) -> frozenset[int]:
    """Tokens that end a text."""
    own = getattr(host.model.generation_config, "eos_token_id", None)
    listed = own if isinstance(own, list) else [own]
    ends = (*listed, host.tokenizer.eos_token_id)
    return frozenset(token for token in ends if token is not None)


def _top(log_p_V: Tensor, count: int) -> tuple[tuple[int, float], ...]:
    if count == 0:
        return ()
    values, ids = log_p_V.topk(min(count, len(log_p_V)))
    return tuple(zip(ids.tolist(), values.tolist(), strict=True))
