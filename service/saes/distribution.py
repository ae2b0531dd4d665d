"""How often the features of an SAE fire, and how strongly: counted by the database."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import ARRAY, Float, func, literal, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from monosemy.specs.rest.saes import Distribution, Histogram
from service.database.tables import Feature, Sae
from service.saes.repository import index_of

_PER_DECADE = 4
_PER_DECADE_OF_MAXIMUM = 8


def distribution(session: Session, sae: Sae) -> Distribution:
    """``Conflict`` where the SAE is not indexed."""
    index = index_of(sae)
    fires = Feature.density > 0
    query = select(
        func.count(),
        func.count().filter(~fires),
        func.min(Feature.density).filter(fires),
        func.max(Feature.density),
        func.min(Feature.max_activation).filter(fires, Feature.max_activation > 0),
        func.max(Feature.max_activation),
    ).where(Feature.sae_id == sae.id)
    features, silent, rarest, densest, weakest, strongest = session.execute(query).one()
    return Distribution(
        tokens=index.get("tokens"),
        features=features,
        silent=silent,
        density=_histogram(session, sae, Feature.density, log_edges(rarest, densest, _PER_DECADE)),
        maximum=_histogram(
            session,
            sae,
            Feature.max_activation,
            log_edges(weakest, strongest, _PER_DECADE_OF_MAXIMUM),
        ),
    )


def log_edges(low: float | None, high: float | None, per_decade: int) -> list[float]:
    """Borders of bins that hold everything from ``low`` to ``high``, so many to a decade, in four
    digits; none without positive values.

    Decades are met by the middles of bins: shares are often round, and so are not borders, which
    the filters of features count to both sides."""
    if low is None or high is None or low <= 0:
        return []
    first = math.floor(math.log10(low) * per_decade - 0.5)
    while _edge(first, per_decade) > low:
        first -= 1
    edges = [_edge(first, per_decade)]
    while edges[-1] <= high:
        edges.append(_edge(first + len(edges), per_decade))
    return edges


def _edge(place: int, per_decade: int) -> float:
    return float(f"{10 ** ((place + 0.5) / per_decade):.4g}")


def _histogram(
    session: Session, sae: Sae, column: InstrumentedAttribute[float], edges: list[float]
) -> Histogram:
    if not edges:
        return Histogram(edges=[], counts=[])
    borders: Any = literal(edges, ARRAY(Float(53)))
    place = func.width_bucket(column, borders)
    query = select(place, func.count()).where(Feature.sae_id == sae.id, column > 0).group_by(place)
    found = {row[0]: row[1] for row in session.execute(query)}
    return Histogram(edges=edges, counts=[found.get(i, 0) for i in range(1, len(edges))])
