"""A layout over the library of ``library_rows``, by the library's own functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from sqlalchemy import Engine, delete
from sqlalchemy.orm import Session

from monosemy.analysis.faithfulness import faithfulness, principal_plane
from monosemy.specs.rest.layouts import LayoutSummary
from service.database.layout_tables import SaeLayout
from service.database.session import transaction
from service.layouts.repository import replace_layout, which_fire
from tests.support.library_rows import Library

WEIGHTS = "0123456789abcdef"
"""Digest of the SAE that the layout is of."""


def add_layout(session: Session, library: Library) -> np.ndarray:
    """Of made-up decoder rows on a bent sheet, the silent features left out; [d_sae, 2]."""
    fires = which_fire(session, library.sae, library.features)
    rng = np.random.default_rng(0)
    flat = rng.uniform(-1, 1, (int(fires.sum()), 2)).astype(np.float32)
    rows = np.concatenate([flat, 1 + 0.2 * rng.normal(size=(len(flat), 6))], axis=1)
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2.0)
    places = np.full((library.features, 2), np.nan, np.float32)
    places[fires] = 20 * flat
    summary = LayoutSummary(
        method="tsne",
        parameters={"perplexity": 15.7, "exaggeration": 1.0, "iterations": 500, "seed": 0},
        features=len(flat),
        left_out=library.features - len(flat),
        faithfulness=faithfulness(
            unit, np.argsort(-cosines, axis=1)[:, :15], flat, principal_plane(unit)
        ),
        weights=WEIGHTS,
        versions={"openTSNE": "1.0.4"},
    )
    replace_layout(session, library.sae, None, summary, "0" * 16, places)
    return places


@contextmanager
def laid_out(engine: Engine, library: Library) -> Iterator[np.ndarray]:
    """The library has the layout meanwhile; its places."""
    with transaction(engine) as session:
        places = add_layout(session, library)
    yield places
    with transaction(engine) as session:
        remove_layout(session, library)


def remove_layout(session: Session, library: Library) -> None:
    session.execute(delete(SaeLayout).where(SaeLayout.sae_id == library.sae))
