"""Which tokens of a text are changed, token by token.  Needs torch."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from monosemy.data.characters import encodable
from monosemy.data.chats import special_ids
from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.models.host import HostModel
from monosemy.specs.inference.places import (
    PositionRange,
    TokenKind,
    TokenPlaces,
    TokenPredicate,
)


class Places:
    """``TokenPlaces`` for one host model.

    ``DataError`` for what no token of its vocabulary can meet.
    """

    def __init__(self, host: HostModel, wanted: TokenPlaces) -> None:
        self._wanted = wanted
        self._bos = host.bos_id
        # Requests of old words go on leaving out what they always did.
        self._named_special = frozenset(host.tokenizer.all_special_ids)
        self._special = frozenset(special_ids(host.tokenizer))
        if wanted.where == "special" and not self._special:
            raise DataError(f"The tokenizer of {host.name} has no special tokens.")
        self._meets: Callable[[int], bool] | None = None
        if wanted.tokens is not None:
            self._meets = _Predicate(host, wanted.tokens, self._special)

    def of_prompt(self, prompt: Sequence[int]) -> Tensor:
        """Bool ``[tokens]``.  ``DataError`` for a range that the prompt does not have."""
        where = self._wanted.where
        if where in ("all", "new", "prompt"):
            return self._of_words(prompt)
        places_S = torch.tensor([self.of_written(token) for token in prompt], dtype=torch.bool)
        if where == "generated":
            places_S[:] = False
        elif self._wanted.range is not None:
            places_S[_within(self._wanted.range, len(prompt))] = True
        if prompt[0] == self._bos:
            places_S[0] = False
        if self._wanted.range is not None and not places_S.any():
            raise DataError(
                "The range holds nothing but BOS, which is never changed.", "Let it reach further."
            )
        return places_S

    def of_written(self, token: int) -> bool:
        """Whether a token that the host model has written is changed."""
        where = self._wanted.where
        if self._meets is not None:
            return self._meets(token)
        if where == "special":
            return token in self._special
        return where in ("all", "new", "generated")

    def _of_words(self, prompt: Sequence[int]) -> Tensor:
        places_S = torch.full((len(prompt),), self._wanted.where != "new")
        if not self._wanted.special_tokens:
            places_S &= torch.tensor([token not in self._named_special for token in prompt])
        if prompt[0] == self._bos:
            places_S[0] = False
        places_S[-1] = True
        return places_S


def _within(wanted: PositionRange, tokens: int) -> slice:
    """``DataError`` for positions that are not there, and for a range without any."""
    first, last = (place + tokens if place < 0 else place for place in (wanted.first, wanted.last))
    for told, place in ((wanted.first, first), (wanted.last, last)):
        if not 0 <= place < tokens:
            raise DataError(
                f"Position {told} is beyond the prompt, which has {plural(tokens, 'token')} as "
                "the host model reads it.",
                f"Positions are 0 to {tokens - 1}, or -{tokens} to -1 from its end.",
            )
    if last < first:
        raise DataError(
            f"The range is empty: in a prompt of {plural(tokens, 'token')}, {wanted.last} comes"
            " before "
            f"{wanted.first}."
        )
    return slice(first, last + 1)


class _Predicate:
    """``TokenPredicate`` over one vocabulary; each token is looked at once, when it comes."""

    def __init__(self, host: HostModel, wanted: TokenPredicate, special: frozenset[int]) -> None:
        self._table = host.token_bytes()
        self._special = special
        self._ids = frozenset(wanted.ids)
        self._texts = frozenset(_encoded(text) for text in wanted.texts)
        self._contains = [_encoded(text) for text in wanted.contains]
        self._kinds = [_KINDS[kind] for kind in wanted.kinds]
        self._known: dict[int, bool] = {}
        self._check(host, wanted)

    def __call__(self, token: int) -> bool:
        if token not in self._known:
            self._known[token] = self._looked_at(token)
        return self._known[token]

    def _looked_at(self, token: int) -> bool:
        data = self._table[token]
        if token in self._ids or data in self._texts:
            return True
        if token in self._special or not data:
            return False
        return any(part in data for part in self._contains) or any(
            _is(kind, data) for kind in self._kinds
        )

    def _check(self, host: HostModel, wanted: TokenPredicate) -> None:
        """Every word of the predicate has a token that meets it."""
        beyond = [each for each in wanted.ids if each >= host.d_vocab]
        if beyond:
            raise DataError(
                f"{host.name} has no token {beyond[0]}.", f"It has 0 to {host.d_vocab - 1}."
            )
        table = [self._table[token] for token in range(len(self._table))]
        every = frozenset(table)
        for text in wanted.texts:
            if _encoded(text) not in every:
                raise DataError(
                    f"No token of {host.name} is {text[:40]!r}.",
                    "A token's text is often a word with its leading blank; "
                    "`monosemy tokenize` shows those of a text.",
                )
        ordinary = [data for token, data in enumerate(table) if token not in self._special]
        for text, part in zip(wanted.contains, self._contains, strict=True):
            if not any(part in data for data in ordinary):
                raise DataError(f"No token of {host.name} contains {text[:40]!r}.")
        for name, kind in zip(wanted.kinds, self._kinds, strict=True):
            if not any(_is(kind, data) for data in ordinary):
                raise DataError(f"No token of {host.name} is of the kind {name}.")


def _encoded(text: str) -> bytes:
    return encodable(text)[0].encode()


def _is(kind: Callable[[str], bool], data: bytes) -> bool:
    """False for a part of a character."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return kind(text)


def _of(categories: str) -> Callable[[str], bool]:
    def kind(text: str) -> bool:
        text = text.strip()
        return bool(text) and all(unicodedata.category(each)[0] in categories for each in text)

    return kind


_KINDS: dict[TokenKind, Callable[[str], bool]] = {
    "punctuation": _of("PS"),
    "number": _of("N"),
    "newline": lambda text: "\n" in text or "\r" in text,
    "blank": lambda text: bool(text) and not text.strip(),
}
