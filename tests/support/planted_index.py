"""A hand-made text, host and SAE whose codes are known exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from monosemy.data.token_bytes import TokenBytes
from monosemy.hosted_sae import HostedSAE
from monosemy.index.builder import build_index
from monosemy.index.reader import IndexReader
from monosemy.models.abilities import Abilities
from monosemy.specs.hooks import Hooks
from monosemy.specs.parts import IndexingSpec

SITE = "blocks.0.hook_resid_post"


class PlantedStore:
    """Rows of given lengths; ``documents[r]`` is the document of row r."""

    def __init__(self, tokens: Any, lengths: list[int], documents: list[int]) -> None:
        self.text_id = "planted"
        self.tokens = np.asarray(tokens, np.uint32)
        self.row_start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.row_document = np.asarray(documents, np.int32)
        count = max(documents) + 1
        self.document_hash = (np.arange(count, dtype=np.uint64) + 1) * np.uint64(0x9E3779B97F4A7C15)
        self.document_names = [f"document {i}" for i in range(count)]
        self.n_tokens, self.n_rows, self.n_documents = len(self.tokens), len(lengths), count
        assert self.row_start[-1] == self.n_tokens


class PlantedSource:
    """Activations = the planted dense codes themselves."""

    def __init__(self, store: PlantedStore, dense_NF: np.ndarray) -> None:
        self.store, self.dense, self.site = store, dense_NF.astype(np.float32), SITE
        self.width = dense_NF.shape[1]
        self.visits = np.zeros(store.n_rows, int)

    def rows(self, rows: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        starts = self.store.row_start
        self.visits[rows] += 1
        positions = np.concatenate([np.arange(starts[r], starts[r + 1]) for r in rows])
        return torch.from_numpy(self.dense[positions]), positions


class Codes(NamedTuple):
    indices: torch.Tensor
    values: torch.Tensor


class PlantedSAE(torch.nn.Module):
    """Reads its codes off the activations: the k largest, zeros and negatives among them."""

    def __init__(self, d_sae: int, k: int) -> None:
        super().__init__()
        self.d_in = self.d_out = self.d_sae = d_sae
        self.k = k
        generator = torch.Generator().manual_seed(0)
        self.W_dec = torch.nn.Parameter(torch.randn(d_sae, d_sae, generator=generator))
        self.b_dec = torch.nn.Parameter(torch.zeros(d_sae))

    def check_widths(self, *widths: list[int]) -> None:
        """Any will do."""

    def decoder_rows(self, latents: slice) -> torch.Tensor:
        return self.W_dec[latents].detach()

    def encode(self, x_ND: torch.Tensor, budget: int | None = None) -> Codes:
        values, indices = x_ND.topk(budget or self.k, dim=1)
        return Codes(indices, values)


class PlantedHost:
    """Only weights and a vocabulary; resid sites, so directions are in the stream already."""

    abilities = Abilities(None, None, None, None)

    def __init__(self, table: list[bytes], d_model: int) -> None:
        self.name, self.table = "planted", table
        self.d_model, self.d_vocab = d_model, len(table)
        generator = torch.Generator().manual_seed(1)
        self.W_U = torch.randn(d_model, len(table), generator=generator)
        self.gain = torch.rand(d_model, generator=generator) + 0.5

    def token_bytes(self) -> TokenBytes:
        return TokenBytes(self.table)

    def site_width(self, site: str) -> int:
        return self.d_model

    def unembedding(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.W_U, self.gain

    def output_directions(self, site: str, directions: torch.Tensor) -> torch.Tensor:
        return directions


class Planted(NamedTuple):
    store: Any
    source: Any
    host: Any
    sae: Any
    dense: np.ndarray

    def build(
        self,
        folder: Path,
        spec: IndexingSpec | None = None,
        max_norm: float | None = None,
        **options: Any,
    ) -> IndexReader:
        return build_index(
            HostedSAE(self.host, self.sae, Hooks.at(SITE), max_norm),
            self.source,
            self.store,
            folder,
            spec or IndexingSpec(),
            **options,
        )

    def write(self, artifacts: Path) -> str:
        """Index and text as the service looks for them under ``artifacts``; the index's path."""
        text_id = self.store.text_id
        path = artifacts / "indexes" / text_id
        path.parent.mkdir(parents=True, exist_ok=True)
        self.build(path)
        write_store(self.store, self.host.token_bytes(), artifacts / "text" / text_id)
        return f"indexes/{text_id}"


def write_store(store: Any, token_bytes: TokenBytes, folder: Path) -> None:
    """``store`` as ``TokenStore.open`` reads it."""
    folder.mkdir(parents=True)
    store.tokens.astype("<u4").tofile(folder / "tokens.u32")
    for name in ("row_start", "row_document", "document_hash"):
        np.save(folder / f"{name}.npy", getattr(store, name))
    meta = {
        "format": 1,
        "text_id": store.text_id,
        "context_size": 20,
        "bos_id": None,
        "pad_id": 0,
        "n_tokens": store.n_tokens,
        "n_rows": store.n_rows,
        "n_documents": store.n_documents,
        "text": {},
    }
    (folder / "store.json").write_text(json.dumps(meta))
    (folder / "token_bytes.bin").write_bytes(token_bytes.pack())


def plant(
    dense_NF: np.ndarray,
    lengths: list[int],
    documents: list[int],
    tokens: Any = None,
    table: list[bytes] | None = None,
) -> Planted:
    """``dense_NF[position, feature]`` becomes the codes; every token keeps all its positives."""
    table = table or [f" w{i}".encode() for i in range(50)]
    if tokens is None:
        tokens = np.arange(len(dense_NF)) % len(table)
    store = PlantedStore(tokens, lengths, documents)
    most = max(int((dense_NF > 0).sum(axis=1).max()), 1)
    sae = PlantedSAE(dense_NF.shape[1], min(most + 2, dense_NF.shape[1]))
    host = PlantedHost(table, dense_NF.shape[1])
    return Planted(store, PlantedSource(store, dense_NF), host, sae, dense_NF.astype(np.float32))


def random_text(
    seed: int = 0, n_features: int = 40, n_documents: int = 30, density: float = 0.03
) -> Planted:
    """Documents of 1 to 6 rows of up to 20 tokens; feature 0 never fires, feature 1 is dense."""
    rng = np.random.default_rng(seed)
    lengths, documents = [], []
    for document in range(n_documents):
        for _ in range(rng.integers(1, 7)):
            lengths.append(int(rng.integers(3, 21)))
            documents.append(document)
    n = sum(lengths)
    rate = np.full(n_features, density)
    rate[0], rate[1] = 0.0, 0.6
    firing = rng.random((n, n_features)) < rate
    dense = np.where(firing, rng.gamma(2.0, 3.0, (n, n_features)) + 1e-3, -1.0)
    return plant(dense, lengths, documents, tokens=rng.integers(0, 50, n))
