"""/label: features one by one, for a person to write on, to vote on or to judge; and /agreement."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Query
from sqlalchemy.orm import Session

from monosemy.specs.messages import pattern
from monosemy.specs.rest.agreement import Agreement
from monosemy.specs.rest.explanations import ExplanationView
from monosemy.specs.rest.labelling import LabellingItem, LabellingMode, LabellingPage
from monosemy.specs.rest.lists import ListSummary
from monosemy.specs.rest.saes import SaeSummary
from monosemy.specs.rest.sittings import SittingView
from service.agreement import endpoints as agreement_endpoints
from service.agreement.endpoints import OfParam
from service.edge.context import AppContext, ContextDep, SessionDep
from service.explanations.service import explanation_views, require_explanation
from service.features.repository import find_feature
from service.features.service import page_of
from service.keys.authorize import Caller, CallerDep
from service.kit.pagination import CursorParam
from service.labelling.endpoints import AskedDep, work_of
from service.labelling.service import labelling_item, labelling_page
from service.lists.endpoints import list_all as list_lists
from service.lists.service import require_list
from service.pages.feature.examples import Drawing
from service.pages.feature.scores import ScoreShown, shown_score
from service.pages.feature.shown import FeatureShown, shown_feature
from service.pages.page import PageRouter
from service.saes.endpoints import list_all as list_saes
from service.sittings.repository import latest_sitting, parameters_taken
from service.sittings.service import repeatable, sitting_view

router = PageRouter()

_CHOICES = 200
"""Lists and SAEs to choose from."""

END = "end"
AtParam = Annotated[
    str | None,
    Query(
        pattern=pattern(
            rf"^({END}|[0-9a-f-]{{36}}:[0-9]{{1,9}})$", f"SAE's id:index of a feature, or {END},"
        ),
        description="The feature that is shown, as SAE's id:index, whether or not it is done.",
    ),
]
BlindParam = Annotated[
    bool, Query(description="Keep what others said out of sight until one's own is stored.")
]


@dataclass(frozen=True)
class Judging:
    """An explanation to be judged, and how far the viewer has come with it."""

    explanation: ExplanationView
    like: str | None
    """A judge's score whose very texts can be asked."""
    sitting: SittingView | None
    scores: list[ScoreShown]
    """Empty while a sitting could still be swayed by them."""


@dataclass(frozen=True)
class Label:
    mode: LabellingMode
    blind: bool
    todo: bool
    lists: list[ListSummary] = field(default_factory=list)
    saes: list[SaeSummary] = field(default_factory=list)
    """Both to choose from, where nothing is chosen yet."""
    name: str | None = None
    """Of the list or SAE."""
    listed: str | None = None
    page: LabellingPage | None = None
    item: LabellingItem | None = None
    """The feature that is shown; None at the end."""
    shown: FeatureShown | None = None
    """None where it is judged by the explanation alone, and where it is not indexed."""
    judging: Judging | None = None
    hides: bool = False
    """Whether the words of others are left out of the page."""
    onward: dict[str, str | None] = field(default_factory=dict)
    """What leads from this address to the next feature's."""


@router.page("/label", "label.html", script="pages/label.js")
def label(
    session: SessionDep,
    app: ContextDep,
    caller: CallerDep,
    asked: AskedDep,
    blind: BlindParam = True,
    cursor: CursorParam = None,
    at: AtParam = None,
) -> Label:
    mode, listed, sae = asked.mode, asked.listed, asked.sae
    if listed is None and sae is None:
        lists = [each for each in list_lists(session, limit=_CHOICES).items if each.size]
        saes = list_saes(session, limit=_CHOICES).items
        return Label(mode, blind, asked.todo, lists, saes)
    work = work_of(session, caller, asked)
    page = labelling_page(session, work, cursor, 1)
    first = page.items[0] if page.items else None
    item = first if at is None else None
    if at is not None and at != END:
        sae_id, _, index = at.partition(":")
        item = labelling_item(session, work, (uuid.UUID(sae_id), int(index)))
    name = require_list(session, listed).name if listed is not None else sae
    shown = judging = None
    if item is not None and mode == "judge":
        judging = _judging(session, caller, item)
    elif item is not None:
        shown = _shown(session, app, caller, item)
    return Label(
        mode=mode,
        blind=blind,
        todo=asked.todo,
        name=name,
        listed=listed,
        page=page,
        item=item,
        shown=shown,
        judging=judging,
        hides=blind and item is not None and not item.done,
        onward=_onward(page, cursor, first is not None and item == first),
    )


def _onward(page: LabellingPage, cursor: str | None, is_first: bool) -> dict[str, str | None]:
    """A feature that has been done meanwhile is no longer among those to do: what is first there is
    the next one."""
    if is_first:
        left = page.next_cursor is not None
        return {"cursor": page.next_cursor or cursor, "at": None if left else END}
    return {"cursor": cursor, "at": None if page.items else END}


def _shown(
    session: Session, app: AppContext, caller: Caller, item: LabellingItem
) -> FeatureShown | None:
    found = find_feature(session, str(item.sae_id), item.feature)
    if found is None or found.feature is None:
        return None
    return shown_feature(page_of(session, app.tokens, found, caller.name, None), Drawing())


def _judging(session: Session, caller: Caller, item: LabellingItem) -> Judging:
    assert item.explanation is not None  # what is to be judged has one
    row = require_explanation(session, item.explanation)
    (view,) = explanation_views(session, caller.name, [row])
    taken = parameters_taken(session, row.sae_id, row.feature, caller.name)
    known = {each.get("like") for each in taken}
    like = next((each for each in map(str, repeatable(view)) if each not in known), None)
    latest = latest_sitting(session, row, caller.name)
    sitting = sitting_view(session, latest) if latest is not None else None
    ended = sitting is not None and sitting.score_id is not None
    return Judging(
        view, like, sitting, [shown_score(each) for each in view.scores] if ended else []
    )


@dataclass(frozen=True)
class AgreementShown:
    table: Agreement
    sae: str | None
    listed: str | None
    saes: list[str]
    lists: list[str]
    """Names to choose from."""


def _choices(session: SessionDep) -> tuple[list[str], list[str]]:
    return (
        [each.name for each in list_saes(session, limit=_CHOICES).items],
        [each.name for each in list_lists(session, limit=_CHOICES).items],
    )


@router.page("/agreement", "agreement.html")
async def agreement(
    app: ContextDep,
    choices: Annotated[tuple[list[str], list[str]], Depends(_choices)],
    of: OfParam = "votes",
    sae: agreement_endpoints.SaeParam = None,
    listed: agreement_endpoints.ListParam = None,
) -> AgreementShown:
    table = await agreement_endpoints.show(app, of, sae, listed)
    return AgreementShown(table, sae, listed, *choices)
