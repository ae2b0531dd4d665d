"""Texts to be written on, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from monosemy.interventions.generation import Editing, Row


def beside(prompt: Sequence[int], *changes: Editing | None, seed: int = 0) -> list[Row]:
    """A row of one prompt and one seed for each change."""
    return [Row(tuple(prompt), change, seed) for change in changes]
