"""A text's embedding for vector search, or why there is none."""

from __future__ import annotations

import logging
import math
import uuid
from functools import partial

from service.edge.context import AppContext
from service.inference.client import InferenceAway, InferenceRefused
from service.kit.errors import Busy

BUSY = "The embedder is busy with other searches; this answer goes by words alone."

logger = logging.getLogger(__name__)


def embed_text(context: AppContext, text: str) -> tuple[list[float] | None, str | None]:
    """(unit vector, None), or (None, the reason); never raises for a server that is away."""
    try:
        (embedding,) = context.inference.embed([text])
    except (InferenceAway, InferenceRefused) as error:
        logger.warning("no embedding: %s", error)
        return None, str(error)
    width = context.settings.embedding_width
    if len(embedding) != width or not all(map(math.isfinite, embedding)):
        return None, (
            f"The embedder gave {len(embedding)} numbers; the database holds vectors of {width}."
        )
    return embedding, None


async def embed_in_turn(
    context: AppContext, key: uuid.UUID | None, text: str
) -> tuple[list[float] | None, str | None]:
    """As ``embed_text``, in a place of ``key``'s; where none is to be had that is the reason."""
    places = context.lanes.embedding
    try:
        async with places.hold(key):
            return await places.run(partial(embed_text, context, text))
    except Busy:
        return None, BUSY
