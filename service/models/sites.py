"""Sites held against those of a host model that is known here."""

from __future__ import annotations

from sqlalchemy.orm import Session

from monosemy.errors import UnknownSite
from monosemy.models.sites import parse_site, what_exists
from service.database.tables import Model
from service.kit.errors import InvalidRequest
from service.kit.pagination import MAX_LIMIT
from service.models.repository import find_model, list_models

_SHOWN = 3
"""Host models whose sites are told."""


def site_fault(model: Model, site: str) -> str | None:
    """Why ``model`` has no such site, with those it has; None where it has it, or nobody knows."""
    there = model.info.get("sites")
    if not isinstance(there, list) or not there or site in there:
        return None
    kinds: dict[int, list[str]] = {}
    for layer, kind in map(_parsed, there):
        kinds.setdefault(layer, []).append(kind)
    return f"{model.name} has no site '{site}'. {what_exists(kinds)}"


def check_filter(session: Session, model: str | None, site: str | None) -> None:
    """404 for a host model that is not known here; 422 for what is no site, and for a site that
    none of those asked for has."""
    models = list_models(session, None, MAX_LIMIT) if model is None else []
    asked = [each for each, _ in models] if model is None else [find_model(session, model)]
    if site is None:
        return
    try:
        parse_site(site)
    except UnknownSite as error:
        raise InvalidRequest([("site", str(error))]) from None
    faults = [site_fault(each, site) for each in asked]
    if asked and None not in faults:
        raise InvalidRequest([("site", " ".join(str(each) for each in faults[:_SHOWN]))])


def _parsed(site: str) -> tuple[int, str]:
    try:
        return parse_site(site)
    except UnknownSite:  # of a version that knew another kind
        return -1, site
