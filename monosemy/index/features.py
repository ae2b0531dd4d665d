"""The visit to every feature: postings merged, statistics, examples and evidence written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from monosemy.index.evidence import (
    HISTOGRAM_BINS,
    QUANTILES,
    FeatureEvidence,
    Neighbour,
    TokenEffect,
)
from monosemy.index.example_bytes import examples_to_bytes
from monosemy.index.examples import Example, FeaturePostings, Ints, select_examples
from monosemy.index.logits import LogitEffects, LogitLens
from monosemy.index.neighbours import Coactivation, DecoderNeighbours
from monosemy.index.place_lengths import PlaceLengths
from monosemy.index.postings import PostingBlock, PostingSorter
from monosemy.index.token_evidence import TextContext, TokenEvidence
from monosemy.index.writer import SMALLEST_SHARE, IndexWriter
from monosemy.progress import Reporter

if TYPE_CHECKING:
    from monosemy.saes.base import SAE
    from monosemy.specs.parts import IndexingSpec

BLOCK_FEATURES = 256
BLOCK_POSTINGS = 2_000_000


@dataclass
class FeaturePass:
    """Goes through the features in blocks; each block is in memory as a whole."""

    spec: IndexingSpec
    context: TextContext
    row_document: Ints
    split_zero: npt.NDArray[np.bool_]
    """Per document: whether explanations may be written from it."""
    tokens: TokenEvidence
    lens: LogitLens
    places: PlaceLengths
    decoder: DecoderNeighbours
    coactivation: Coactivation
    n_tokens: int

    def run(self, sae: SAE, sorter: PostingSorter, writer: IndexWriter, reporter: Reporter) -> None:
        """Stage ``examples``, in features."""
        writer.open(sorter.counts, sorter.position_dtype)
        largest = np.zeros(sae.d_sae, np.float32)
        mean = np.zeros(sae.d_sae, np.float32)
        histogram = np.zeros((sae.d_sae, HISTOGRAM_BINS), np.uint32)
        with reporter.stage("examples", total=sae.d_sae, unit="features") as stage:
            for block in sorter.blocks(BLOCK_FEATURES, BLOCK_POSTINGS):
                place = slice(block.first, block.last)
                largest[place], mean[place] = _block_statistics(block)
                shares = _shares(block, largest[place])
                histogram[place] = _block_histogram(block, largest[place])
                writer.positions.append(block.positions)
                writer.values.append(shares)
                for evidence, examples in self._block(sae, block, largest, mean, histogram):
                    writer.add_feature(evidence, examples)
                stage.advance(block.last - block.first, postings=int(block.indptr[-1]))
        writer.save("max_activation", largest)
        writer.save("mean_activation", mean)
        writer.save("histogram", histogram)

    def _block(
        self,
        sae: SAE,
        block: PostingBlock,
        largest: npt.NDArray[np.float32],
        mean: npt.NDArray[np.float32],
        histogram: npt.NDArray[np.uint32],
    ) -> Iterator[tuple[FeatureEvidence, bytes]]:
        positions = block.positions.astype(np.int64)
        rows = self.context.rows_of(positions)
        documents = self.row_document[rows]
        written_FD = sae.decoder_rows(slice(block.first, block.last))
        effects = self.lens.effects(written_FD)
        places = self.places.of(block.first, block.last, written_FD)
        near, cosines = self.decoder.of(block.first, block.last)
        for i, feature in enumerate(range(block.first, block.last)):
            part = slice(int(block.indptr[i]), int(block.indptr[i + 1]))
            postings = FeaturePostings(
                positions[part], block.values[part], rows[part], documents[part]
            )
            together, jaccard = self.coactivation.of(feature, postings.positions)
            evidence = FeatureEvidence(
                feature=feature,
                count=len(postings),
                density=len(postings) / self.n_tokens,
                max_activation=float(largest[feature]),
                mean_activation=float(mean[feature]),
                quantiles=_quantiles(postings),
                histogram=histogram[feature].tolist() if len(postings) else [],
                cosine_neighbours=_neighbours(near[i], cosines[i]),
                coactive_neighbours=_neighbours(together, jaccard),
                places=places[i],
                **self._token_figures(postings),
                **self._logit_figures(effects, i),
            )
            yield evidence, examples_to_bytes(self._examples(feature, postings))

    def _token_figures(self, postings: FeaturePostings) -> dict[str, Any]:
        """From explanation split 0 alone where the feature fires there at all."""
        mask = self.split_zero[postings.documents]
        if mask.any():
            return {"tokens_from": "train", **self.tokens.of(postings.where(mask))}
        return {"tokens_from": "all", **self.tokens.of(postings)}

    def _logit_figures(self, effects: LogitEffects, i: int) -> dict[str, Any]:
        texts = self.context.texts

        def listed(ids: torch.Tensor, values: torch.Tensor) -> list[TokenEffect]:
            pairs = zip(ids[i].tolist(), values[i].tolist(), strict=True)
            return [TokenEffect(token, texts[token], value) for token, value in pairs]

        return {
            "promoted": listed(effects.promoted_ids, effects.promoted),
            "suppressed": listed(effects.suppressed_ids, effects.suppressed),
            "logit_std": float(effects.std[i]),
            "logit_skew": float(effects.skew[i]),
            "logit_kurtosis": float(effects.kurtosis[i]),
        }

    def _examples(self, feature: int, postings: FeaturePostings) -> list[Example]:
        if len(postings) == 0:
            return []
        return select_examples(
            postings,
            self.context.row_start,
            top=self.spec.top_examples,
            quantiles=self.spec.quantiles,
            per_quantile=self.spec.quantile_examples,
            window=self.spec.window,
            seed=feature,
        )


def _neighbours(features: npt.NDArray[Any], values: npt.NDArray[Any]) -> list[Neighbour]:
    pairs = zip(features.tolist(), values.tolist(), strict=True)
    return [Neighbour(feature, value) for feature, value in pairs]


def _quantiles(postings: FeaturePostings) -> list[float]:
    """Nearest rank: the smallest activation with at least q of all at or below it."""
    count = len(postings)
    if count == 0:
        return []
    ordered = np.sort(postings.values)
    places = np.ceil(np.array(QUANTILES) * count).astype(int) - 1
    return ordered[places].tolist()


def _block_statistics(
    block: PostingBlock,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(largest, mean) positive activation of each feature of the block; 0 where none fired."""
    counts = np.diff(block.indptr)
    fired = counts > 0
    largest = np.zeros(len(counts), np.float32)
    sums = np.zeros(len(counts), np.float64)
    if fired.any():
        starts = block.indptr[:-1][fired]
        largest[fired] = np.maximum.reduceat(block.values, starts)
        sums[fired] = np.add.reduceat(block.values.astype(np.float64), starts)
    return largest, (sums / np.maximum(counts, 1)).astype(np.float32)


def _shares(block: PostingBlock, largest: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Activations over the feature's largest, never rounded down to 0."""
    repeated = np.repeat(largest, np.diff(block.indptr))
    return np.maximum((block.values / repeated).astype(np.float16), SMALLEST_SHARE)


def _block_histogram(
    block: PostingBlock, largest: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint32]:
    """Firings of each feature of the block in ``HISTOGRAM_BINS`` equal bins: uint32 [n, bins]."""
    counts = np.diff(block.indptr)
    local = np.repeat(np.arange(len(counts)), counts)
    # Multiply first, in float64: a value on a border then stays in the bin that it closes.
    scaled = block.values.astype(np.float64) * HISTOGRAM_BINS / largest[local]
    bins = np.clip(np.ceil(scaled).astype(np.int64) - 1, 0, HISTOGRAM_BINS - 1)
    flat = np.bincount(local * HISTOGRAM_BINS + bins, minlength=len(counts) * HISTOGRAM_BINS)
    return flat.reshape(len(counts), HISTOGRAM_BINS).astype(np.uint32)
