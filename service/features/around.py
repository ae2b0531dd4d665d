"""The features before and after one: in a listing, or in a list."""

from __future__ import annotations

from sqlalchemy.orm import Session

from monosemy.specs.rest.features import FeaturePlace, FeaturesAround
from service.database.tables import Sae
from service.features.listing import FeatureFilter, indices_around
from service.lists.repository import entries_around
from service.lists.service import require_list


def features_around(
    session: Session, sae: Sae, index: int, wanted: FeatureFilter, listed: str | None
) -> FeaturesAround:
    """In the listing of ``sae`` by ``wanted``, or in the list ``listed``; the feature itself need
    not be there.  404 for a list that there is not."""
    if listed is not None:
        found = require_list(session, listed)
        places = [
            None if each is None else FeaturePlace(sae=each[0], feature=each[1])
            for each in entries_around(session, found.id, sae.id, index)
        ]
    elif wanted == FeatureFilter() and sae.index is not None:
        # Every latent of an indexed SAE is in this listing, by its number.
        near = (index - 1, index + 1)
        places = [
            FeaturePlace(sae=sae.name, feature=each) if 0 <= each < sae.d_sae else None
            for each in near
        ]
    else:
        places = [
            None if each is None else FeaturePlace(sae=sae.name, feature=each)
            for each in indices_around(session, wanted.of(session, sae.id), index)
        ]
    return FeaturesAround(previous=places[0], next=places[1])
