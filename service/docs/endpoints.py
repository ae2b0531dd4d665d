"""GET /docs and /openapi.json"""

from __future__ import annotations

import json
import math

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import State

from service.concurrency.shared import Shared
from service.docs.page import render
from service.edge.routing import Router
from service.keys.authorize import ForAnybody

router = Router(include_in_schema=False, dependencies=[ForAnybody])

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    document, _ = await _pages(request)
    return Response(document, media_type="application/json")


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    _, page = await _pages(request)
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})


async def _pages(request: Request) -> tuple[bytes, bytes]:
    """The document as JSON and as a page: made once, for all who ask."""
    state: State = request.app.state
    if not hasattr(state, "docs_pages"):
        url = str(request.url_for("openapi").path)

        async def make() -> tuple[bytes, bytes]:
            return await run_in_threadpool(_made, request.app, url)

        state.docs_pages = Shared(make, math.inf)
    shared: Shared[tuple[bytes, bytes]] = state.docs_pages
    return await shared.get()


def _made(app: FastAPI, url: str) -> tuple[bytes, bytes]:
    document = app.openapi()
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return text.encode(), render(document, url).encode()
