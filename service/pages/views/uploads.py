"""/saes/upload and /saes/{sae}/delete: SAEs that come in from outside, and that go."""

from __future__ import annotations

from dataclasses import dataclass

from monosemy.formats.archive import ALLOWED, ARCHIVES, LEFT_OUT
from monosemy.specs.rest.lists import ListSummary
from monosemy.specs.rest.saes import SaeDetail
from service.edge.context import ContextDep, SessionDep
from service.lists.endpoints import list_all as list_lists
from service.pages.page import PageRouter
from service.saes.endpoints import SaeReference
from service.saes.endpoints import show as show_sae

router = PageRouter()

_MOST_LISTS = 20


@dataclass(frozen=True)
class UploadForm:
    endings: list[str]
    """Of the files that are taken."""
    left_out: list[str]
    """Of those that may be sent and are not kept."""
    archives: list[str]
    """Of those that are unpacked."""
    most_bytes: int
    keep_hours: float


@router.page("/saes/upload", "upload.html", script="pages/upload.js")
def upload(context: ContextDep) -> UploadForm:
    settings = context.settings
    endings, left_out, archives = sorted(ALLOWED), sorted(LEFT_OUT), sorted(ARCHIVES)
    return UploadForm(
        endings, left_out, archives, settings.upload_max_bytes, settings.upload_keep_hours
    )


@dataclass(frozen=True)
class Deletion:
    sae: SaeDetail
    lists: list[ListSummary]
    """Some of those that hold features of it."""
    more_lists: bool
    wrong: str | None = None
    """What was written in place of its name."""


@router.page("/saes/{sae}/delete", "sae_delete.html")
def confirm(session: SessionDep, context: ContextDep, sae: SaeReference) -> Deletion:
    """What goes with it."""
    return deletion_of(session, context, sae)


def deletion_of(
    session: SessionDep, context: ContextDep, sae: str, wrong: str | None = None
) -> Deletion:
    detail = show_sae(session, context, sae)
    lists = list_lists(session, sae=str(detail.id), limit=_MOST_LISTS)
    return Deletion(detail, lists.items, lists.next_cursor is not None, wrong)
