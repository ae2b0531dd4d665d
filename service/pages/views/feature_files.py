"""/saes/{sae}/features/{index}.html and its like: pages to be kept, in one file."""

from __future__ import annotations

from fastapi import Request, Response

from service.edge.context import ContextDep
from service.features.endpoints import Index
from service.features.filters import FilterDep
from service.lists.endpoints import ListReference
from service.pages.feature.endpoints import feature_page_file, list_page_file, sae_page_file
from service.pages.page import PageRouter
from service.saes.endpoints import SaeReference

router = PageRouter()

_TEMPLATE = "feature_file.html"


@router.page("/saes/{sae}/features/{index}.html", _TEMPLATE)
async def feature_html(
    request: Request, context: ContextDep, sae: SaeReference, index: Index
) -> Response:
    return await feature_page_file(request, context, sae, index)


@router.page("/saes/{sae}.html", _TEMPLATE)
async def sae_html(
    request: Request, context: ContextDep, sae: SaeReference, wanted: FilterDep
) -> Response:
    return await sae_page_file(request, context, sae, wanted)


@router.page("/lists/{list}.html", _TEMPLATE)
async def list_html(request: Request, context: ContextDep, reference: ListReference) -> Response:
    return await list_page_file(request, context, reference)
