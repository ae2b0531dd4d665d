"""Rows of one forward, each changed by interventions of its own.  Needs torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from monosemy.models.hook_points import Edit


class Editing(Protocol):
    """What changes a forward: ``Interventions``."""

    def edits(self, where_BS: Tensor, first: int = 0) -> Mapping[str, Edit]: ...


def joined(
    interventions: Sequence[Editing | None], where_BS: Tensor, first: int
) -> dict[str, Edit]:
    """Each set's edits in its own rows, one after the other; ``where_BS`` (bool) says at which of
    their tokens, ``first`` is the place of the first token after a cache."""
    sets: dict[int, list[int]] = {}
    for row, each in enumerate(interventions):
        if each is not None:
            sets.setdefault(id(each), []).append(row)
    by_site: dict[str, list[Edit]] = {}
    for rows in sets.values():
        each = interventions[rows[0]]
        assert each is not None
        own_BS = torch.zeros_like(where_BS)
        own_BS[rows] = where_BS[rows]
        for site, edit in each.edits(own_BS, first).items():
            by_site.setdefault(site, []).append(edit)
    return {site: _chain(edits) for site, edits in by_site.items()}


def _chain(edits: Sequence[Edit]) -> Edit:
    def apply(value: Tensor) -> Tensor:
        for edit in edits:
            value = edit(value)
        return value

    return apply
