"""Circuits that others have found: lists of heads, and whether a host could have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monosemy.circuits.head_outputs import HeadMap
from monosemy.errors import DataError
from monosemy.specs.circuits import KnownCircuit


@dataclass(frozen=True)
class PublishedCircuit:
    """Heads (layer, head) that a paper names."""

    model: str
    layers: int
    heads: int
    members: tuple[tuple[int, int], ...]
    source: str


PUBLISHED: dict[KnownCircuit, PublishedCircuit] = {
    "gpt2-ioi": PublishedCircuit(
        "GPT-2 small",
        12,
        12,
        (
            *((0, 1), (0, 10), (2, 2), (3, 0), (4, 11), (5, 5), (5, 8), (5, 9), (6, 9)),
            *((7, 3), (7, 9), (8, 6), (8, 10), (9, 6), (9, 7), (9, 9), (10, 0), (10, 1)),
            *((10, 2), (10, 6), (10, 7), (10, 10), (11, 2), (11, 3), (11, 9), (11, 10)),
        ),
        "Wang et al., arXiv 2211.00593, as O'Neill and Bui, arXiv 2405.12522, ship it",
    ),
    "gpt2-greater-than": PublishedCircuit(
        "GPT-2 small",
        12,
        12,
        ((0, 3), (0, 5), (0, 1), (5, 5), (6, 1), (6, 9), (7, 10), (8, 11), (9, 1)),
        "Hanna et al., arXiv 2305.00586, as O'Neill and Bui ship it",
    ),
    "attn-only-4l-docstring": PublishedCircuit(
        "attn-only-4l",
        4,
        8,
        ((0, 5), (1, 0), (1, 4), (2, 0), (3, 0), (3, 6)),
        "Heimersheim and Janiak 2023, as O'Neill and Bui ship it",
    ),
}
"""Heads by name of the circuit."""


def known_heads(
    known: KnownCircuit | None, given: Sequence[Sequence[int]] | None, heads: HeadMap
) -> list[tuple[int, int]] | None:
    """The heads to compare with, or None.  ``DataError`` names what this host does not have."""
    if given is not None:
        members = list(dict.fromkeys((layer, head) for layer, head in given))
        missing = sorted(set(members) - set(heads.names()))
        if missing:
            named = ", ".join(f"{layer}.{head}" for layer, head in missing[:10])
            raise DataError(
                f"known_heads: the host model has no head {named}; it has {heads}"
                f" (layers {heads.layers[0]} to {heads.layers[-1]}, heads from 0)."
            )
        if len(members) == heads.count:
            raise DataError("known_heads: these are all heads of the host model.")
        return members
    if known is None:
        return None
    published = PUBLISHED[known]
    if (heads.layers, heads.per_layer) != (tuple(range(published.layers)), published.heads):
        raise DataError(
            f"known: {known} is a circuit of {published.model}, {published.layers} layers of "
            f"{published.heads} heads; the host model has {heads}."
        )
    return list(published.members)
