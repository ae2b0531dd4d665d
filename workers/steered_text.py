"""What the host model writes while latents are pushed, as events of a stream."""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.edits import Interventions
from monosemy.interventions.generation import Generation, NewToken, Row, generate
from monosemy.interventions.intervention import Intervention
from monosemy.interventions.places import Places
from monosemy.specs.inference.steering import (
    Ended,
    EndEvent,
    PromptEvent,
    SteerEvent,
    TextName,
    TokenChance,
    TokenEvent,
)
from workers.prompts import Prompt, Tokenizing

T = TypeVar("T")
OnHost = Callable[[Callable[[], T]], T]
"""Runs something where the host model runs, and waits for it."""


@dataclass(frozen=True)
class Steer:
    """A request to steer."""

    prompt: Prompt
    interventions: tuple[Intervention, ...]
    writing: Generation
    seed: int
    compare: bool
    """Also write on without pushing."""


def steered_events(
    hosted: HostedSAE,
    words: Tokenizing,
    prepend_bos: bool,
    longest: int,
    request: Steer,
    on_host: OnHost[Any],
) -> Iterator[SteerEvent]:
    """The prompt, then token by token, then the end; each forward is one turn on the host.

    Raises ``DataError`` and ``ModelError`` before the first event for what cannot be done.
    """
    host = hosted.host
    host.need_logits()
    change = Interventions(request.interventions, hosted)
    ids, _ = words.row(request.prompt, prepend_bos)
    if not 1 <= len(ids) <= longest - request.writing.new_tokens:
        raise DataError(
            f"The prompt has {len(ids)} tokens and {request.writing.new_tokens} are to come; "
            f"{host.name} can hold {longest}."
        )
    names = words.token_bytes
    rows: dict[TextName, _Text] = {"steered": _Text(names)}
    if request.compare:
        rows["plain"] = _Text(names)
    changes = [change if name == "steered" else None for name in rows]
    texts = [Row(tuple(ids), each, request.seed) for each in changes]
    writing = generate(host, texts, request.writing)  # what cannot be done is raised here
    pushed = int(Places(host, request.writing.places).of_prompt(ids).sum())
    yield PromptEvent(text=names.decode(ids), tokens=len(ids), pushed=pushed)
    while (step := on_host(lambda: next(writing, None))) is not None:
        for (name, row), written in zip(rows.items(), step, strict=True):
            if written is not None:
                yield row.take(written, name)
    plain = rows["plain"].ended if request.compare else None
    yield EndEvent(steered=rows["steered"].ended, plain=plain)


class _Text:
    """One text as it grows; a character over several tokens comes with its last one."""

    def __init__(self, names: TokenBytes) -> None:
        self._names = names
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.ended: Ended = "length"
        """``stop`` where the model ended the text itself."""

    def take(self, written: NewToken, row: TextName) -> TokenEvent:
        if written.stopped:
            self.ended = "stop"
        return TokenEvent(
            row=row,
            id=written.token,
            text=self._decoder.decode(self._names[written.token], final=written.last),
            logprob=round(written.logprob, 6),
            top=[
                TokenChance(id=token, text=self._names.decode([token]), logprob=round(value, 6))
                for token, value in written.top
                if math.isfinite(value)  # a model may rule tokens out
            ],
            last=written.last,
        )
