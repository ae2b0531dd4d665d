"""The SAE that a run's spec names."""

from __future__ import annotations

from sqlalchemy import Engine

from service.database.session import transaction
from service.database.tables import Sae
from service.saes.repository import find_sae


def named_sae(engine: Engine, reference: str) -> Sae:
    """By id or unique name; ``NotFound`` if it is not there (any more)."""
    with transaction(engine) as session:
        return find_sae(session, reference)[0]
