"""Stored examples as people read them: token ids turned into text, activations laid over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import DataError
from monosemy.index.examples import Example
from monosemy.specs.rest.features import ExampleView
from service.features.repository import TextRow


def group_name(example: Example) -> str:
    """``top``, ``q0``, ``q1``..."""
    return example.group if isinstance(example.group, str) else f"q{example.group}"


def count_groups(examples: Sequence[Example]) -> dict[str, int]:
    """Examples per group, in the order in which the groups are stored."""
    counts: dict[str, int] = {}
    for example in examples:
        name = group_name(example)
        counts[name] = counts.get(name, 0) + 1
    return counts


def view_examples(
    examples: Sequence[Example],
    contexts: Mapping[int, TextRow],
    tokens: TokenBytes,
    context: int | None = None,
) -> list[ExampleView]:
    """With ``context`` at least so many tokens on either side of the one in question, as far as its
    row goes.  Raises ``DataError`` when the text of an example is not in the database."""
    rows: dict[int, tuple[list[int], list[str]]] = {}
    views = []
    for example in examples:
        if example.row not in contexts:
            raise DataError(
                f"The text of an example (row {example.row}) is missing.", "Index the SAE again."
            )
        stored = contexts[example.row]
        if example.row not in rows:
            ids = np.frombuffer(stored.token_ids, "<u4").tolist()
            # The whole row at once: a character may be cut by the window's border.
            rows[example.row] = ids, tokens.pieces(ids)
        views.append(_view(example, stored, *rows[example.row], context))
    return views


def _view(
    example: Example, stored: TextRow, ids: list[int], pieces: list[str], context: int | None
) -> ExampleView:
    first, last = example.start - stored.start, example.end - stored.start
    focus = example.position - stored.start
    begin = first if context is None else max(0, min(first, focus - context))
    end = last if context is None else max(last, focus + 1 + context)
    activations = [0.0] * (last - first)
    for offset, value in zip(example.offsets, example.values, strict=True):
        activations[offset] = significant(value)
    return ExampleView(
        group=group_name(example),
        activation=significant(example.activation),
        focus=example.position - example.start,
        tokens=pieces[first:last],
        token_ids=ids[first:last],
        activations=activations,
        row=example.row,
        position=example.position,
        document=example.document,
        document_name=stored.document_name,
        before=pieces[begin:first],
        after=pieces[last:end],
    )


def significant(value: float) -> float:
    """Four significant digits: what the stored two bytes are good for."""
    return float(f"{value:.4g}")
