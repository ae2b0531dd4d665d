"""/saes/{sae}/report/beside: the scores of an SAE beside those of neurons and other bases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool

from monosemy.interp.report.beside_page import beside_body
from monosemy.specs.rest.reports import MOST_BESIDE
from monosemy.specs.rest.saes import SaeDetail, SaeSummary
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.kit.errors import Conflict
from service.pages.commands import command
from service.pages.page import PageRouter
from service.reports.endpoints import beside_of
from service.saes.endpoints import SaeReference, list_all, show

router = PageRouter()

_CHOICE = 100
"""SAEs that are listed; others can be named in the address."""


@dataclass(frozen=True)
class Beside:
    sae: SaeDetail
    chosen: list[str]
    others: list[str]
    """Scored SAEs and bases of the same host model, those of the same site first."""
    most: int
    drawn: Markup | None
    why_not: str | None
    by_command: str


@router.page("/saes/{sae}/report/beside", "sae_beside.html")
async def beside(
    context: ContextDep,
    sae: SaeReference,
    other: Annotated[list[str], Query(max_length=MOST_BESIDE)] = [],  # noqa: B006
) -> Beside:
    """Without ``other``, the scored bases of the same site."""
    detail, listed = await run_in_threadpool(_about, context, sae)
    bases = [each.name for each in listed if each.basis and each.site == detail.site]
    chosen = [name for name in dict.fromkeys(other) if name] or bases[:MOST_BESIDE]
    names = list(dict.fromkeys([*chosen, *(each.name for each in listed)]))
    words = command(["bases", detail.name])
    if not chosen:
        return Beside(detail, [], names, MOST_BESIDE, None, None, words)
    try:
        drawn = await context.lanes.reports.run(
            lambda: beside_body(beside_of(context, sae, chosen))
        )
    except Conflict as error:
        return Beside(detail, chosen, names, MOST_BESIDE, None, str(error), words)
    # Everything that was put in is escaped there.
    return Beside(detail, chosen, names, MOST_BESIDE, Markup(drawn), None, words)


def _about(context: AppContext, sae: str) -> tuple[SaeDetail, list[SaeSummary]]:
    with transaction(context.engine) as session:
        detail = show(session, context, sae)
        listed = [
            each
            for each in list_all(session, counts=True, limit=_CHOICE).items
            if each.id != detail.id
            and each.model.id == detail.model.id
            and each.features is not None
            and each.features.scored
        ]
    return detail, sorted(listed, key=lambda each: each.site != detail.site)
