"""The evaluation of an SAE: reconstruction and splice, beside the frozen-decoder baseline."""

from __future__ import annotations

from typing import Any

import numpy as np

from monosemy.data.store import TokenStore
from monosemy.errors import DataError
from monosemy.evals.reconstruction import Columns, reconstruction_sums
from monosemy.evals.special_tokens import special_token_metrics
from monosemy.evals.splice import reconstruct, spliced_losses
from monosemy.models.activations import ActivationSource
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
    target_site: str | None = None,
) -> dict[str, Any]:
    """Metrics on held-out documents, stage ``evaluate`` in tokens.

    In one mapping: fvu, l0, dead_share, tokens (see ``ReconstructionSums.metrics``), ce_clean,
    ce_sae, ce_zero, ce_mean, ce_recovered_zero, ce_recovered_mean, kl, splice_tokens, spliced_share
    (see ``spliced_losses``); those of them that are the baseline's own under ``baseline``.  The
    mean of mean ablation is that of the tokens reconstructed.  ``target_site`` is where a
    transcoder writes; ``source`` then holds both sites.  Raises ``DataError`` when no document is
    held out.  For a store of chats ``special_tokens`` holds the metrics of FAST
    (see ``special_token_metrics``).
    """
    rows = np.random.default_rng(_ORDER_SEED).permutation(store.heldout_rows())
    if not len(rows):
        raise DataError(
            "No document is held out, so there is nothing to evaluate on.",
            "Give more documents or a larger text.heldout_fraction.",
        )
    saes = {"sae": sae, **({"baseline": baseline} if baseline is not None else {})}
    lengths = np.diff(store.row_start)[rows]
    there, predictions = int(lengths.sum()), int((lengths - 1).sum())
    total = min(spec.reconstruction_tokens, there) + min(spec.tokens, predictions)
    columns = _columns(source, site, target_site)
    with reporter.stage("evaluate", total, "tokens") as stage:
        sums = reconstruction_sums(
            list(saes.values()),
            source,
            rows,
            spec.reconstruction_tokens,
            stage.advance,
            max_norm,
            columns,
        )
        source.flush()
        if not sums[0].tokens:
            raise DataError("No held-out token has a usable norm, so there is nothing to evaluate.")
        reconstructions = {name: reconstruct(each) for name, each in saes.items()}
        spliced = spliced_losses(
            host,
            store,
            rows,
            target_site or site,
            reconstructions,
            sums[0].mean,
            spec.tokens,
            stage.advance,
            max_norm,
            reads=site if target_site else None,
        )
    special: dict[str, Any] = {}
    if store.chats:
        with reporter.stage(
            "special tokens", min(spec.reconstruction_tokens, there), "tokens"
        ) as stage:
            special = special_token_metrics(
                reconstructions,
                source,
                store,
                rows,
                spec.reconstruction_tokens,
                stage.advance,
                max_norm,
                columns,
            )
    per_sae = {
        name: each.metrics() | spliced.pop(name) for name, each in zip(saes, sums, strict=True)
    }
    for name, found in special.items():
        per_sae[name]["special_tokens"] = found
    spliced["splice_tokens"] = spliced.pop("tokens")
    result: dict[str, Any] = per_sae["sae"] | spliced
    if "baseline" in per_sae:
        result["baseline"] = per_sae["baseline"]
    return result


def _columns(source: RowSource, site: str, target_site: str | None) -> Columns:
    if target_site is None:
        return Columns()
    assert isinstance(source, ActivationSource)
    return Columns(source.columns[site], source.columns[target_site])
