"""How endpoints of inference run: in a place of their caller's, off the threads of all others."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from fastapi import Response
from pydantic import BaseModel

from service.edge.context import AppContext


async def answered(
    context: AppContext, key: uuid.UUID | None, work: Callable[[], BaseModel]
) -> Response:
    """The answer that ``work`` makes, once ``key`` has a place; 503 where there is none to be had.

    It is written as JSON in the same thread: a long one would hold the event loop up.
    """
    places = context.lanes.inference
    async with places.hold(key):
        text = await places.run(lambda: work().model_dump_json())
    return Response(text, media_type="application/json")
