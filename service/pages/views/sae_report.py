"""/saes/{sae}/report: the scores of an SAE, every dot a link to its feature."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup
from starlette.concurrency import run_in_threadpool

from monosemy.interp.report.page import report_body
from monosemy.specs.rest.saes import SaeDetail
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.kit.errors import Conflict
from service.pages.page import PageRouter
from service.pages.render import LinksDep
from service.reports.endpoints import Reference, report_of
from service.saes.endpoints import SaeReference, list_all, show

router = PageRouter()

_CHOICE = 100
"""SAEs to compare with that are listed; others can be named in the address."""


@dataclass(frozen=True)
class Report:
    sae: SaeDetail
    reference: str | None
    others: list[str]
    """Scored SAEs to compare with."""
    drawn: Markup | None
    """None where there is nothing to draw."""
    why_not: str | None
    sampled: tuple[int, int] | None
    """(features looked at, features scored), where not all are."""


@router.page("/saes/{sae}/report", "sae_report.html")
async def report(
    context: ContextDep, links: LinksDep, sae: SaeReference, reference: Reference = None
) -> Report:
    detail, others = await run_in_threadpool(_about, context, sae)
    names = list(dict.fromkeys([*([reference] if reference else []), *others]))
    if not detail.features.scored:
        return Report(detail, reference, names, None, None, None)

    def address(index: int) -> str:
        return links.url(f"/saes/{detail.name}/features/{index}")

    def work() -> tuple[str, int, int]:
        found = report_of(context, sae, reference)
        return report_body(found, address), found["features"], found["scored_features"]

    try:
        drawn, looked_at, scored = await context.lanes.reports.run(work)
    except Conflict as error:
        return Report(detail, reference, names, None, str(error), None)
    # Everything that was put in is escaped there.
    sampled = (looked_at, scored) if looked_at < scored else None
    return Report(detail, reference, names, Markup(drawn), None, sampled)


def _about(context: AppContext, sae: str) -> tuple[SaeDetail, list[str]]:
    with transaction(context.engine) as session:
        detail = show(session, context, sae)
        listed = list_all(session, counts=True, limit=_CHOICE).items
        others = [
            each.name
            for each in listed
            if each.id != detail.id and each.features is not None and each.features.scored
        ]
        return detail, others
