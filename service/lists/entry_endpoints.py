"""Entries of a list: added, removed, moved"""

from __future__ import annotations

from monosemy.specs.rest.lists import EntriesChanged, Move, NewEntries, Removal
from service.edge.context import SessionDep
from service.edge.routing import ApiRouter
from service.keys.authorize import CallerDep, CanRun
from service.kit.problems import documented
from service.lists import service
from service.lists.endpoints import ListReference

router = ApiRouter(prefix="/lists/{list}/entries", tags=["lists"], dependencies=[CanRun])


@router.post("", summary="Add features to a list", responses=documented(404, 422))
def add_entries(
    session: SessionDep, caller: CallerDep, reference: ListReference, body: NewEntries
) -> EntriesChanged:
    """At its end; sent again, nothing is there twice. All of them or, on any fault, none."""
    row = service.lock_list(session, reference, caller)
    return service.add_entries(session, row, body.entries)


@router.post("/remove", summary="Take features out of a list", responses=documented(404, 422))
def remove_entries(
    session: SessionDep, caller: CallerDep, reference: ListReference, body: Removal
) -> EntriesChanged:
    """Those that are not in it are passed over."""
    row = service.lock_list(session, reference, caller)
    return service.remove_entries(session, row, body.entries)


@router.post("/move", summary="Move entries of a list", responses=documented(404, 422))
def move_entries(
    session: SessionDep, caller: CallerDep, reference: ListReference, body: Move
) -> EntriesChanged:
    """Puts them together, in the order given, behind the first `to` of the other entries."""
    row = service.lock_list(session, reference, caller)
    return service.move_entries(session, row, body.entries, body.to)
