"""Two SAEs compared, over the library of ``library_rows``, by the library's own function."""

from __future__ import annotations

import uuid

import torch
from sqlalchemy.orm import Session

from monosemy.analysis.comparison import by_decoder, compare_sides
from monosemy.specs import CompareRun
from service.database.comparison_tables import Comparison, FeatureLink
from service.database.tables import Sae
from tests.support.library_rows import Library

COMPARISON = uuid.UUID(int=7)
COPIES = 6
"""So many features of the second SAE are those of the first, with some noise, in their order."""


def add_comparison(session: Session, library: Library, other: str) -> None:
    """Of the library's SAE with the one named ``other``, by made-up decoder rows."""
    a = session.get_one(Sae, library.sae)
    b = session.query(Sae).filter_by(name=other).one()
    random = torch.Generator().manual_seed(0)
    rows_a = torch.randn(a.d_sae, 32, generator=random)
    rows_b = torch.randn(b.d_sae, 32, generator=random)
    rows_b[:COPIES] = rows_a[:COPIES] + 0.2 * torch.randn(COPIES, 32, generator=random)
    spec = CompareRun(sae=a.name, other=b.name, by="decoder")
    found = compare_sides(by_decoder(rows_a, rows_b, (a.name, b.name)), spec)
    made = Comparison(
        id=COMPARISON,
        sae_a=a.id,
        sae_b=b.id,
        by="decoder",
        method="mutual",
        summary=found.summary,
    )
    session.add(made)
    session.flush()
    session.add_all(
        FeatureLink(comparison_id=made.id, feature_a=i, feature_b=j, value=value, matched=matched)
        for i, j, value, matched in found.links
    )
    session.flush()
