"""GET /saes/{id}/features.parquet, activations.parquet, and both as .arrow"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Path, Query
from starlette.responses import StreamingResponse

from monosemy.workspace import Workspace
from service.database.session import transaction
from service.edge.context import ContextDep
from service.edge.routing import ApiRouter
from service.exports.activations import (
    activation_batches,
    activation_schema,
    chosen_features,
    open_index,
)
from service.exports.features import feature_batches, feature_schema
from service.exports.stream import MEDIA_TYPES, Form, begun, streamed
from service.features.listing import check_scorer
from service.keys.authorize import CanRead
from service.kit.problems import documented
from service.saes.endpoints import SaeReference
from service.saes.repository import find_sae

router = ApiRouter(prefix="/saes/{sae}", tags=["features"], dependencies=[CanRead])

FileForm = Annotated[
    Form, Path(description="A parquet file, or a stream of Arrow record batches (IPC).")
]
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file, sent while it is made.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            # The last is what generators of clients know as a file.
            for kind in (*MEDIA_TYPES.values(), "application/octet-stream")
        },
    }
}


@router.get(
    "/features.{form}",
    summary="Export features",
    response_class=StreamingResponse,
    responses={**_FILE, **documented(404, 422)},
)
async def features(
    context: ContextDep,
    sae: SaeReference,
    form: FileForm,
    scorer: Annotated[
        str, Query(max_length=100, description="Whose scores choose the best explanation.")
    ] = "detection",
) -> StreamingResponse:
    """All features by ascending index: statistics, evidence label, best explanation, and all scores
    of that one. What is written while the file is sent may be in its later parts."""

    def begin() -> tuple[str, Iterator[bytes]]:
        with transaction(context.engine) as session:
            row, _ = find_sae(session, sae)
            check_scorer(session, row.id, scorer)
        batches = feature_batches(context.engine, row.id, scorer)
        return f"features-{row.id}", begun(feature_schema(), batches, form)

    name, pieces = await context.lanes.exports.run(begin)
    return streamed(name, pieces, form, context.lanes.exports)


@router.get(
    "/activations.{form}",
    summary="Export sparse activations",
    response_class=StreamingResponse,
    responses={**_FILE, **documented(404, 409, 422)},
)
async def activations(
    context: ContextDep,
    sae: SaeReference,
    form: FileForm,
    features: Annotated[
        list[Annotated[int, Query(ge=0, lt=2**31)]] | None,
        Query(max_length=1000, description="Repeat it for several; leave it out for all."),
    ] = None,
) -> StreamingResponse:
    """One row per token on which a feature fires, by feature, then by position: the token's flat
    position in the text, its document, row, offset in the row, id, and the activation. Out of the
    index; values are exact to 2^-11 of themselves."""

    def begin() -> tuple[str, Iterator[bytes]]:
        with transaction(context.engine) as session:
            row, _ = find_sae(session, sae)
            index = open_index(Workspace(context.settings.artifacts), row)
        batches = activation_batches(index, chosen_features(index, features))
        return f"activations-{row.id}", begun(activation_schema(), batches, form)

    name, pieces = await context.lanes.exports.run(begin)
    return streamed(name, pieces, form, context.lanes.exports)
