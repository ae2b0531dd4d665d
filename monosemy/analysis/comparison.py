"""Two SAEs compared: what makes their features alike, who are partners, and what chance gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
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
from monosemy.progress import SILENT, Reporter, Stage
from monosemy.specs import CompareRun

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


@dataclass(frozen=True)
class Comparison:
    """What a comparison of two SAEs compared."""

    links: list[tuple[int, int, float, bool]]
    """(feature of a, feature of b, similarity, partners) of each pair that is kept, once."""
    summary: dict[str, Any]
    """How alike partners are, beside chance and what features of the first SAE are among
    themselves."""


def compare_sides(sides: Sides, spec: CompareRun, reporter: Reporter = SILENT) -> Comparison:
    """Partners and nearest features by ``spec.method`` and ``spec.neighbours``.  Stage
    ``compare``, in features."""
    n, m = len(sides.features_a), len(sides.features_b)
    dense = spec.method == "hungarian" and n * m <= EXACT_PAIRS
    with reporter.stage("compare", n, "features") as stage:
        compared = compare(_counted(sides.blocks(), stage), n, m, spec.neighbours, dense)
    partners = match(compared, spec.method)
    values = _values_of(compared, partners)
    null = None if sides.null is None else _best(sides.null())
    summary = {
        "greedy": spec.method == "hungarian" and not dense,
        **summarise(compared, partners, values, null, _best(sides.within())),
    }
    return Comparison(list(_links(sides, compared, partners, values)), summary)


def by_decoder(of_a: Tensor, of_b: Tensor, names: tuple[str, str]) -> Sides:
    """Alike by the cosine of their decoder directions ``[latents, d]``; ``DataError`` where the
    SAEs called ``names`` write activations of different widths."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    of_a, of_b = (each.detach().to(device) for each in (of_a, of_b))
    if of_a.shape[1] != of_b.shape[1]:
        raise DataError(
            f"'{names[0]}' writes {of_a.shape[1]} dimensions and '{names[1]}' {of_b.shape[1]}:"
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


def by_tokens(of_a: IndexReader, of_b: IndexReader) -> Sides:
    """Alike by the share of tokens that both fire on, by their indexes over one text."""
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


def by_explanations(features_a: Ints, of_a: Floats, features_b: Ints, of_b: Floats) -> Sides:
    """Alike by the cosine of the embeddings ``[explained, e]`` of these features' explanations."""
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


def _links(
    sides: Sides, compared: Compared, partners: Ints, values: Floats
) -> Iterator[tuple[int, int, float, bool]]:
    """(feature of a, feature of b, value, partners) of each pair that is to be kept, once.

    Pairs that have nothing in common are left out, unless they are partners.
    """
    pairs: dict[tuple[int, int], float] = {}
    for row, (columns, similar) in enumerate(
        zip(compared.forward.indices.tolist(), compared.forward.values.tolist(), strict=True)
    ):
        pairs.update({(row, c): v for c, v in zip(columns, similar, strict=True) if v > 0})
    for column, (rows, similar) in enumerate(
        zip(compared.backward.indices.tolist(), compared.backward.values.tolist(), strict=True)
    ):
        pairs.update({(r, column): v for r, v in zip(rows, similar, strict=True) if v > 0})
    for row, column in enumerate(partners.tolist()):
        if column >= 0:
            pairs.setdefault((row, column), float(values[row]))
    for (row, column), value in sorted(pairs.items()):
        matched = bool(partners[row] == column)
        yield int(sides.features_a[row]), int(sides.features_b[column]), value, matched


def _counted(blocks: Blocks, stage: Stage) -> Iterator[tuple[int, Tensor]]:
    for first, block in blocks:
        yield first, block
        stage.advance(len(block))


def _values_of(compared: Compared, partners: Ints) -> Floats:
    """[n]: the similarity of each row to its partner, 0 where it has none."""
    values = np.zeros(len(partners), np.float32)
    for row in np.flatnonzero(partners >= 0):
        column = partners[row]
        if compared.dense is not None:
            values[row] = compared.dense[row, column]
            continue
        near = compared.forward.indices[row] == column
        back = compared.backward.indices[column] == row
        values[row] = (
            compared.forward.values[row][near][0]
            if near.any()
            else compared.backward.values[column][back][0]
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
