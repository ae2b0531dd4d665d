"""Comparing two SAEs of the database: what is alike is looked up, and the links become rows."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from monosemy.analysis.comparison import (
    Sides,
    by_decoder,
    by_explanations,
    by_tokens,
    compare_sides,
)
from monosemy.errors import DataError
from monosemy.index.reader import IndexReader
from monosemy.specs import CompareRun
from monosemy.workspace import Workspace
from service.database.comparison_tables import Comparison
from service.database.session import transaction
from service.database.storable import storable
from service.database.tables import Run, Sae
from service.explanations.repository import best_embeddings
from workers.folders import folder_of
from workers.publish import copy_rows
from workers.reporter import RunReporter
from workers.saes import checked_index


class Comparing:
    """Executes compare runs."""

    def __init__(self, engine: Engine, workspace: Workspace) -> None:
        self.engine, self.workspace = engine, workspace

    def __call__(
        self, run_id: uuid.UUID, spec: CompareRun, a: Sae, b: Sae, reporter: RunReporter
    ) -> dict[str, Any]:
        sides = {"decoder": self._decoders, "tokens": self._tokens, "explanations": self._texts}[
            spec.by
        ](a, b)
        comparison = compare_sides(sides, spec, reporter)

        def write(session: Session) -> None:
            owner = session.scalar(select(Run.created_by).where(Run.id == run_id))
            old = delete(Comparison).where(
                Comparison.sae_a == a.id,
                Comparison.sae_b == b.id,
                Comparison.by == spec.by,
                Comparison.method == spec.method,
                Comparison.created_by.is_not_distinct_from(owner),
            )
            session.execute(old)
            session.add(
                Comparison(
                    id=run_id,
                    sae_a=a.id,
                    sae_b=b.id,
                    by=spec.by,
                    method=spec.method,
                    summary=storable(comparison.summary),
                    created_by=owner,
                )
            )
            session.flush()
            columns = ["comparison_id", "feature_a", "feature_b", "value", "matched"]
            copy_rows(
                session, "feature_links", columns, ((run_id, *row) for row in comparison.links)
            )

        reporter.commit(write)
        return {
            "comparison_id": str(run_id),
            "links": len(comparison.links),
            "summary": comparison.summary,
        }

    def _decoders(self, a: Sae, b: Sae) -> Sides:
        folders = [folder_of(self.workspace, sae) for sae in (a, b)]
        for folder in folders:
            folder.check()
        of_a, of_b = (folder.sae.decoder_rows(slice(None)) for folder in folders)
        return by_decoder(of_a, of_b, (a.name, b.name))

    def _tokens(self, a: Sae, b: Sae) -> Sides:
        text_a, text_b = ((sae.index or {}).get("text_id") for sae in (a, b))
        if text_a is None or text_a != text_b:
            raise DataError(
                f"'{a.name}' and '{b.name}' are not indexed over one text.",
                "Index both over the same text: monosemy run submit --kind index --set sae=...",
            )
        return by_tokens(self._index_of(a), self._index_of(b))

    def _index_of(self, sae: Sae) -> IndexReader:
        return IndexReader(checked_index(self.workspace, sae))

    def _texts(self, a: Sae, b: Sae) -> Sides:
        with transaction(self.engine) as session:
            (features_a, of_a), (features_b, of_b) = (
                best_embeddings(session, sae.id) for sae in (a, b)
            )
        for sae, features in ((a, features_a), (b, features_b)):
            if not len(features):
                raise DataError(
                    f"No explanation of '{sae.name}' has been embedded.",
                    "Explain its features first: monosemy explain ...",
                )
        return by_explanations(features_a, of_a, features_b, of_b)
