"""What the host model writes while latents are pushed, as events of a stream."""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from monosemy.concepts.deactivation import Deactivation, held_against
from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.edits import Interventions
from monosemy.interventions.generation import Generation, NewToken, Row, generate
from monosemy.interventions.intervention import Intervention
from monosemy.interventions.places import Places
from monosemy.specs.concepts import FittedConcept
from monosemy.specs.inference.steering import (
    Ended,
    EndEvent,
    HeldConcept,
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
    concepts: tuple[FittedConcept, ...] = ()
    """That the prompt is held against: those it is flagged for are deactivated."""


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
    check_concepts(hosted, request)
    ids, skip = words.row(request.prompt, prepend_bos)
    if not 1 <= len(ids) <= longest - request.writing.new_tokens:
        raise DataError(
            f"The prompt has {plural(len(ids), 'token')} and {request.writing.new_tokens} are to"
            " come; "
            f"{host.name} can hold {longest}."
        )
    concepts = on_host(lambda: _held(hosted, ids, skip, request.concepts))
    change = _change(hosted, request, concepts)
    names = words.token_bytes
    rows: dict[TextName, _Text] = {"steered": _Text(names)}
    if request.compare:
        rows["plain"] = _Text(names)
    changes = [change if name == "steered" else None for name in rows]
    texts = [Row(tuple(ids), each, request.seed) for each in changes]
    writing = generate(host, texts, request.writing)  # what cannot be done is raised here
    places = Places(host, request.writing.places).of_prompt(ids)
    pushed = 0 if change is None else int(places.sum())
    yield PromptEvent(text=names.decode(ids), tokens=len(ids), pushed=pushed, concepts=concepts)
    while (step := on_host(lambda: next(writing, None))) is not None:
        for (name, row), written in zip(rows.items(), step, strict=True):
            if written is not None:
                yield row.take(written, name)
    plain = rows["plain"].ended if request.compare else None
    yield EndEvent(steered=rows["steered"].ended, plain=plain)


def check_concepts(hosted: HostedSAE, request: Steer) -> None:
    """``DataError`` for what could not be done were the prompt flagged for every concept."""
    interventions = list(request.interventions)
    if request.concepts:
        off = Deactivation.of(hosted.sae, request.concepts)
        for each in interventions:
            latent = getattr(each.what, "latent", None)
            if each.sets and latent in off.latents:
                raise DataError(
                    f"Feature {latent} is set, and is one of a concept's, which deactivates it.",
                    "Leave it out, or the concept.",
                )
        interventions.append(off.intervention(hosted.target))
    Interventions(interventions, hosted)


def _held(
    hosted: HostedSAE, ids: Sequence[int], skip: int, concepts: Sequence[FittedConcept]
) -> list[HeldConcept]:
    """One forward, none without concepts; ``skip``: leading tokens, 0 or 1, that are BOS."""
    if not concepts:
        return []
    ids_BS = torch.tensor([list(ids)])
    acts_BSD = hosted.host.capture(ids_BS, torch.ones_like(ids_BS), [hosted.site])[hosted.site]
    return held_against(hosted.sae, acts_BSD[0, skip:], concepts)


def _change(
    hosted: HostedSAE, request: Steer, concepts: Sequence[HeldConcept]
) -> Interventions | None:
    """None where nothing is changed: the prompt is flagged for nothing, and nothing is pushed."""
    interventions = list(request.interventions)
    flagged = [
        concept for concept, held in zip(request.concepts, concepts, strict=True) if held.flagged
    ]
    if flagged:
        off = Deactivation.of(hosted.sae, flagged)
        interventions.append(off.intervention(hosted.target))
    return Interventions(interventions, hosted) if interventions else None


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
