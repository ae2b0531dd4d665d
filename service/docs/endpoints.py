"""GET /docs and /openapi.json"""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse

from service.docs.page import render
from service.keys.authorize import ForAnybody
from service.routing import Router

router = Router(include_in_schema=False, dependencies=[ForAnybody])

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


@router.get("/openapi.json")
def openapi(request: Request) -> JSONResponse:
    document: dict[str, Any] = request.app.openapi()
    return JSONResponse(document)


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    url = str(request.url_for("openapi").path)
    page = render(request.app.openapi(), url)
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})
