"""Comparisons of two SAEs: what is alike in them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from monosemy.client.library import SaeReference, sae_name
from monosemy.client.listing import listed
from monosemy.client.transport import Transport, segment
from monosemy.specs.rest.comparisons import ComparisonView, FeatureMatch, MatchSort
from monosemy.specs.rest.features import SortOrder

ComparisonReference = uuid.UUID | str | ComparisonView
"""Id of a comparison, which is that of its run, or `latest`; or one that was answered before."""


class Comparisons:
    """``client.comparisons``; every method raises ``ApiError``.  A run of kind ``compare`` makes
    one."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def list(
        self, *, sae: SaeReference | None = None, limit: int | None = None
    ) -> Iterator[ComparisonView]:
        """Newest first; ``sae``: those that it is a side of."""
        asked = None if sae is None else sae_name(sae)
        return listed(self._http, ComparisonView, "/comparisons", limit, sae=asked)

    def get(self, comparison: ComparisonReference) -> ComparisonView:
        return self._http.call(ComparisonView, "GET", _path(comparison))

    def matches(
        self,
        comparison: ComparisonReference,
        *,
        matched: bool | None = True,
        min_value: float | None = None,
        sort: MatchSort = "value",
        order: SortOrder | None = None,
        limit: int | None = None,
    ) -> Iterator[FeatureMatch]:
        """Pairs of features, by default the most alike first; ``matched`` False: near ones that
        are no partners."""
        asked = {"matched": matched, "min_value": min_value, "sort": sort, "order": order}
        return listed(self._http, FeatureMatch, f"{_path(comparison)}/matches", limit, **asked)

    def delete(self, comparison: ComparisonReference) -> None:
        """With its links; the SAEs stay."""
        self._http.delete(_path(comparison))


def _path(comparison: ComparisonReference) -> str:
    identity = comparison.id if isinstance(comparison, ComparisonView) else comparison
    return f"/comparisons/{segment(identity)}"
