"""A stored graph as a file that others read."""

from __future__ import annotations

import json
import re
from typing import Literal

from sqlalchemy.orm import Session

from monosemy.interchange.attribution_graph import export_graph
from service.database.graph_tables import StoredGraph
from service.graphs.loaded import LoadedGraph
from service.graphs.service import labels
from service.graphs.storing import details_of

Form = Literal["attribution-graph", "npz"]

MEDIA_TYPES: dict[str, str] = {
    "attribution-graph": "application/json",
    "npz": "application/zip",
}


def file_of(
    session: Session, row: StoredGraph, loaded: LoadedGraph, form: Form
) -> tuple[str, bytes]:
    """(name, content) of the file, of a row with its details and graph."""
    slug = re.sub(r"[^a-z0-9]+", "-", row.name.lower()).strip("-") or "graph"
    if form == "npz":
        return f"{slug}.npz", row.graph
    document = export_graph(
        loaded.graph,
        slug,
        row.model,
        row.prompt,
        labels(session, row, loaded),
        details_of(row).marks,
    )
    return f"{slug}.json", json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
