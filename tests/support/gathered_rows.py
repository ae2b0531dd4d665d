"""Lists and tags over the library of ``library_rows``."""

from __future__ import annotations

import uuid

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.database.list_tables import FeatureList, FeatureTag, ListEntry
from service.database.tables import Sae
from tests.support.library_rows import Library


def add_list(
    session: Session, library: Library, name: str, features: range | list[int], note: str = ""
) -> uuid.UUID:
    """Made in open mode; the first entry has the note."""
    made = FeatureList(name=name, description=f"about {name}", owner="local")
    session.add(made)
    session.flush()
    for position, feature in enumerate(features):
        session.add(
            ListEntry(
                list_id=made.id,
                sae_id=library.sae,
                feature=feature,
                note=note if position == 0 else "",
                position=position,
            )
        )
    session.flush()
    return made.id


def add_tag(session: Session, library: Library, tag: str, *features: int) -> None:
    session.add_all(
        FeatureTag(sae_id=library.sae, feature=feature, tag=tag) for feature in features
    )
    session.flush()


def add_to_set(session: Session, sae: str, name: str) -> None:
    """Puts an SAE into a set of two."""
    row = session.scalars(select(Sae).where(Sae.name == sae)).one()
    row.config = {**row.config, "set": {"name": name, "place": 0, "size": 2}}
    session.flush()


def add_beside(
    session: Session, sae: str, name: str = "beside", site: str = "blocks.2.hook_resid_post"
) -> Sae:
    """Another SAE of the host model of ``sae``, at another site, without features."""
    row = session.scalars(select(Sae).where(Sae.name == sae)).one()
    copied = ("model_id", "architecture", "d_in", "d_sae", "config", "metrics", "provenance")
    values = {each: getattr(row, each) for each in copied}
    made = Sae(name=name, site=site, path=f"saes/{name}", **values)
    session.add(made)
    session.flush()
    return made
