"""The whole way on a real token store, host model, activation source and SAE (all tiny)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from monosemy.hosted_sae import HostedSAE
from monosemy.index.builder import build_index
from monosemy.index.evidence import evidence_label
from monosemy.index.sampling import Sampler
from monosemy.models.activations import ActivationSource
from monosemy.saes.registry import create
from monosemy.specs import IndexingSpec, TopKSpec

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore
    from monosemy.models.host import HostModel
    from monosemy.saes.base import SAE

SITE = "blocks.2.hook_resid_post"


@pytest.fixture(scope="module")
def sae(tiny_host: HostModel) -> SAE:
    sae = create(TopKSpec(d_sae=96, k=6), tiny_host.site_width(SITE))
    sae.initialise(torch.Generator().manual_seed(0))
    return sae


def test_index_of_real_parts(
    tiny_host: HostModel, tiny_store: TokenStore, sae: SAE, tmp_path: Path
) -> None:
    source = ActivationSource(tiny_host, tiny_store, SITE, tmp_path / "activations")
    reader = build_index(
        HostedSAE.at(tiny_host, sae, SITE),
        source,
        tiny_store,
        tmp_path / "index",
        IndexingSpec(window=6),
    )
    acts, positions = source.rows(np.arange(tiny_store.n_rows))
    with torch.no_grad():
        dense = sae.encode(acts).dense(96).numpy()
    assert positions.tolist() == list(range(tiny_store.n_tokens))
    bytes_of = tiny_host.token_bytes()
    for feature in range(96):
        fired_at, values = reader.postings(feature)
        # Other batch shapes round the product otherwise: ties at the k-th place may fall elsewhere.
        assert len(np.setxor1d(fired_at, np.flatnonzero(dense[:, feature]))) <= 2
        np.testing.assert_allclose(values, dense[fired_at, feature], rtol=2e-3, atol=1e-4)
        for example in reader.examples(feature):
            shown = tiny_store.tokens[example.start : example.end].tolist()
            assert "".join(bytes_of.pieces(shown)) == bytes_of.decode(shown)
        evidence = reader.evidence(feature)
        assert len(evidence.promoted) == len(evidence.suppressed) == 10
        assert evidence.promoted[0].effect > 0 > evidence.suppressed[0].effect
        assert len(evidence.cosine_neighbours) == 8
        assert evidence_label(evidence)
    assert reader.n_postings == (dense > 0).sum()
    busiest = int(np.argmax(reader.counts))
    positives = Sampler(reader, tiny_store).examples(busiest, 2, 6, seed=0)
    assert positives
    negatives = Sampler(reader, tiny_store).negatives(busiest, 2, 6, seed=0, like=positives)
    fires = set(reader.postings(busiest)[0].tolist())
    assert all(not fires & set(range(e.start, e.end)) for e in negatives)


def test_a_cached_pass_gives_the_same_index(
    tiny_host: HostModel, tiny_store: TokenStore, sae: SAE, tmp_path: Path
) -> None:
    contents = []
    for name in ("first", "second"):
        source = ActivationSource(tiny_host, tiny_store, SITE, tmp_path / "activations")
        folder = tmp_path / name
        hosted = HostedSAE.at(tiny_host, sae, SITE)
        build_index(hosted, source, tiny_store, folder, IndexingSpec(max_tokens=1000))
        contents.append({p.name: p.read_bytes() for p in folder.iterdir()})
    assert contents[0] == contents[1]
