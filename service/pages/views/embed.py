"""/embed/saes/{sae}/features/{index}: a feature for a frame on another page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Query, Request
from starlette.responses import Response

from monosemy.specs.rest.embeds import EMBED_PARTS, MOST_EXAMPLES, EmbedPart
from service.edge.context import ContextDep, SessionDep
from service.features.endpoints import Index
from service.features.repository import find_feature
from service.features.service import no_such_feature, page_of
from service.keys.authorize import ForAnybody
from service.pages.feature import embeds
from service.pages.feature.examples import Drawing
from service.pages.feature.shown import FeatureShown, shown_feature
from service.pages.page import PageRouter
from service.pages.render import PAGE_HEADERS, rendered
from service.saes.endpoints import SaeReference
from service.saes.repository import no_such_sae

router = PageRouter(ForAnybody)


@dataclass(frozen=True)
class Embed:
    shown: FeatureShown
    parts: list[EmbedPart]
    wanted_theme: str


@router.page("/embed/saes/{sae}/features/{index}", "embed.html")
def embed(
    request: Request,
    session: SessionDep,
    context: ContextDep,
    sae: SaeReference,
    index: Index,
    parts: Annotated[list[EmbedPart] | None, Query(max_length=5)] = None,
    n: Annotated[int, Query(ge=1, le=MOST_EXAMPLES)] = 5,
    theme: Literal["light", "dark"] | None = None,
    t: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Where keys are asked for the address must be signed, whoever asks; else 404, which tells
    nothing of what there is."""
    settings = context.settings
    chosen = parts or list(EMBED_PARTS)
    found = find_feature(session, sae, index)
    if settings.require_keys:
        identity = found.sae.id if found is not None else embeds.NOBODYS
        embeds.check(session, settings, t, identity, index, chosen)
    if found is None:
        raise no_such_sae(sae)
    if found.feature is None:
        raise no_such_feature(found.sae, index)
    page = page_of(session, context.tokens, found)
    short = page.model_copy(update={"examples": page.examples[:n]})
    values = vars(Embed(shown_feature(short, Drawing(view="wrapped")), chosen, theme or ""))
    policy = PAGE_HEADERS["Content-Security-Policy"].replace(
        "frame-ancestors 'none'", f"frame-ancestors {settings.embedding_ancestors}"
    )
    return rendered(request, "embed.html", values, headers={"Content-Security-Policy": policy})
