"""Lists of features, and tags."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from monosemy.arguments import refused, several, texts
from monosemy.client.library import SaeReference, feature_path, sae_name
from monosemy.client.listing import MAX_PAGE, listed
from monosemy.client.transport import Transport, segment
from monosemy.specs import parse_part
from monosemy.specs.rest.lists import (
    EntriesChanged,
    EntryView,
    ExportFormat,
    ListChange,
    ListDetail,
    ListSummary,
    Move,
    NewEntries,
    NewList,
    Removal,
)
from monosemy.specs.rest.tags import NewTags, TagCount, TagsOfFeature

ListReference = uuid.UUID | str | ListSummary
"""Id or unique name of a list, or one that was answered before."""

Feature = tuple[SaeReference, int] | Mapping[str, object]
"""An SAE and the index of a feature; or an entry as REST takes it, which may have a ``note``."""


class Lists:
    """``client.lists``; every method raises ``ApiError``."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def list(
        self,
        *,
        owner: str | None = None,
        sae: str | None = None,
        feature: int | None = None,
        limit: int | None = None,
    ) -> Iterator[ListSummary]:
        """Newest first; with ``feature`` those that have this feature of ``sae``."""
        asked = {"owner": owner, "sae": sae, "feature": feature}
        return listed(self._http, ListSummary, "/lists", limit, **asked)

    def create(self, name: str, description: str = "") -> ListSummary:
        body = parse_part(NewList, {"name": name, "description": description})
        return self._http.call(ListSummary, "POST", "/lists", body)

    def get(self, reference: ListReference) -> ListDetail:
        """With the first page of its entries."""
        return self._http.call(ListDetail, "GET", _path(reference), limit=MAX_PAGE)

    def entries(self, reference: ListReference) -> Iterator[EntryView]:
        """All of them, in their order."""
        cursor: str | None = None
        while True:
            page = self._http.call(
                ListDetail, "GET", _path(reference), limit=MAX_PAGE, cursor=cursor
            ).entries
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def change(
        self,
        reference: ListReference,
        *,
        name: str | None = None,
        description: str | None = None,
        revision: int | None = None,
    ) -> ListSummary:
        """Omitted fields keep their values; with ``revision`` only if it has not changed since."""
        given = {"name": name, "description": description, "revision": revision}
        body = {key: value for key, value in given.items() if value is not None}
        parse_part(ListChange, body)
        return self._http.call(ListSummary, "PATCH", _path(reference), body)

    def delete(self, reference: ListReference) -> None:
        """With its entries; the features stay."""
        self._http.delete(_path(reference))

    def add(self, reference: ListReference, features: Sequence[Feature]) -> EntriesChanged:
        """At its end; those that are there already keep their place."""
        body = parse_part(NewEntries, {"entries": _entries(features)})
        path = f"{_path(reference)}/entries"
        return self._http.call(EntriesChanged, "POST", path, body, repeatable=True)

    def remove(self, reference: ListReference, features: Sequence[Feature]) -> EntriesChanged:
        """Those that are not there are passed over."""
        body = parse_part(Removal, {"entries": _entries(features)})
        path = f"{_path(reference)}/entries/remove"
        return self._http.call(EntriesChanged, "POST", path, body, repeatable=True)

    def move(
        self, reference: ListReference, features: Sequence[Feature], to: int
    ) -> EntriesChanged:
        """Puts them together, in this order, behind the first ``to`` of the other entries."""
        body = parse_part(Move, {"entries": _entries(features), "to": to})
        path = f"{_path(reference)}/entries/move"
        return self._http.call(EntriesChanged, "POST", path, body, repeatable=True)

    def export(self, reference: ListReference, to: str | Path, format: ExportFormat = "csv") -> int:
        """Writes every entry to a file; gives its size."""
        return self._http.download(f"{_path(reference)}/export", Path(to), format=format)


class Tags:
    """``client.tags``; every method raises ``ApiError``."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def list(
        self,
        *,
        sae: SaeReference | None = None,
        prefix: str | None = None,
        limit: int | None = None,
    ) -> Iterator[TagCount]:
        """Those in use, in alphabetical order, with how many features carry each."""
        asked = {"sae": None if sae is None else sae_name(sae), "prefix": prefix}
        return listed(self._http, TagCount, "/tags", limit, **asked)

    def of(self, sae: SaeReference, index: int) -> Sequence[str]:
        """A feature's tags."""
        return self._http.call(TagsOfFeature, "GET", f"{feature_path(sae, index)}/tags").items

    def add(self, sae: SaeReference, index: int, tags: Sequence[str]) -> Sequence[str]:
        """Those that the feature has already stay; gives all that it has then."""
        body = parse_part(NewTags, {"tags": texts("tags", tags, "a list of tags")})
        path = f"{feature_path(sae, index)}/tags"
        return self._http.call(TagsOfFeature, "POST", path, body, repeatable=True).items

    def remove(self, sae: SaeReference, index: int, tag: str) -> None:
        self._http.delete(f"{feature_path(sae, index)}/tags/{segment(tag)}")


def _entries(features: Sequence[Feature]) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    takes = "pairs (SAE, index), or mappings with sae and feature"
    for each in several("features", features, takes):
        if isinstance(each, Mapping):
            entries.append(dict(each))
        elif isinstance(each, tuple | list) and len(each) == 2:
            entries.append({"sae": sae_name(each[0]), "feature": each[1]})
        else:
            raise refused("features", takes, each)
    return entries


def _path(reference: ListReference) -> str:
    name = reference.id if isinstance(reference, ListSummary) else reference
    return f"/lists/{segment(name)}"
