"""Comparing two SAEs: similarities by decoder, tokens or explanations; partners; rows."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session
from torch import Tensor

from monosemy.analysis.matching import (
    EXACT_PAIRS,
    Compared,
    Floats,
    Ints,
    compare,
    cosine_blocks,
    match,
    rotated,
)
from monosemy.analysis.shared_tokens import TOKENS, jaccard_blocks, token_table
from monosemy.analysis.summary import summarise
from monosemy.errors import DataError
from monosemy.index.reader import IndexReader
from monosemy.progress import Stage
from monosemy.sae_folder import SaeFolder
from monosemy.sae_stamp import check_index
from monosemy.specs import CompareRun
from monosemy.workspace import Workspace
from service.comparisons.repository import best_embeddings
from service.database.comparison_tables import Comparison
from service.database.session import transaction
from service.database.storable import storable
from service.database.tables import Run, Sae
from workers.publish import copy_rows
from workers.reporter import RunReporter

SAMPLED = 2048
"""Features of the first SAE by which chance is estimated."""

Blocks = Iterable[tuple[int, Tensor]]


@dataclass(frozen=True)
class Sides:
    """What is alike, by whatever measure.  Rows are places in ``features_a`` and ``features_b``."""

    features_a: Ints
    features_b: Ints
    blocks: Callable[[], Blocks]
    """Similarities of all rows of the first side with all of the second."""
    null: Callable[[], Blocks] | None
    """Those of ``SAMPLED`` rows with a second side that has nothing to do with the first."""
    within: Callable[[], Blocks]
    """Those of as many rows with the first side itself."""


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
        n, m = len(sides.features_a), len(sides.features_b)
        dense = spec.method == "hungarian" and n * m <= EXACT_PAIRS
        with reporter.stage("compare", n, "features") as stage:
            found = compare(counted(sides.blocks(), stage), n, m, spec.neighbours, dense)
        partners = match(found, spec.method)
        values = _values_of(found, partners)
        null = None if sides.null is None else _best(sides.null())
        summary = {
            "greedy": spec.method == "hungarian" and not dense,
            **summarise(found, partners, values, null, _best(sides.within())),
        }
        rows = list(links(sides, found, partners, values))

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
                    summary=storable(summary),
                    created_by=owner,
                )
            )
            session.flush()
            columns = ["comparison_id", "feature_a", "feature_b", "value", "matched"]
            copy_rows(session, "feature_links", columns, ((run_id, *row) for row in rows))

        reporter.commit(write)
        return {"comparison_id": str(run_id), "links": len(rows), "summary": summary}

    # ------------------------------------------------------------------ by decoder
    def _decoders(self, a: Sae, b: Sae) -> Sides:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        folders = [
            SaeFolder(self.workspace.locate(sae.path), self.workspace, sae.provenance)
            for sae in (a, b)
        ]
        for folder in folders:
            folder.check()
        of_a, of_b = (folder.sae.W_dec.detach().to(device) for folder in folders)
        if of_a.shape[1] != of_b.shape[1]:
            raise DataError(
                f"'{a.name}' writes {of_a.shape[1]} dimensions and '{b.name}' {of_b.shape[1]}:"
                " their decoders cannot be compared.",
                "Compare them by tokens or by explanations.",
            )
        sample = of_a[_sample(len(of_a))]
        return Sides(
            np.arange(len(of_a)),
            np.arange(len(of_b)),
            lambda: cosine_blocks(of_a, of_b),
            lambda: cosine_blocks(sample, rotated(of_b)),
            lambda: _not_itself(cosine_blocks(sample, of_a), _sample(len(of_a))),
        )

    # ------------------------------------------------------------------ by tokens
    def _tokens(self, a: Sae, b: Sae) -> Sides:
        text_a, text_b = ((sae.index or {}).get("text_id") for sae in (a, b))
        if text_a is None or text_a != text_b:
            raise DataError(
                f"'{a.name}' and '{b.name}' are not indexed over one text.",
                "Index both over the same text: monosemy run submit --kind index --set sae=...",
            )
        of_a, of_b = (self._index_of(sae) for sae in (a, b))
        tokens = min(TOKENS, of_a.n_tokens, of_b.n_tokens)
        table, own = token_table(of_b, tokens), token_table(of_a, tokens)
        sample = _sample(of_a.n_features)
        some = _Some(of_a, sample)
        return Sides(
            np.arange(of_a.n_features),
            np.arange(of_b.n_features),
            lambda: jaccard_blocks(of_a, table, tokens),
            lambda: jaccard_blocks(some, table, tokens, shift=tokens // 2),
            lambda: _not_itself(jaccard_blocks(some, own, tokens), sample),
        )

    def _index_of(self, sae: Sae) -> IndexReader:
        index = self.workspace.locate((sae.index or {})["path"])
        folder = self.workspace.locate(sae.path)
        check_index(folder, index, sae.provenance.get("weights"), sae.name)
        return IndexReader(index)

    # ------------------------------------------------------------------ by explanations
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
        sample = _sample(len(of_a))
        texts_a, texts_b = torch.from_numpy(of_a), torch.from_numpy(of_b)
        return Sides(
            features_a,
            features_b,
            lambda: cosine_blocks(texts_a, texts_b),
            None,
            lambda: _not_itself(cosine_blocks(texts_a[sample], texts_a), sample),
        )


class _Some:
    """An index, as far as these features of it go."""

    def __init__(self, index: IndexReader, features: Ints) -> None:
        self._index, self._features = index, features
        self.n_features, self.n_tokens = len(features), index.n_tokens

    def postings(self, feature: int) -> Any:
        return self._index.postings(int(self._features[feature]))


def links(
    sides: Sides, found: Compared, partners: Ints, values: Floats
) -> Iterator[tuple[int, int, float, bool]]:
    """(feature of a, feature of b, value, partners) of each pair that is to be kept, once.

    Pairs that have nothing in common are left out, unless they are partners.
    """
    pairs: dict[tuple[int, int], float] = {}
    for row, (columns, similar) in enumerate(
        zip(found.forward.indices.tolist(), found.forward.values.tolist(), strict=True)
    ):
        pairs.update({(row, c): v for c, v in zip(columns, similar, strict=True) if v > 0})
    for column, (rows, similar) in enumerate(
        zip(found.backward.indices.tolist(), found.backward.values.tolist(), strict=True)
    ):
        pairs.update({(r, column): v for r, v in zip(rows, similar, strict=True) if v > 0})
    for row, column in enumerate(partners.tolist()):
        if column >= 0:
            pairs.setdefault((row, column), float(values[row]))
    for (row, column), value in sorted(pairs.items()):
        matched = bool(partners[row] == column)
        yield int(sides.features_a[row]), int(sides.features_b[column]), value, matched


def counted(blocks: Blocks, stage: Stage) -> Iterator[tuple[int, Tensor]]:
    for first, block in blocks:
        yield first, block
        stage.advance(len(block))


def _values_of(found: Compared, partners: Ints) -> Floats:
    """[n]: the similarity of each row to its partner, 0 where it has none."""
    values = np.zeros(len(partners), np.float32)
    for row in np.flatnonzero(partners >= 0):
        column = partners[row]
        if found.dense is not None:
            values[row] = found.dense[row, column]
            continue
        near = found.forward.indices[row] == column
        back = found.backward.indices[column] == row
        values[row] = (
            found.forward.values[row][near][0]
            if near.any()
            else found.backward.values[column][back][0]
        )
    return values


def _best(blocks: Blocks) -> Floats:
    """The largest of each row."""
    return np.concatenate([block.amax(dim=1).cpu().numpy() for _, block in blocks])


def _not_itself(blocks: Blocks, own: Ints) -> Iterator[tuple[int, Tensor]]:
    """Blocks in which row i's similarity to column ``own[i]``, itself, does not count."""
    for first, block in blocks:
        block = block.clone()
        rows = torch.arange(len(block), device=block.device)
        block[rows, torch.from_numpy(own[first : first + len(block)]).to(block.device)] = -1.0
        yield first, block


def _sample(n: int) -> Ints:
    return np.sort(np.random.default_rng(0).permutation(n)[:SAMPLED])
