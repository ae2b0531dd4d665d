"""/try: a text of one's own, token by token, read by up to eight SAEs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from fastapi import Query, Request

from monosemy.specs.inference.activations import MAX_SAES, TopK
from monosemy.specs.inference.prompts import MAX_CHARACTERS, SaeName
from monosemy.specs.inference.reading import ReadingOrder
from monosemy.specs.rest.saes import SaeSummary
from service.edge.context import SessionDep
from service.pages.commands import command, curl, packed
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.pages.sae_choice import chosen_saes

router = PageRouter()

Colouring = Literal["strongest", "pinned", "count", "unexplained"]
ORDERS: dict[ReadingOrder, str] = {
    "activation": "activation",
    "share": "share of its maximum",
    "rarity": "rarity",
}
COLOURINGS: dict[Colouring, str] = {
    "strongest": "its strongest feature",
    "pinned": "the first pinned feature",
    "count": "how many features fire",
    "unexplained": "what is not explained",
}
_EXAMPLE = "The king sat on the throne."


@dataclass(frozen=True)
class TryText:
    saes: list[SaeSummary]
    others: list[SaeSummary]
    more: bool
    most_saes: int
    most_characters: int
    top_k: int
    sort: ReadingOrder
    orders: dict[ReadingOrder, str]
    colour: Colouring
    colourings: dict[Colouring, str]
    by_command: str
    by_rest: str
    example: str
    """For the fragment of a link."""


@router.page("/try", "try.html", nav=Nav("Try a text", 20, "t"), script="pages/try.js")
def try_text(
    request: Request,
    session: SessionDep,
    sae: Annotated[list[SaeName], Query()] = [],  # noqa: B006
    top_k: TopK = 5,
    sort: ReadingOrder = "activation",
    colour: Colouring = "strongest",
    pin: Annotated[list[str], Query()] = [],  # noqa: B006, ARG001
    at: int | None = None,  # noqa: ARG001
) -> TryText:
    """``pin`` and ``at`` are the script's: features (``42``, or ``42@name`` of another SAE than the
    first) and the token that is looked at.  The text itself is in the fragment."""
    choices = chosen_saes(session, sae)
    names = [each.name for each in choices.chosen] or ["demo"]
    also = [word for name in names[1:] for word in ("--also", name)]
    body = {"saes": [{"sae": name} for name in names], "text": _EXAMPLE, "top_k": top_k}
    body |= {} if sort == get_args(ReadingOrder)[0] else {"order": sort}
    return TryText(
        saes=choices.chosen,
        others=choices.others,
        more=choices.more,
        most_saes=MAX_SAES,
        most_characters=MAX_CHARACTERS,
        top_k=top_k,
        sort=sort,
        orders=ORDERS,
        colour=colour,
        colourings=COLOURINGS,
        by_command=command(
            ["activations", names[0], _EXAMPLE, "--top", str(top_k), "--unexplained", *also]
        ),
        by_rest=curl(request, "/inference/read", body),
        example=packed({"text": _EXAMPLE}),
    )
