"""/steer: a text written on with features pushed, beside without."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, get_args

from fastapi import Query, Request
from sqlalchemy.orm import Session

from monosemy.specs.concepts import MOST_CONCEPTS
from monosemy.specs.inference.places import PlaceWord, TokenKind
from monosemy.specs.inference.prompts import MAX_CHARACTERS, SaeName
from monosemy.specs.inference.steering import (
    MAX_NEW_TOKENS,
    MAX_STEERED,
    SteeringMode,
    WritingOptions,
)
from monosemy.specs.rest.concepts import ConceptRow
from monosemy.specs.rest.features import FeatureSummary
from monosemy.specs.rest.lists import ListSummary
from monosemy.specs.rest.saes import SaeSummary
from service.concepts.endpoints import list_all as list_concepts
from service.edge.context import SessionDep
from service.features.endpoints import list_all as list_features
from service.features.listing import FeatureFilter
from service.kit.pagination import MAX_LIMIT
from service.lists.endpoints import list_all as list_lists
from service.lists.service import list_page, require_list
from service.pages.commands import command, curl, packed
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.pages.sae_choice import one_sae
from service.pages.token_places import KINDS, WHERE, Places, PlacesDep

router = PageRouter()

SCORER = "intervention"
SEEDS = 8
"""Texts that are written beside each other."""
FOUND = 12
"""Features that are offered for words."""
_PUSH = re.compile(r"(\d{1,10})(?:=([+-]?\d{1,7}(?:\.\d{1,6})?))?(?:=([a-z]+))?")
_NUMBER = re.compile(r"[+-]?\d{1,4}(?:\.\d{1,4})?")
_EXAMPLE = "Once upon a time"
_MODES: dict[SteeringMode, str] = {
    "add": "add",
    "orthogonal": "set along its direction",
    "clamp": "set its activation",
    "ablate": "take out",
}


@dataclass(frozen=True)
class Push:
    """A feature that is to be pushed, as the address names it: ``42=1.5`` or ``42=1.5=clamp``."""

    index: int
    strength: float
    mode: SteeringMode

    def named(self, default: SteeringMode) -> str:
        own = "" if self.mode == default else f"={self.mode}"
        return f"{self.index}={self.strength:g}{own}"


@dataclass(frozen=True)
class Card:
    """A push, and what is known of its feature."""

    push: Push
    feature: FeatureSummary | None
    """None where it is not indexed: its strength is an activation then."""

    @property
    def most(self) -> float | None:
        """What a strength of 1 is; None where the feature has no maximum."""
        return (self.feature.max_activation or None) if self.feature else None

    @property
    def activation(self) -> float:
        return self.push.strength * (self.most or 1.0)


@dataclass(frozen=True)
class Steer:
    sae: SaeSummary | None
    others: list[SaeSummary]
    more: bool
    cards: list[Card]
    notes: list[str]
    """What of the address could not be followed."""
    words: str
    """Those that a feature was looked for by."""
    found: list[FeatureSummary]
    lists: list[ListSummary]
    """That have features of this SAE."""
    modes: Mapping[SteeringMode, str]
    mode: SteeringMode
    seeds: int
    sweep: bool
    temperature: float
    tokens: int
    places: Places
    wheres: Mapping[PlaceWord, str]
    kinds: Mapping[TokenKind, str]
    most_characters: int
    most_tokens: int
    most_seeds: int
    f: list[str]
    """The cards as the address names them."""
    concepts: list[ConceptRow]
    """Of this SAE."""
    c: list[str]
    """Those that are chosen."""
    by_command: str
    by_rest: str
    example: str
    """For the fragment of a link."""


@router.page("/steer", "steer.html", nav=Nav("Steer", 30), script="pages/steer.js")
def steer(
    request: Request,
    session: SessionDep,
    places: PlacesDep,
    sae: SaeName | None = None,
    f: Annotated[list[str], Query(max_length=MAX_STEERED)] = [],  # noqa: B006
    mode: SteeringMode = "add",
    add: Annotated[str | None, Query(max_length=200)] = None,
    preset: Annotated[str | None, Query(alias="list", max_length=200)] = None,
    c: Annotated[list[str], Query(max_length=MOST_CONCEPTS)] = [],  # noqa: B006
    seeds: Annotated[int, Query(ge=1, le=SEEDS)] = 3,
    sweep: bool = False,
    temperature: Annotated[float, Query(ge=0, le=10)] = 0.7,
    tokens: Annotated[int, Query(ge=1, le=MAX_NEW_TOKENS)] = 48,
) -> Steer:
    """``add``: a feature's number, or words that offer some; ``list``: its features of this SAE
    are added, by the strengths in their notes.  The prompt is in the fragment."""
    choices = one_sae(session, sae)
    chosen = choices.chosen[0] if choices.chosen else None
    pushes, notes = _pushes(f, mode)
    found: list[FeatureSummary] = []
    lists: list[ListSummary] = []
    words = (add or "").strip()
    concepts: list[ConceptRow] = []
    if chosen is not None:
        concepts = list_concepts(session, chosen.name, MAX_LIMIT).items
        lists = list_lists(session, sae=chosen.name, limit=MAX_LIMIT).items
        if preset is not None:
            pushes += _of_list(session, chosen, preset, mode)
        if words and words.isdecimal():
            pushes.append(Push(min(int(words), 2**31 - 1), 1.0, mode))
            words = ""
        elif words:
            found = list_features(
                session, chosen.name, FeatureFilter(text=words), limit=FOUND
            ).items
    cards, more = _cards(session, chosen, pushes)
    named = {each.name for each in concepts}
    more += [f"There is no concept '{each[:60]}' of this SAE." for each in c if each not in named]
    c = [each for each in dict.fromkeys(c) if each in named]
    options = WritingOptions(new_tokens=tokens, temperature=temperature)
    by_command, by_rest = _commands(request, chosen, cards, c, options, places)
    return Steer(
        sae=chosen,
        others=choices.others,
        more=choices.more,
        cards=cards,
        notes=notes + more,
        words=words,
        found=found,
        lists=lists,
        modes=_MODES,
        mode=mode,
        seeds=seeds,
        sweep=sweep,
        temperature=temperature,
        tokens=tokens,
        places=places,
        wheres=WHERE,
        kinds=KINDS,
        most_characters=MAX_CHARACTERS,
        most_tokens=MAX_NEW_TOKENS,
        most_seeds=SEEDS,
        f=[card.push.named(mode) for card in cards],
        concepts=concepts,
        c=c,
        by_command=by_command,
        by_rest=by_rest,
        example=packed({"text": _EXAMPLE}),
    )


def _pushes(names: Sequence[str], mode: SteeringMode) -> tuple[list[Push], list[str]]:
    """(those that can be read, what is said of the others)"""
    pushes, notes = [], []
    for name in names:
        match = _PUSH.fullmatch(name.strip())
        own = mode if match is None or match[3] is None else match[3]
        if match is None or own not in get_args(SteeringMode) or int(match[1]) >= 2**31:
            form = "INDEX=STRENGTH, such as 42=1.5, or INDEX=STRENGTH=MODE"
            notes.append(f"'{name[:60]}' is not {form}.")
            continue
        pushes.append(Push(int(match[1]), float(match[2] or 1.0), own))  # type: ignore[arg-type]
    return pushes, notes


def _of_list(session: Session, sae: SaeSummary, name: str, mode: SteeringMode) -> list[Push]:
    """The list's features of this SAE; the first number in a note is the strength, else 1."""
    entries = list_page(session, require_list(session, name), None, MAX_LIMIT).entries.items
    pushes = []
    for entry in entries:
        if entry.sae_id == sae.id:
            strength = _NUMBER.search(entry.note)
            pushes.append(Push(entry.feature, float(strength[0]) if strength else 1.0, mode))
    return pushes


