"""A small English text, the same on every run; some of it is beyond ASCII."""

from __future__ import annotations

import random

_PLACES = ["the harbour", "a quiet valley", "the old library", "São Paulo", "the river Dvořák"]
_WHO = ["The captain", "A young botanist", "My neighbour", "The clockmaker", "Dr. Müller"]
_VERBS = ["measured", "painted", "remembered", "repaired", "described", "forgot", "counted"]
_THINGS = ["seven lanterns", "the broken engine", "a map of stars", "the café menu", "grey whales"]
_WHEN = ["in winter", "before sunrise", "during the storm", "on Tuesday", "after the war"]
_SIGNS = ["🙂", "naïve — yes", "日本語", "½ litre", "x² + y²", "👩‍🚀"]


def tiny_documents(count: int = 48) -> list[str]:
    """``count`` different documents of five to twenty sentences."""
    chance = random.Random(0)
    return [_document(chance) for _ in range(count)]


def _document(chance: random.Random) -> str:
    sentences = []
    for _ in range(chance.randint(5, 20)):
        words = [chance.choice(part) for part in (_WHO, _VERBS, _THINGS, _WHEN)]
        sentence = " ".join(words)
        if chance.random() < 0.5:
            sentence += f" near {chance.choice(_PLACES)}"
        if chance.random() < 0.15:
            sentence += f" ({chance.choice(_SIGNS)})"
        sentences.append(sentence + ".")
    return " ".join(sentences)
