"""Builds the index of an SAE over a token store: one pass, then one visit to every feature."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monosemy.data.splits import explanation_split
from monosemy.errors import DataError
from monosemy.index.encoding import EXPLANATION_TRAIN, PassCounts, TextPass, spread_rows
from monosemy.index.features import FeaturePass
from monosemy.index.logits import LogitLens
from monosemy.index.made_of import sae_fingerprint
from monosemy.index.neighbours import Coactivation, DecoderNeighbours
from monosemy.index.place_lengths import PlaceLengths
from monosemy.index.postings import CHUNK_POSTINGS, MEMORY_BYTES, PostingSorter
from monosemy.index.reader import IndexReader
from monosemy.index.token_evidence import TextContext, TokenEvidence
from monosemy.index.writer import IndexWriter
from monosemy.models.columns import Columns, columns_of
from monosemy.progress import SILENT, Reporter

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore
    from monosemy.hosted_sae import HostedSAE
    from monosemy.models.activations import ActivationSource
    from monosemy.specs.parts import IndexingSpec


def build_index(
    hosted: HostedSAE,
    source: ActivationSource,
    store: TokenStore,
    folder: Path,
    spec: IndexingSpec,
    reporter: Reporter = SILENT,
    *,
    made_of: Mapping[str, str] | None = None,
    chunk_postings: int = CHUNK_POSTINGS,
    memory_bytes: int = MEMORY_BYTES,
) -> IndexReader:
    """Indexes ``store`` (or ``spec.max_tokens`` of it, in evenly spread rows) and opens the result.

    Two stages: ``index`` (tokens) encodes every token once; ``examples`` (features) merges the
    postings feature by feature and adds statistics, examples, evidence, logits and neighbours.
    ``made_of`` (sae_digest, model_fingerprint) is kept in ``meta.json``.
    Tokens whose activation norm exceeds the SAE's ``max_norm`` are left out and counted in
    ``meta.json``.  What the host model lacks is left out as well: without an unembedding there are
    no logits.

    Memory: the encoder's product of one batch, one chunk of postings, ``memory_bytes`` of finished
    chunks (the rest is spilled beside ``folder``), one block of features, the vocabulary's logits
    of one block.  ``folder`` appears, whole, only at the end; an older index there is replaced; on
    any error or stop nothing is left.  Raises ``DataError``, and ``Stopped`` through ``reporter``.
    """
    if store.n_tokens == 0:
        raise DataError("The token store is empty.", "Name a text with content.")
    host, sae = hosted.host, hosted.sae
    columns = Columns.reading(hosted.hooks, columns_of(source, hosted.hooks), hosted.max_norm)
    with IndexWriter(Path(folder)) as writer:
        context = TextContext(store, host.token_bytes(), host.d_vocab)
        sorter = PostingSorter(
            sae.d_sae, store.n_tokens, writer.scratch, chunk_postings, memory_bytes
        )
        coactivation = Coactivation(sae.d_sae, spec.neighbours)
        rows = spread_rows(context.row_start, spec.max_tokens)
        counts = TextPass(sae, source, store, rows, sorter, coactivation, context, columns).run(
            reporter
        )
        if counts.dropped_codes:
            reporter.log("codes that were not finite were left out", codes=counts.dropped_codes)
        lens = LogitLens(host, hosted.hooks, spec.logit_tokens)
        if lens.missing is not None:
            reporter.log("features get no promoted tokens", model=host.name, reason=lens.missing)
        features = FeaturePass(
            spec,
            context,
            np.asarray(store.row_document, np.int64),
            np.asarray(explanation_split(store.document_hash)) == EXPLANATION_TRAIN,
            TokenEvidence(context, counts.text),
            lens,
            PlaceLengths(sae, hosted.hooks, lens, context.texts),
            DecoderNeighbours(sae.decoder_rows(slice(None)), spec.neighbours),
            coactivation,
            counts.kept,
        )
        features.run(sae, sorter, writer, reporter)
        writer.save("rows", rows)
        meta = _meta(hosted, store, spec, counts, sorter, coactivation)
        lacks = {} if lens.missing is None else {"logits": f"none: {lens.missing}"}
        writer.commit({**meta, **lacks, **(made_of or {})})
    return IndexReader(folder)


def _meta(
    hosted: HostedSAE,
    store: TokenStore,
    spec: IndexingSpec,
    counts: PassCounts,
    sorter: PostingSorter,
    coactivation: Coactivation,
) -> dict[str, Any]:
    hooks = hosted.hooks
    return {
        "n_features": hosted.sae.d_sae,
        "n_tokens": counts.kept,
        "n_postings": sorter.total,
        "text_id": store.text_id,
        "site": hooks.site,
        **({"hooks": hooks.as_dict()} if len(hooks.places) > 1 else {}),
        "model": hosted.host.name,
        "sae_fingerprint": sae_fingerprint(hosted.sae),
        "spec": spec.model_dump(mode="json"),
        "max_norm": hosted.max_norm,
        "outlier_tokens": counts.outliers,
        "dropped_codes": counts.dropped_codes,
        "evidence_tokens": counts.text.total,
        "coactivation_tokens": coactivation.n_tokens,
        "coactivation_measure": "jaccard",
        "logits": "centred over the vocabulary, final norm gain included, norm scale left out",
        "spilled_chunks": sorter.spilled_chunks,
        "versions": {name: _version(name) for name in ("monosemy", "numpy", "torch")},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "source tree"
