"""GET /saes/{id}/columns"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query
from starlette.responses import Response

from monosemy.specs.rest.features import FeatureColumn
from monosemy.workspace import Workspace
from service.edge.context import ContextDep, SessionDep
from service.edge.routing import ApiRouter
from service.features.filters import MatchDep
from service.features.measured import measured
from service.keys.authorize import CanRead
from service.kit.problems import documented
from service.layouts.repository import places_of
from service.layouts.service import layout_of
from service.saes.endpoints import SaeReference
from service.saes.repository import find_sae, index_of
from service.tags.repository import commonest_tags

router = ApiRouter(prefix="/saes/{sae}", tags=["features"], dependencies=[CanRead])

MOST_TAGS = 8
"""Tags that have a number of their own."""
_MEDIA_TYPE = "application/octet-stream"
_FLOATS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "float32, little-endian: one column after another, as `X-Columns` names "
        "them, each with a number for every latent (`X-Rows`).",
        "content": {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            "X-Columns": {"schema": {"type": "string"}, "description": "Names, by commas."},
            "X-Rows": {"schema": {"type": "integer"}, "description": "Latents of the SAE."},
            "X-Tags": {
                "schema": {"type": "string"},
                "description": "Which tags the numbers of `tag` are: by commas, percent-encoded.",
            },
        },
    }
}


@router.get(
    "/columns",
    summary="Get numbers of all features",
    response_class=Response,
    responses={**_FLOATS, **documented(404, 409, 422)},
)
def columns(
    context: ContextDep,
    session: SessionDep,
    sae: SaeReference,
    matching: MatchDep,
    column: Annotated[
        list[FeatureColumn],
        Query(min_length=1, max_length=12, description="Which, in this order."),
    ] = ["density", "maximum"],  # noqa: B006
) -> Response:
    """Row i is latent i; what is not known is NaN. `score` is the best of a feature's scores,
    `top_token_share` the share of its activation on its commonest token, `logit_kurtosis` that of
    its effect on logits, `layout_x` and `layout_y` its place in the SAE's layout, `matches` 1 for
    the features that a listing with these filters has, 0 for others. `heading` is 0 without an
    explanation, 1 where none is told apart from another feature's, 2 where one is; `evidence_kind`
    what kind of thing the evidence label says; `tag` which of the commonest tags it has (the
    commonest, where several), their number where only others. 409 where the SAE is not
    indexed; of a layout where it has none, or one of other weights."""
    row, _ = find_sae(session, sae)
    index_of(row)
    places = None
    if {"layout_x", "layout_y"}.intersection(column):
        places = places_of(layout_of(session, row, Workspace(context.settings.artifacts)))
    headers = {"X-Columns": ",".join(column), "X-Rows": str(row.d_sae)}
    tags: list[str] = []
    if "tag" in column:
        tags = commonest_tags(session, row.id, MOST_TAGS)
        headers["X-Tags"] = ",".join(quote(tag, safe="") for tag in tags)
    values = measured(session, row, matching.of(session, row.id), column, places, tags)
    return Response(values.astype("<f4").tobytes(), media_type=_MEDIA_TYPE, headers=headers)
