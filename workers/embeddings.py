"""Embeddings of explanations, from the inference server when it is there."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence

from sqlalchemy import Engine

from monosemy.progress import Reporter
from service.database.session import transaction
from service.database.tables import EMBEDDING_DIMENSIONS
from service.inference.client import InferenceAway, InferenceClient, InferenceRefused
from workers import interp_rows as rows

logger = logging.getLogger(__name__)

_BATCH = 64


class Embeddings:
    """An explanation without one is found by its words only, until ``fill`` has passed."""

    def __init__(self, engine: Engine, inference: InferenceClient) -> None:
        self._engine, self._inference = engine, inference

    def fill(self, sae_id: uuid.UUID, reporter: Reporter) -> int:
        """Embeds what explanations of this SAE lack one, as far as the server is there."""
        filled, last = 0, None
        while self._inference.url is not None:
            reporter.check()
            with transaction(self._engine) as session:
                batch = rows.without_embedding(session, sae_id, last, _BATCH)
            if not batch:
                break
            last = batch[-1][0]
            found = self._embed([text for _, text in batch])
            if found is None:
                break
            with transaction(self._engine) as session:
                for (explanation, _), embedding in zip(batch, found, strict=True):
                    rows.set_embedding(session, explanation, embedding)
                    filled += 1
        if filled:
            reporter.log("explanations embedded", count=filled)
        return filled

    def _embed(self, texts: Sequence[str]) -> list[list[float]] | None:
        """None while the server is away, or of no use."""
        try:
            found = self._inference.embed(texts)
        except (InferenceAway, InferenceRefused) as error:
            logger.warning("explanations not embedded: %s", error)
            return None
        if any(len(vector) != EMBEDDING_DIMENSIONS for vector in found):
            logger.warning(
                "explanations not embedded: search needs %d dimensions, the embedder gives %d",
                EMBEDDING_DIMENSIONS,
                len(found[0]),
            )
            return None
        return found
