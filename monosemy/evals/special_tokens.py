"""Reconstruction of special tokens, beside that of all tokens: the metrics of FAST.

FAST ("Finetuning-aligned Sequential Training") reports, over held-out dialogues i of L_i tokens of
width H, ``MSE = 1/(N H) sum_i 1/L_i sum_j ||x_ij - x_hat_ij||^2``, the same over special tokens
alone, and prints log2 of both.  The mean over all tokens is another number: both are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.data.store import TokenStore
from monosemy.evals.reconstruction import ROWS_AT_ONCE
from monosemy.models.columns import WHOLE, Columns
from monosemy.training.stream import RowSource

ALL, SPECIAL, SPECIAL_AND_ROLES = "all", "special", "special_and_roles"

_LEAST_VARIANCE = 1e-12
"""As a share of the squared norm: below it the variance is rounding."""

Ids = npt.NDArray[np.int64]


def token_groups(store: TokenStore) -> dict[str, Ids | None]:
    """Which token ids each group of the metrics is made of; None stands for every token.

    ``special``: what the tokenizer calls special.  ``special_and_roles``: those and the role names
    that are one token, which is the set of FAST's tables.
    """
    roles = np.array(sorted(store.role_ids.values()), dtype=np.int64)
    return {
        ALL: None,
        SPECIAL: store.special_ids,
        SPECIAL_AND_ROLES: np.union1d(store.special_ids, roles),
    }


class SpecialTokenSums:
    """Squared errors per group of tokens and per document, in float64."""

    def __init__(
        self, store: TokenStore, width: int, groups: Mapping[str, Ids | None] | None = None
    ) -> None:
        """``width`` is H, that of the vectors compared; ``groups`` defaults to ``token_groups``."""
        self.store = store
        self.width = width
        self.groups = {
            name: _Group(ids, store.n_documents, width)
            for name, ids in (token_groups(store) if groups is None else groups).items()
        }

    def add(self, x_ND: Tensor, reconstruction_ND: Tensor, position_N: Ids) -> None:
        """Takes in vectors, what the SAE made of them, and their flat positions in the store."""
        x_ND = x_ND.double().cpu()
        error_N = (x_ND - reconstruction_ND.double().cpu()).pow(2).sum(1).numpy()
        ids_N = np.asarray(self.store.tokens[position_N], dtype=np.int64)
        document_N = np.asarray(self.store.row_document[self.store.row_of(position_N)])
        for group in self.groups.values():
            group.add(x_ND, error_N, ids_N, document_N)

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Per group: tokens, documents (with such a token), mse and mse_per_document (squared error
        per dimension; mean over tokens, or over each document first), their log2_..., and fvu.

        ``fvu`` = squared error / squared distance from the group's own mean: markers that differ
        little among themselves are held to their own spread.  None where nothing was seen, where
        tokens do not vary, or for the log2 of an error of zero.
        """
        return {name: group.metrics() for name, group in self.groups.items()}


class _Group:
    """Sums over the tokens of some ids."""

    def __init__(self, ids: Ids | None, n_documents: int, width: int) -> None:
        self.ids = ids
        self.error = np.zeros(n_documents)
        self.count = np.zeros(n_documents, dtype=np.int64)
        self.squared_norm = 0.0
        self.total = torch.zeros(width, dtype=torch.float64)

    def add(
        self,
        x_ND: Tensor,
        error_N: npt.NDArray[np.float64],
        ids_N: Ids,
        document_N: npt.NDArray[np.integer],
    ) -> None:
        if self.ids is not None:
            member = np.isin(ids_N, self.ids)
            x_ND = x_ND[torch.from_numpy(member)]
            error_N, document_N = error_N[member], document_N[member]
        self.error += np.bincount(document_N, error_N, minlength=len(self.error))
        self.count += np.bincount(document_N, minlength=len(self.count))
        self.squared_norm += float(x_ND.pow(2).sum())
        self.total += x_ND.sum(0)

    def metrics(self) -> dict[str, Any]:
        tokens, width = int(self.count.sum()), len(self.total)
        there = self.count > 0
        result: dict[str, Any] = {"tokens": tokens, "documents": int(there.sum())}
        if not tokens:
            names = ("mse", "mse_per_document", "log2_mse", "log2_mse_per_document", "fvu")
            return result | dict.fromkeys(names)
        squared_error = float(self.error.sum())
        per_document = float((self.error[there] / self.count[there]).mean())
        for name, value in (("mse", squared_error / tokens), ("mse_per_document", per_document)):
            result[name] = value / width
            result[f"log2_{name}"] = math.log2(value / width) if value > 0 else None
        variance = self.squared_norm - float(self.total.pow(2).sum()) / tokens
        varies = variance > _LEAST_VARIANCE * self.squared_norm
        return result | {"fvu": squared_error / variance if varies else None}


@torch.no_grad()
def special_token_metrics(
    reconstructions: Mapping[str, Callable[[Tensor], Tensor]],
    source: RowSource,
    store: TokenStore,
    rows: npt.NDArray[np.int64],
    max_tokens: int,
    advance: Callable[[int], None] = lambda _tokens: None,
    columns: Columns = WHOLE,
) -> dict[str, dict[str, dict[str, Any]]]:
    """``SpecialTokenSums.metrics`` of each reconstruction, by name, over the same tokens: whole
    ``rows``, in order, until ``max_tokens`` are seen.

    A reconstruction takes ``[n, d_in]`` and gives ``[n, d_out]``, both on the CPU
    (``evals.splice.reconstruct``).  Tokens that ``columns`` has as not usable are left out, as they
    were in training: the first token of a dialogue, a special one, often is such an attention sink.
    ``left_out`` counts them per group.
    """
    written = columns.written or columns.read
    width = sum(len(range(*part.indices(source.width))) for part in written)
    sums = {name: SpecialTokenSums(store, width) for name in reconstructions}
    groups = token_groups(store)
    left_out = dict.fromkeys(groups, 0)
    seen = 0
    for start in range(0, len(rows), ROWS_AT_ONCE):
        if seen >= max_tokens:
            break
        acts_ND, position_N = source.rows(rows[start : start + ROWS_AT_ONCE])
        keep = columns.usable(acts_ND)
        dropped = np.asarray(store.tokens[position_N[~keep.numpy()]], dtype=np.int64)
        for name, ids in groups.items():
            left_out[name] += int(np.isin(dropped, ids).sum()) if ids is not None else len(dropped)
        kept_ND = acts_ND[keep]
        read_ND, target_ND = columns.reads(kept_ND), columns.target(kept_ND)
        target_ND = read_ND if target_ND is None else target_ND
        position_N = position_N[keep.numpy()]
        for name, reconstruct in reconstructions.items():
            sums[name].add(target_ND, reconstruct(read_ND), position_N)
        seen += len(position_N)
        advance(len(position_N))
    return {
        name: {
            group: {**metrics, "left_out": left_out[group]}
            for group, metrics in each.metrics().items()
        }
        for name, each in sums.items()
    }
