"""Examples as they are drawn: in groups, each cut before the token that it is about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from monosemy.index.examples import TOP
from monosemy.interp import strata
from monosemy.specs.rest.features import ExampleView
from service.pages import tokens
from service.pages.tokens import Piece

View = Literal["aligned", "wrapped"]
Context = Literal["16", "40", "row"]
Scale = Literal["feature", "window"]

WIDTHS: dict[Context, int | None] = {"16": None, "40": 40, "row": 100_000}
"""Tokens on either side; None: the window that is stored."""


@dataclass(frozen=True)
class Drawing:
    """How examples are to be drawn; what the form above them says."""

    view: View = "aligned"
    context: Context = "16"
    breaks: bool = False
    scale: Scale = "feature"
    group: str | None = None

    @property
    def aligned(self) -> bool:
        """Lines that are broken have no common place to be aligned at."""
        return self.view == "aligned" and not self.breaks


@dataclass(frozen=True)
class ExampleShown:
    example: ExampleView
    direction: str
    far_before: str
    """Text before the window, of which activations are not stored."""
    before: list[Piece]
    after: list[Piece]
    """From the token on that the example is about."""
    far_after: str


@dataclass(frozen=True)
class GroupShown:
    name: str
    title: str
    examples: list[ExampleShown]
    n: int
    distinct: int
    """Different tokens that its examples are about."""


def shown_groups(
    examples: Sequence[ExampleView], maximum: float, drawing: Drawing
) -> Iterator[GroupShown]:
    """The strongest, then the strata from the weakest; only ``drawing.group`` where that is
    given."""
    for name, title in group_titles(examples):
        if drawing.group not in (None, name):
            continue
        members = [each for each in examples if each.group == name]
        focuses = {each.token_ids[each.focus] for each in members}
        shown = [shown_example(each, maximum, drawing) for each in members]
        yield GroupShown(name, title, shown, len(members), len(focuses))


def group_titles(examples: Sequence[ExampleView]) -> list[tuple[str, str]]:
    """(name, title) of every group that there is."""
    names = list(dict.fromkeys(each.group for each in examples))
    count = strata.how_many(name.removeprefix("q") for name in names)
    return [(name, _title(name, count)) for name in names]


def shown_example(example: ExampleView, maximum: float, drawing: Drawing) -> ExampleShown:
    scale = maximum if drawing.scale == "feature" else max(example.activations, default=0.0)
    draw = partial(tokens.pieces, scale=scale, breaks=drawing.breaks)
    words = tokens.broken if drawing.breaks else tokens.clipped
    focus = example.focus
    texts, values, ids = example.tokens, example.activations, example.token_ids
    return ExampleShown(
        example=example,
        direction=tokens.direction([*example.before, *texts, *example.after]),
        far_before="".join(map(words, example.before)),
        before=list(draw(texts[:focus], values[:focus], maximum, ids=ids[:focus])),
        after=list(draw(texts[focus:], values[focus:], maximum, 0, ids=ids[focus:])),
        far_after="".join(map(words, example.after)),
    )


def _title(name: str, count: int) -> str:
    if name == TOP:
        return "strongest, one per document"
    number = name.removeprefix("q")
    if not number.isdigit():
        return name
    return strata.name(number, count)
