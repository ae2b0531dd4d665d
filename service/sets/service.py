"""Sets as the API shows them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from monosemy.errors import UnknownSite
from monosemy.models.sites import Site, parse_site
from monosemy.specs.rest.sets import SetEvaluation, SetSummary, SetTable, SetView
from service.database.tables import Sae
from service.kit.errors import Listing, NotFound
from service.saes.views import model_brief, sae_hooks, sae_summary
from service.sets.repository import Member, evaluation_of, members


def table(session: Session, model: str | None) -> SetTable:
    """All sets, newest first."""
    sets = members(session, model)
    return SetTable(items=[SetSummary(**_facts(name, rows)) for name, rows in sets.items()])


def view(session: Session, name: str) -> SetView:
    """``NotFound`` where there is no such set."""
    rows = _members(session, name)
    return SetView(
        **_facts(name, rows),
        saes=[sae_summary(row.sae, row.host) for row in rows],
        evaluation=_evaluation(session, [row.sae.id for row in rows]),
    )


def saes_of_set(session: Session, name: str) -> list[Sae]:
    """In the order of their layers; ``NotFound`` where there is no such set."""
    return [row.sae for row in _members(session, name)]


def _evaluation(session: Session, saes: Sequence[uuid.UUID]) -> SetEvaluation | None:
    run = evaluation_of(session, saes)
    metrics = None if run is None else (run.result or {}).get("metrics")
    if run is None or run.finished_at is None or not isinstance(metrics, dict):
        return None
    return SetEvaluation(run_id=run.id, finished_at=run.finished_at, metrics=metrics)


def _members(session: Session, name: str) -> list[Member]:
    rows = members(session, name=name).get(name)
    if rows is None:
        raise NotFound("set", name, Listing.SETS)
    return rows


def _facts(name: str, rows: Sequence[Member]) -> dict[str, Any]:
    first, host = rows[0].place, rows[0].host
    hooks = [sae_hooks(row.sae) for row in rows]
    places = [_parsed(each.reads[0].site) for each in hooks]
    layers = [place.layer for place in places if place is not None]
    kinds = {row.sae.architecture for row in rows}
    depth = host.info.get("n_layers")
    return {
        "name": name,
        "model": model_brief(host),
        "reads": _pattern([each.reads[0].site for each in hooks]),
        "writes": _pattern([each.writes[0].site for each in hooks]),
        "layers": layers,
        "complete": len(rows) == first.size and (depth is None or layers == list(range(depth))),
        "architecture": kinds.pop() if len(kinds) == 1 else "mixed",
        "d_sae": max(row.sae.d_sae for row in rows),
        "created_at": max(row.sae.created_at for row in rows),
    }


def _pattern(sites: Sequence[str]) -> str:
    """The site with ``*`` for its layer where all are of one kind, else the first."""
    kinds = {None if place is None else place.kind for place in map(_parsed, sites)}
    kind = kinds.pop() if len(kinds) == 1 else None
    return sites[0] if kind is None else f"blocks.*.{kind}"


def _parsed(site: str) -> Site | None:
    try:
        return parse_site(site)
    except UnknownSite:  # of a version that knew another kind
        return None
