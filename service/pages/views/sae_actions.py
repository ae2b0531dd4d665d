"""The form that deletes an SAE."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

from fastapi import Form, Request
from starlette.responses import Response

from service.edge.context import ContextDep, SessionDep
from service.keys.authorize import CanAdminister
from service.pages.page import PageRouter, go_to
from service.pages.render import rendered
from service.pages.views.uploads import deletion_of
from service.saes import endpoints as rest
from service.saes.endpoints import SaeReference

router = PageRouter(CanAdminister)


@router.page("/saes/{sae}/delete", "sae_delete.html", method="POST")
def delete(
    session: SessionDep,
    context: ContextDep,
    request: Request,
    sae: SaeReference,
    name: Annotated[str, Form(max_length=400)] = "",
) -> Response:
    """Only with its name written out."""
    shown = deletion_of(session, context, sae)
    if name.strip() != shown.sae.name:
        shown = deletion_of(session, context, sae, wrong=name)
        values = {each.name: getattr(shown, each.name) for each in fields(shown)}
        return rendered(request, "sae_delete.html", values, status=422)
    rest.remove(session, str(shown.sae.id))
    return go_to(request, "/saes")
