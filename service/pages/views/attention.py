"""/attention: where features of attention outputs read from, on a text of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Request
from sqlalchemy.orm import Session

from monosemy.models import sites
from monosemy.specs.inference.attention import MAX_THROUGH
from monosemy.specs.inference.prompts import MAX_CHARACTERS, SaeName
from monosemy.specs.rest.saes import SaeSummary
from service.edge.context import SessionDep
from service.kit.errors import InvalidRequest
from service.pages.commands import command, curl, packed
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.pages.sae_choice import OFFERED
from service.saes.endpoints import list_all
from service.saes.repository import find_sae
from service.saes.views import sae_summary

router = PageRouter()

WITHOUT = "-"
"""In place of an SAE on the stream: sources are told by what was written there."""
_EXAMPLE = "When Mary and John went to the store, John gave a drink to"


@dataclass(frozen=True)
class AttentionPage:
    sae: SaeSummary | None
    others: list[SaeSummary]
    more: bool
    residual: SaeSummary | None
    residuals: list[SaeSummary]
    """Those on the stream before the block: indexed ones first, then the newest."""
    through: list[str]
    """SAEs of blocks below, one for each place."""
    without: str
    top_k: int
    most_characters: int
    by_command: str
    by_rest: str
    example: str
    """For the fragment of a link."""


@router.page("/attention", "attention.html", nav=Nav("Attention", 35), script="pages/attention.js")
def attention(
    request: Request,
    session: SessionDep,
    sae: SaeName | None = None,
    residual: SaeName | None = None,
    top_k: Annotated[int, Query(ge=1, le=20)] = 5,
    at: int | None = None,  # noqa: ARG001
    f: int | None = None,  # noqa: ARG001
    pair: str | None = None,  # noqa: ARG001
) -> AttentionPage:
    """``at``, ``f`` and ``pair`` are the script's: the token and the feature that are looked at,
    and HEAD.TOKEN.SOURCE of a score.  The text is in the fragment."""
    chosen, others, more = _choice(session, sae)
    on_stream: list[SaeSummary] = []
    below: list[str] = []
    if chosen is not None:
        on_stream, below = _beside(session, chosen)
    picked = _picked(on_stream, residual)
    name = chosen.name if chosen else "heads"
    words = ["attention", name, _EXAMPLE, "--top", str(top_k), "--depth", "2"]
    body: dict[str, object] = {"sae": name, "text": _EXAMPLE, "top_k": top_k, "depth": 2}
    if picked is not None:
        words += ["--residual", picked.name]
        body["residual_sae"] = picked.name
    return AttentionPage(
        sae=chosen,
        others=others,
        more=more,
        residual=picked,
        residuals=on_stream,
        through=below,
        without=WITHOUT,
        top_k=top_k,
        most_characters=MAX_CHARACTERS,
        by_command=command(words),
        by_rest=curl(request, "/inference/attention", body),
        example=packed({"text": _EXAMPLE}),
    )


def _choice(session: Session, name: str | None) -> tuple[SaeSummary | None, list[SaeSummary], bool]:
    """(the SAE of this name, else the newest with heads; other ones; whether there are more)."""
    page = list_all(session, limit=OFFERED)
    heads = [each for each in page.items if _kind(each) == sites.Z]
    if name is None:
        chosen = next((each for each in heads if each.index is not None), None)
        chosen = chosen or next(iter(heads), None)
    else:
        chosen = sae_summary(*find_sae(session, name))
        if _kind(chosen) != sites.Z:
            fault = f"'{chosen.name}' reads {chosen.site}, which has no heads"
            raise InvalidRequest([("sae", fault)])
    others = [each for each in heads if chosen is not None and each.id != chosen.id]
    return chosen, others, page.next_cursor is not None


def _beside(session: Session, chosen: SaeSummary) -> tuple[list[SaeSummary], list[str]]:
    """(SAEs on the stream before its block, names of SAEs of blocks below, one for each place)."""
    layer = _layer(chosen)
    on_stream: list[SaeSummary] = []
    below: dict[tuple[bool, int], str] = {}
    listed = list_all(session, chosen.model.name, limit=OFFERED).items
    # Those first of whose features something is known.
    for each in sorted(listed, key=lambda each: each.index is None):
        kind = _kind(each)
        if kind not in (sites.RESID_PRE, sites.RESID_POST, sites.Z):
            continue
        at = _layer(each) + (kind == sites.RESID_POST)
        if kind != sites.Z and at == layer:
            on_stream.append(each)
        elif at < layer:
            below.setdefault((kind == sites.Z, at), each.name)
    nearest = sorted(below, key=lambda place: -place[1])[:MAX_THROUGH]
    return on_stream, [below[place] for place in nearest]


def _picked(on_stream: list[SaeSummary], name: str | None) -> SaeSummary | None:
    if name == WITHOUT:
        return None
    if name is None:
        return next(iter(on_stream), None)
    for each in on_stream:
        if name in (each.name, str(each.id)):
            return each
    raise InvalidRequest([("residual", f"'{name}' is no SAE on the stream before this block")])


def _kind(sae: SaeSummary) -> str:
    return sae.site.split(".", 2)[-1]


def _layer(sae: SaeSummary) -> int:
    number = sae.site.split(".")[1]
    return int(number) if number.isdecimal() else -1
