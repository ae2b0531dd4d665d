"""/lists, /lists/{name} and /tags: what people gather."""

from __future__ import annotations

from dataclasses import dataclass

from monosemy.specs.rest.lists import ListDetail, ListSummary
from monosemy.specs.rest.tags import TagCount
from service.edge.context import SessionDep
from service.keys.authorize import CallerDep
from service.kit.pagination import DEFAULT_LIMIT, CursorParam
from service.lists import endpoints as lists_endpoints
from service.lists.endpoints import ListReference, OwnerParam, SaeParam
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.tags import endpoints as tags_endpoints
from service.tags.endpoints import PrefixParam, TaggedSaeParam

router = PageRouter()


@dataclass(frozen=True)
class Lists:
    lists: list[ListSummary]
    next_cursor: str | None
    owner: str | None
    sae: str | None


@router.page(
    "/lists",
    "lists.html",
    nav=Nav("Lists", 47, "l", also=("/tags", "/label", "/agreement")),
    script="pages/lists.js",
)
def lists(
    session: SessionDep, owner: OwnerParam = None, sae: SaeParam = None, cursor: CursorParam = None
) -> Lists:
    page = lists_endpoints.list_all(session, owner, sae, limit=DEFAULT_LIMIT, cursor=cursor)
    return Lists(page.items, page.next_cursor, owner, sae)


@dataclass(frozen=True)
class OneList:
    list: ListDetail
    may_change: bool
    """Whether the viewer may, as far as it depends on whose it is."""
    first: bool
    """Whether these are its first entries."""


@router.page("/lists/{list}", "list.html", script="pages/list.js")
def one_list(
    session: SessionDep, caller: CallerDep, reference: ListReference, cursor: CursorParam = None
) -> OneList:
    detail = lists_endpoints.show(session, reference, limit=DEFAULT_LIMIT, cursor=cursor)
    owned = caller.administers or detail.owner == caller.name
    return OneList(detail, owned, cursor is None)


@dataclass(frozen=True)
class Tags:
    tags: list[TagCount]
    next_cursor: str | None
    sae: str | None
    prefix: str | None


@router.page("/tags", "tags.html")
def tags(
    session: SessionDep,
    sae: TaggedSaeParam = None,
    prefix: PrefixParam = None,
    cursor: CursorParam = None,
) -> Tags:
    page = tags_endpoints.list_all(session, sae, prefix, limit=DEFAULT_LIMIT, cursor=cursor)
    return Tags(page.items, page.next_cursor, sae, prefix)
