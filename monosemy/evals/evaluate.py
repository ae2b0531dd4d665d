"""The evaluation of an SAE: reconstruction and splice, beside the frozen-decoder baseline."""

from __future__ import annotations

from typing import Any

import numpy as np

from monosemy.data.store import TokenStore
from monosemy.errors import DataError
from monosemy.evals.reconstruction import reconstruction_sums
from monosemy.evals.splice import spliced_losses
from monosemy.models.host import HostModel
from monosemy.progress import SILENT, Reporter
from monosemy.saes.base import SAE
from monosemy.specs import EvaluationSpec
from monosemy.training.stream import RowSource

_ORDER_SEED = 20_240_607
"""Held-out rows are visited in this one order, so that SAEs are compared on the same text."""


def evaluate_sae(
    sae: SAE,
    baseline: SAE | None,
    host: HostModel,
    store: TokenStore,
    source: RowSource,
    site: str,
    spec: EvaluationSpec,
    reporter: Reporter = SILENT,
    max_norm: float | None = None,
) -> dict[str, Any]:
    """Metrics on held-out documents: those of ``ReconstructionSums.metrics`` and, in the same
    mapping, of ``spliced_losses``; the baseline's own under ``baseline``.

    Raises ``DataError`` when no document is held out.
    """
    rows = np.random.default_rng(_ORDER_SEED).permutation(store.heldout_rows())
    if not len(rows):
        raise DataError(
            "No document is held out, so there is nothing to evaluate on.",
            "Give more documents or a larger text.heldout_fraction.",
        )
    saes = {"sae": sae, **({"baseline": baseline} if baseline is not None else {})}
    with reporter.stage("reconstruct", spec.reconstruction_tokens, "tokens") as stage:
        sums = reconstruction_sums(
            list(saes.values()), source, rows, spec.reconstruction_tokens, stage, max_norm
        )
    with reporter.stage("splice", spec.tokens, "tokens") as stage:
        spliced = spliced_losses(host, store, rows, site, saes, sums[0].mean, spec.tokens, stage)
    per_sae = {
        name: each.metrics() | spliced.pop(name) for name, each in zip(saes, sums, strict=True)
    }
    result = per_sae["sae"] | spliced | {"tokens": per_sae["sae"]["tokens"]}
    result["splice_tokens"] = spliced["tokens"]
    if "baseline" in per_sae:
        result["baseline"] = per_sae["baseline"]
    return result
