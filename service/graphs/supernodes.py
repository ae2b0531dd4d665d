"""Supernodes proposed for a stored graph, with the embeddings of what its features are called."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from monosemy.graphs.graph import NodeKind
from monosemy.graphs.supernodes import propose_supernodes
from monosemy.specs.rest.supernodes import ProposedSupernodes
from service.database.graph_tables import StoredGraph
from service.explanations.repository import best_embeddings
from service.graphs.loaded import LoadedGraph
from service.graphs.service import labels, served


def proposed(
    session: Session, row: StoredGraph, loaded: LoadedGraph, features: int
) -> ProposedSupernodes:
    """Of the ``features`` of most influence."""
    return propose_supernodes(
        loaded.graph,
        features,
        labels(session, row, loaded),
        _embeddings(session, row, loaded),
        loaded.flow,
    )


def _embeddings(
    session: Session, row: StoredGraph, loaded: LoadedGraph
) -> dict[int, npt.NDArray[np.float32]]:
    """By node, of features whose SAE is served and whose explanation was embedded."""
    columns = loaded.graph.nodes
    feature = columns.kind == NodeKind.feature
    of_node: dict[int, npt.NDArray[np.float32]] = {}
    for coder, sae in enumerate(served(session, row)):
        own = np.flatnonzero(feature & (columns.coder == coder))
        if sae is None or not len(own):
            continue
        latents = columns.number[own].tolist()
        known, vectors = best_embeddings(session, sae.id, sorted({*latents}))
        by_latent = dict(zip(known.tolist(), vectors, strict=True))
        pairs = zip(own.tolist(), latents, strict=True)
        of_node |= {node: by_latent[latent] for node, latent in pairs if latent in by_latent}
    return of_node