def _cards(
    session: Session, sae: SaeSummary | None, pushes: Sequence[Push]
) -> tuple[list[Card], list[str]]:
    """Each feature once, the last push of it; features that the SAE does not have are left out."""
    if sae is None:
        return [], []
    last = {push.index: push for push in pushes}
    there = {index: push for index, push in last.items() if index < sae.d_sae}
    notes = [
        f"{sae.name} has features 0 to {sae.d_sae - 1}: {index} is none of them."
        for index in last
        if index not in there
    ]
    if len(there) > MAX_STEERED:
        notes.append(f"At most {MAX_STEERED} features can be pushed at once.")
        there = dict(list(there.items())[:MAX_STEERED])
    known = {}
    if there:
        page = list_features(
            session, sae.name, FeatureFilter(scorer=SCORER), MAX_LIMIT, index=list(there)
        )
        known = {each.index: each for each in page.items}
    return [Card(push, known.get(index)) for index, push in there.items()], notes


def _commands(
    request: Request,
    sae: SaeSummary | None,
    cards: Sequence[Card],
    concepts: Sequence[str],
    options: WritingOptions,
    places: Places,
) -> tuple[str, str]:
    """For the shell and for REST."""
    name = sae.name if sae else "demo"
    shown = list(cards)
    if not cards and not concepts:
        shown = [Card(Push(42, 1.5, "add"), None)]
    if shown and not cards and sae is not None and sae.d_sae <= 42:
        shown = [replace(shown[0], push=Push(0, 1.5, "add"))]
    pushes = [
        {
            "index": card.push.index,
            "strength": card.push.strength,
            "unit": "max" if card.most or not cards else "activation",
            "mode": card.push.mode,
        }
        for card in shown
    ]
    words = ["steer", name, _EXAMPLE]
    for card in shown:
        words += ["--feature", f"{card.push.index}={card.push.strength:g}"]
    for each in concepts:
        words += ["--concept", each]
    first = shown[0].push.mode if shown else "add"
    words += ["--mode", first] if first != "add" else []
    words += ["--tokens", str(options.new_tokens), "--temperature", f"{options.temperature:g}"]
    words += places.words()
    body = {
        "sae": name,
        "prompt": _EXAMPLE,
        "features": pushes,
        **({"concepts": list(concepts)} if concepts else {}),
        "new_tokens": options.new_tokens,
        "temperature": options.temperature,
        **places.body(),
        "stream": True,
    }
    return command(words), curl(request, "/inference/steer", body, stream=True)
