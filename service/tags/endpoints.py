"""GET /tags, and the tags of a feature"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import Path, Query
from sqlalchemy.orm import Session

from monosemy.specs.rest.page import Page
from monosemy.specs.rest.tags import (
    MOST_OF_A_FEATURE,
    MOST_SAES_OF_A_TAG,
    NewTags,
    TagCount,
    TagOfSae,
    TagsOfFeature,
)
from monosemy.specs.tags import Tag, normalised
from service.edge.context import SessionDep
from service.edge.routing import ApiRouter
from service.explanations.service import require_feature
from service.features.endpoints import Index
from service.features.service import no_such_feature
from service.keys.authorize import CallerDep, CanRead, CanRun
from service.keys.ownership import check_owner
from service.kit.errors import InvalidRequest
from service.kit.pagination import DEFAULT_LIMIT, CursorParam, Limit, Order, paged
from service.kit.problems import documented
from service.saes.endpoints import SaeReference
from service.saes.repository import find_sae
from service.tags import repository

router = ApiRouter(tags=["lists"])

TaggedSaeParam = Annotated[
    str | None, Query(max_length=200, description="Only of this SAE's features; id or name.")
]
PrefixParam = Annotated[Tag | None, Query(description="Only tags that begin so.")]

_BY_TAG: Order[tuple[str, int], str] = Order((str,), lambda row: (row[0],), normalised)

_OF_FEATURE = "/saes/{sae}/features/{index}/tags"


@router.get("/tags", summary="List tags", dependencies=[CanRead], responses=documented(404, 422))
def list_all(
    session: SessionDep,
    sae: TaggedSaeParam = None,
    prefix: PrefixParam = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[TagCount]:
    """Those in use, in alphabetical order, with how many features carry each."""
    sae_id = find_sae(session, sae)[0].id if sae is not None else None
    return paged(
        ("tags", str(sae_id), prefix),
        _BY_TAG,
        cursor,
        limit,
        partial(repository.count_tags, session, sae_id, prefix),
        partial(_counts, session, sae_id),
    )


def _counts(
    session: Session, sae_id: uuid.UUID | None, rows: Sequence[tuple[str, int]]
) -> list[TagCount]:
    saes = repository.saes_of_tags(session, sae_id, [tag for tag, _ in rows], MOST_SAES_OF_A_TAG)
    return [
        TagCount(
            tag=tag,
            features=features,
            saes=[TagOfSae(sae=name, features=count) for name, count in saes[tag]],
        )
        for tag, features in rows
    ]


@router.get(
    _OF_FEATURE,
    summary="List a feature's tags",
    dependencies=[CanRead],
    responses=documented(404, 422),
)
def list_of_feature(session: SessionDep, sae: SaeReference, index: Index) -> TagsOfFeature:
    """In alphabetical order."""
    row = require_feature(session, sae, index)
    return TagsOfFeature(items=repository.tags_of(session, row.id, index))


@router.post(
    _OF_FEATURE, summary="Tag a feature", dependencies=[CanRun], responses=documented(404, 422)
)
def add(
    session: SessionDep, caller: CallerDep, sae: SaeReference, index: Index, body: NewTags
) -> TagsOfFeature:
    """Tags that it has already stay; the answer has all of them."""
    row = require_feature(session, sae, index)
    if not repository.lock_feature(session, row.id, index):
        raise no_such_feature(row, index)
    repository.add_tags(session, row.id, index, body.tags, caller.key)
    tags = repository.tags_of(session, row.id, index)
    if len(tags) > MOST_OF_A_FEATURE:
        raise InvalidRequest([("tags", f"a feature has at most {MOST_OF_A_FEATURE} tags")])
    return TagsOfFeature(items=tags)


@router.delete(
    _OF_FEATURE + "/{tag}",
    status_code=204,
    summary="Take a tag from a feature",
    dependencies=[CanRun],
    responses=documented(404, 422),
)
def remove(
    session: SessionDep,
    caller: CallerDep,
    sae: SaeReference,
    index: Index,
    tag: Annotated[Tag, Path(description="Which tag.")],
) -> None:
    """One that it does not have is no fault. Only for the API key that gave it and for
    administrators."""
    row = require_feature(session, sae, index)
    stored = repository.find_tag(session, row.id, index, tag)
    if stored is not None:
        check_owner(caller, stored.created_by, f"the tag '{tag}'")
        session.delete(stored)
