"""The one pass over the text: activations -> codes -> postings and counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from monosemy.data.splits import explanation_split
from monosemy.errors import DataError
from monosemy.index.examples import Ints
from monosemy.index.neighbours import COACTIVATION_TOKENS, Coactivation
from monosemy.index.postings import PostingSorter
from monosemy.index.token_evidence import TextContext, TextCounts
from monosemy.models.columns import Columns
from monosemy.progress import Reporter

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore
    from monosemy.models.activations import ActivationSource
    from monosemy.saes.base import SAE

PREACTIVATION_BYTES = 64 * 2**20
"""Bounds tokens per batch: the encoder's product is [tokens, d_sae] float32."""

EXPLANATION_TRAIN = 0


@dataclass
class PassCounts:
    """What the pass saw, besides the postings themselves."""

    text: TextCounts
    """Over the documents of explanation split 0."""
    kept: int = 0
    outliers: int = 0
    dropped_codes: int = 0
    """Codes that were not finite."""


def spread_rows(row_start: Ints, max_tokens: int | None) -> Ints:
    """All rows, or evenly spread ones that together hold at most ``max_tokens`` tokens."""
    n_rows = len(row_start) - 1
    if max_tokens is None or max_tokens >= row_start[-1]:
        return np.arange(n_rows)
    share = max_tokens / float(row_start[-1])
    count = max(1, int(n_rows * share))
    rows = np.arange(count) * n_rows // count
    fitting = np.cumsum(np.diff(row_start)[rows]) <= max_tokens
    # Dropping the last few would bare the end of the text; drop evenly until it fits.
    while not fitting[-1] and count > 1:
        count -= max(1, int((~fitting).sum()))
        count = max(count, 1)
        rows = np.arange(count) * n_rows // count
        fitting = np.cumsum(np.diff(row_start)[rows]) <= max_tokens
    return rows


@dataclass
class TextPass:
    """Runs the pass; postings go to ``sorter``, codes of a sample of rows to ``coactivation``."""

    sae: SAE
    source: ActivationSource
    store: TokenStore
    rows: Ints
    sorter: PostingSorter
    coactivation: Coactivation
    context: TextContext
    columns: Columns

    def run(self, reporter: Reporter) -> PassCounts:
        """Stage ``index``, in tokens.  ``DataError`` if nothing is left to index."""
        counts = PassCounts(TextCounts.empty(len(self.context.texts)))
        lengths = np.diff(self.context.row_start)[self.rows]
        total = int(lengths.sum())
        in_split = self._rows_of_split()
        sampled = self._sampled_rows(total)
        with reporter.stage("index", total=total, unit="tokens") as stage:
            for rows in self._batches(lengths):
                seen = self._batch(rows, counts, in_split, sampled)
                stage.advance(seen, postings=self.sorter.total)
        if counts.kept == 0:
            raise DataError(
                "No token is left to index.",
                "The text is empty, or max_norm is below every activation norm.",
            )
        self.sorter.flush()
        self.coactivation.finish()
        return counts

    @torch.no_grad()
    def _batch(
        self,
        rows: Ints,
        counts: PassCounts,
        in_split: npt.NDArray[np.bool_],
        sampled: npt.NDArray[np.bool_],
    ) -> int:
        acts_ND, positions = self.source.rows(rows)
        positions = np.asarray(positions, np.int64)
        seen = len(positions)
        if self.columns.max_norms is not None:
            keep = self.columns.usable(acts_ND)
            mask = keep.cpu().numpy()
            if not mask.all():
                acts_ND, positions = acts_ND[keep], positions[mask]
                counts.outliers += seen - len(positions)
        counts.kept += len(positions)
        if len(positions) == 0:
            return seen
        weight = self.sae.b_dec
        x_ND = self.columns.reads(acts_ND)
        codes = self.sae.encode(x_ND.to(device=weight.device, dtype=weight.dtype))
        indices = codes.indices.cpu().numpy()
        values = codes.values.float().cpu().numpy()
        finite = np.isfinite(values)
        if not finite.all():
            counts.dropped_codes += int((~finite).sum())
            values = np.where(finite, values, np.float32(0.0))
        self.sorter.add(positions, indices, values)
        row_of = self.context.rows_of(positions)
        chosen = sampled[row_of]
        if chosen.any():
            self.coactivation.add(positions[chosen], indices[chosen], values[chosen])
        explained = in_split[row_of]
        first = positions == self.context.row_start[row_of]
        counts.text.add(self.context, positions[explained], first[explained])
        return seen

    def _batches(self, lengths: Ints) -> Iterator[Ints]:
        """Rows in order, as many at a time as keep the encoder's product within bounds."""
        tokens = max(256, PREACTIVATION_BYTES // (4 * self.sorter.n_features))
        longest = max(int(lengths.max(initial=1)), 1)
        step = max(1, tokens // longest)
        for begin in range(0, len(self.rows), step):
            yield self.rows[begin : begin + step]

    def _rows_of_split(self) -> npt.NDArray[np.bool_]:
        splits = np.asarray(explanation_split(self.store.document_hash))
        return splits[np.asarray(self.store.row_document)] == EXPLANATION_TRAIN

    def _sampled_rows(self, total: int) -> npt.NDArray[np.bool_]:
        """Rows whose codes co-activation is counted on: all, or an even spread of them."""
        share = min(1.0, COACTIVATION_TOKENS / max(total, 1))
        sampled = np.zeros(len(self.context.row_start) - 1, np.bool_)
        steps = np.floor(np.arange(len(self.rows) + 1) * share)
        sampled[self.rows[np.diff(steps) > 0]] = True
        return sampled
