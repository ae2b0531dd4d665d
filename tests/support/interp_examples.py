"""Hand-made examples for tests: marked text in, ``ShownExample`` out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from monosemy.index.evidence import FeatureEvidence, TokenEffect, TokenShare
from monosemy.interp.scorers.base import ScoringExamples
from monosemy.interp.shown import ShownExample

CITIES = [
    "In 1924 the council of<< Paris>> decided to build a bridge over the river.",
    "The train from<< London>> to the north was delayed by snow for hours.",
    "She moved to<< Berlin>> after the war and worked as a translator.",
    "The company has its headquarters in<< Tokyo>> and employs four thousand people.",
    "Flights between<< Madrid>> and the islands were cancelled on Monday morning.",
    "He was born in<< Vienna>> in 1881, the son of a watchmaker.",
    "The exhibition travelled to<< Chicago>> and later to<< Boston>> with large crowds.",
    "Rents in<< Sydney>> have risen faster than wages for a decade.",
]
OTHERS = [
    "Add the flour slowly and stir until the dough no longer sticks to the bowl.",
    "The function returns a list of numbers sorted in ascending order.",
    "My brother forgot his keys again, so we had to wait outside.",
    "The species feeds mostly on insects and nests in hollow trees.",
    "The second album was recorded in nine days and got mixed reviews.",
    "If the battery is low, connect the charger and wait for the light.",
]


def example(number: int, text: str, group: str | int = "top", document: int = -1) -> ShownExample:
    """Words as tokens; those between ``<<`` and ``>>`` are active at 9.0 down to 5.0."""
    pieces: list[str] = []
    levels: list[float] = []
    for part_number, part in enumerate(re.split(r"<<|>>", text)):
        for piece in re.findall(r"\s*\S+|\s+$", part):
            pieces.append(piece)
            levels.append(9.0 - number % 5 if part_number % 2 else 0.0)
    centre = max(range(len(levels)), key=levels.__getitem__)
    return ShownExample(
        pieces=tuple(pieces),
        levels=tuple(levels),
        row=number,
        position=number * 100 + centre,
        document=number if document < 0 else document,
        group=group,
        centre=centre,
    )


def positives(count: int = len(CITIES)) -> list[ShownExample]:
    return [example(i, CITIES[i % len(CITIES)], i % 5) for i in range(count)]


def negatives(count: int = len(OTHERS)) -> list[ShownExample]:
    return [example(1000 + i, OTHERS[i % len(OTHERS)], "negative") for i in range(count)]


def scoring_examples(
    yes: Sequence[ShownExample], no: Sequence[ShownExample], tier: str = "random"
) -> ScoringExamples:
    return ScoringExamples(7, tuple(yes), {tier: tuple(no)} if no else {})


def evidence() -> FeatureEvidence:
    names = (" Paris", " London", " Berlin", " Tokyo", " Paris")
    return FeatureEvidence(
        feature=7,
        count=500,
        density=0.003,
        max_activation=12.0,
        mean_activation=3.0,
        top_tokens=[TokenShare(i, name, 0.1, 10, 0.5) for i, name in enumerate(names)],
        promoted=[TokenEffect(i, name, 1.0) for i, name in enumerate((" airport", " metro"))],
    )
