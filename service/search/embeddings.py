"""Embeddings of explanations, from the inference server when it is there."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence

from sqlalchemy import Engine, select, tuple_, update
from sqlalchemy.orm import Session

from monosemy.progress import Reporter
from service.database.session import transaction
from service.database.tables import Explanation
from service.explanations.repository import text_to_embed
from service.inference.client import InferenceAway, InferenceClient, InferenceRefused

logger = logging.getLogger(__name__)

_BATCH = 64

Key = tuple[uuid.UUID, uuid.UUID]
"""An explanation's SAE and id."""


class Embeddings:
    """An explanation without one is found by its words only, until ``fill`` has passed."""

    def __init__(self, engine: Engine, inference: InferenceClient, width: int) -> None:
        """``width``: how many numbers the database's embeddings have."""
        self._engine, self._inference, self._width = engine, inference, width

    def fill(self, sae_id: uuid.UUID | None, reporter: Reporter) -> int:
        """Embeds what explanations of this SAE (None: of all) lack one, as far as the server is
        there.  Returns how many."""
        filled, last = 0, None
        while self._inference.url is not None:
            reporter.check()
            with transaction(self._engine) as session:
                batch = _without_embedding(session, sae_id, last, _BATCH)
            if not batch:
                break
            last = batch[-1][0]
            embeddings = self._embed([text for _, text in batch])
            if embeddings is None:
                break
            with transaction(self._engine) as session:
                for (key, _), embedding in zip(batch, embeddings, strict=True):
                    _set_embedding(session, key, embedding)
                    filled += 1
        if filled:
            reporter.log("explanations embedded", count=filled)
        return filled

    def _embed(self, texts: Sequence[str]) -> list[list[float]] | None:
        """None while the server is away, or of no use."""
        try:
            vectors = self._inference.embed(texts)
        except (InferenceAway, InferenceRefused) as error:
            logger.warning("explanations not embedded: %s", error)
            return None
        if any(len(vector) != self._width for vector in vectors):
            logger.warning(
                "explanations not embedded: MONOSEMY_EMBEDDING_WIDTH is %d, the embedder gives %d",
                self._width,
                len(vectors[0]),
            )
            return None
        return vectors


def _without_embedding(
    session: Session, sae_id: uuid.UUID | None, after: Key | None, limit: int
) -> list[tuple[Key, str]]:
    """(key, text to embed) of the next explanations by key that no vector search finds yet."""
    key = tuple_(Explanation.sae_id, Explanation.id)
    query = (
        select(Explanation.sae_id, Explanation.id, Explanation.label, Explanation.text)
        .where(Explanation.embedding.is_(None))
        .order_by(Explanation.sae_id, Explanation.id)
        .limit(limit)
    )
    if sae_id is not None:
        query = query.where(Explanation.sae_id == sae_id)
    if after is not None:
        query = query.where(key > after)
    rows = session.execute(query).tuples()
    return [((sae, id_), text_to_embed(label, text)) for sae, id_, label, text in rows]


def _set_embedding(session: Session, key: Key, embedding: Sequence[float]) -> None:
    session.execute(
        update(Explanation)
        .where(Explanation.sae_id == key[0], Explanation.id == key[1])
        .values(embedding=embedding)
    )
