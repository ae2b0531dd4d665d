"""A feature, the features of an SAE or of a list, as one file of HTML; addresses of embeds."""

from __future__ import annotations

import datetime as dt
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

from fastapi import Request
from sqlalchemy.orm import Session
from starlette.responses import HTMLResponse, Response, StreamingResponse

from monosemy.specs.rest.embeds import EmbedAddress, NewEmbed
from service.concurrency.streams import each_in
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep, SessionDep
from service.edge.routing import ApiRouter, reads_only
from service.explanations.service import require_feature
from service.features.endpoints import Index
from service.features.filters import FilterDep
from service.features.listing import FeatureFilter, list_features
from service.features.repository import find_feature
from service.features.service import no_such_feature, page_of
from service.keys.authorize import CanRead, KeyId
from service.kit.problems import documented
from service.lists.endpoints import ListReference
from service.lists.repository import entries_of
from service.lists.service import require_list
from service.pages.feature.embeds import token
from service.pages.feature.files import MOST, FileHead, Place, feature_file, policy, several
from service.pages.render import Links
from service.saes.endpoints import SaeReference
from service.saes.repository import find_sae, no_such_sae

router = ApiRouter(tags=["features"], dependencies=[CanRead])

_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "One page without scripts.", "content": {"text/html": {}}}
}


@router.get(
    "/saes/{sae}/features/{index}/page",
    summary="Export a feature's page",
    response_class=HTMLResponse,
    responses={**_FILE, **documented(404, 422)},
)
async def feature_page_file(
    request: Request, context: ContextDep, sae: SaeReference, index: Index
) -> Response:
    """All that is known of a feature in one file: style and drawings in it, no script, nothing
    loaded, to be kept or sent on."""
    return await context.lanes.reports.run(lambda: _one(request, context, sae, index))


def _one(request: Request, context: AppContext, sae: str, index: int) -> Response:
    with transaction(context.engine) as session:
        found = find_feature(session, sae, index)
        if found is None:
            raise no_such_sae(sae)
        if found.feature is None:
            raise no_such_feature(found.sae, index)
        page = page_of(session, context.tokens, found)
    name = page.sae.name
    head = FileHead(
        f"Feature {index} of {name}",
        f"{page.sae.model.name}, {page.sae.site}",
        _address(request, f"/saes/{name}/features/{index}"),
    )
    return HTMLResponse(feature_file(page, head), headers=_headers(f"{name}-feature-{index}"))


@router.post(
    "/saes/{sae}/features/{index}/embed",
    summary="Make an address for embedding a feature",
    responses=documented(404, 422),
)
@reads_only
def make_embed(
    request: Request,
    session: SessionDep,
    context: ContextDep,
    key: KeyId,
    sae: SaeReference,
    index: Index,
    body: NewEmbed,
) -> EmbedAddress:
    """For a frame on another page (`MONOSEMY_EMBED_ANCESTORS` says which may). Where keys are asked
    for it is signed: it shows this feature's parts to anybody until it expires or the key that
    asked is revoked."""
    found = require_feature(session, sae, index)
    query: dict[str, Any] = {"parts": body.parts, "n": body.n, "theme": body.theme}
    expires = None
    if key is not None:
        end = int(time.time() + 3600 * body.hours)
        expires = dt.datetime.fromtimestamp(end, dt.UTC)
        query["t"] = token(context.settings, key, found.id, index, body.parts, end)
    path = Links(request.scope).url(f"/embed/saes/{found.id}/features/{index}", **query)
    return EmbedAddress(path=path, expires_at=expires)


@router.get(
    "/saes/{sae}/page",
    summary="Export pages of an SAE's features",
    response_class=StreamingResponse,
    responses={**_FILE, **documented(404, 409, 422)},
)
async def sae_page_file(
    request: Request, context: ContextDep, sae: SaeReference, wanted: FilterDep
) -> Response:
    """The first 500 features of the listing in one file, each in short."""
    return await context.lanes.reports.run(lambda: _of_sae(request, context, sae, wanted))


def _of_sae(request: Request, context: AppContext, sae: str, wanted: FeatureFilter) -> Response:
    with transaction(context.engine) as session:
        row, model = find_sae(session, sae)
        places = _listed(session, wanted, row.name, row.id)
    head = FileHead(
        f"Features of {row.name}",
        f"{_some(len(places), row.d_sae)}. {model.name}, {row.site}, {row.architecture}.",
        _address(request, f"/saes/{row.name}"),
    )
    return _stream(context, head, places, f"{row.name}-features")


@router.get(
    "/lists/{list}/page",
    summary="Export pages of a list's features",
    response_class=StreamingResponse,
    responses={**_FILE, **documented(404, 422)},
)
async def list_page_file(
    request: Request, context: ContextDep, reference: ListReference
) -> Response:
    """The first 500 entries in one file, in their order, each in short."""
    return await context.lanes.reports.run(lambda: _of_list(request, context, reference))


def _of_list(request: Request, context: AppContext, reference: str) -> Response:
    with transaction(context.engine) as session:
        found = require_list(session, reference)
        rows = entries_of(session, found.id, None, MOST + 1)
        places = [(row.sae, row.feature) for row in rows[:MOST]]
        name, about = found.name, found.description
    more = f", the first {MOST}" if len(rows) > MOST else ""
    head = FileHead(
        f"List: {name}",
        f"{len(places)} features{more}. {about}",
        _address(request, f"/lists/{name}"),
    )
    return _stream(context, head, places, name)


def _listed(session: Session, wanted: FeatureFilter, name: str, sae: uuid.UUID) -> list[Place]:
    rows = list_features(session, wanted.of(session, sae), None, MOST)
    return [(name, int(row.facts["index"])) for row in rows]


def _stream(context: AppContext, head: FileHead, places: list[Place], name: str) -> Response:
    def pieces() -> Iterator[bytes]:
        for piece in several(context.engine, context.tokens, head, places):
            yield piece.encode()

    lane = context.lanes.reports
    return StreamingResponse(
        each_in(lane, pieces()), media_type="text/html; charset=utf-8", headers=_headers(name)
    )


def _headers(name: str) -> dict[str, str]:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80] or "features"
    return {
        "Content-Disposition": f'attachment; filename="{plain}.html"',
        "Content-Security-Policy": f"{policy()}; frame-ancestors 'none'; sandbox",
    }


def _address(request: Request, path: str) -> str:
    origin = f"{request.url.scheme}://{request.url.netloc}"
    return origin + Links(request.scope).url(path)


def _some(count: int, whole: int) -> str:
    return f"All {whole:,} features" if count == whole else f"{count:,} of {whole:,} features"
