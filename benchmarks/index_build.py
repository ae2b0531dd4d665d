"""How fast and how large an index is, on synthetic codes: no encoder, no host model's forward.

    OMP_NUM_THREADS=2 python benchmarks/index_build.py --tokens 750000 --features 4096 -k 32

Features fire with Zipf-like rates on tokens of a Zipf-like text; the logits use a random vocabulary
of the size and width given.  Prints a table; "stages" are the two stages of ``build_index``.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch

from monosemy.data.token_bytes import TokenBytes
from monosemy.hosted_sae import HostedSAE
from monosemy.index.builder import build_index
from monosemy.index.records import iterate_feature_rows
from monosemy.models.abilities import Abilities
from monosemy.progress import Reporter, StageProgress
from monosemy.specs.parts import IndexingSpec

ROW, DOCUMENT_ROWS = 127, 60


class Codes(NamedTuple):
    indices: torch.Tensor
    values: torch.Tensor


class SyntheticSAE(torch.nn.Module):
    """Gives the codes that its source drew: the encoder's product costs nothing here."""

    def __init__(self, n_features: int, width: int, k: int) -> None:
        super().__init__()
        self.d_sae, self.d_in, self.d_out, self.k = n_features, width, width, k
        self.seconds = 0.0
        self.W_dec = torch.nn.Parameter(torch.randn(n_features, width))
        self.b_dec = torch.nn.Parameter(torch.zeros(width))
        self.rates = 1.0 / (np.arange(n_features) + 40.0) ** 0.8
        self.edges = np.cumsum(self.rates) / self.rates.sum()

    def decoder_rows(self, latents: slice) -> torch.Tensor:
        return self.W_dec[latents].detach()

    def encode(self, x_ND: torch.Tensor, budget: int | None = None) -> Codes:
        """k features (or ``budget``) per token, for half of the draws the same per token id."""
        begin = time.perf_counter()
        n, k = len(x_ND), budget or self.k
        rng = np.random.default_rng(int(x_ND[0, 0]))
        token = x_ND[:, 1].numpy().astype(np.int64)
        draws = rng.random((n, k))
        fixed = (token[:, None] * 0.6180339887 + np.arange(k) * 0.7548776662) % 1.0
        draws = np.where(rng.random((n, k)) < 0.5, fixed, draws)
        indices = np.sort(np.searchsorted(self.edges, draws).clip(max=self.d_sae - 1), axis=1)
        values = rng.gamma(2.0, 1.0, (n, k)).astype(np.float32) + 0.01
        # A repeated draw stands for nothing, as a zero does in real codes.
        values[:, 1:][indices[:, 1:] == indices[:, :-1]] = 0.0
        self.seconds += time.perf_counter() - begin
        return Codes(torch.from_numpy(indices), torch.from_numpy(values))


class SyntheticSource:
    site = "blocks.0.hook_resid_post"

    def __init__(self, store: Any, width: int) -> None:
        self.store, self.width = store, width

    def rows(self, rows: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        starts = self.store.row_start
        positions = np.arange(starts[rows[0]], starts[rows[-1] + 1])
        acts = torch.zeros(len(positions), self.width)
        acts[:, 0] = float(rows[0])
        acts[:, 1] = torch.from_numpy(self.store.tokens[positions].astype(np.float32))
        return acts, positions


class SyntheticHost:
    name = "synthetic"
    abilities = Abilities(None, None, None, None)

    def __init__(self, width: int, vocabulary: int) -> None:
        self.d_model, self.d_vocab = width, vocabulary

    def token_bytes(self) -> TokenBytes:
        return TokenBytes([f" t{i}".encode() for i in range(self.d_vocab)])

    def site_width(self, _site: str) -> int:
        return self.d_model

    def unembedding(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(self.d_model, self.d_vocab), torch.ones(self.d_model)

    def output_directions(self, _site: str, directions: torch.Tensor) -> torch.Tensor:
        return directions


def synthetic_store(n_tokens: int, vocabulary: int) -> Any:
    rng = np.random.default_rng(0)
    rows = max(n_tokens // ROW, 1)
    documents = np.arange(rows) // DOCUMENT_ROWS
    tokens = (rng.zipf(1.3, rows * ROW) % vocabulary).astype(np.uint32)
    hashes = rng.integers(0, 2**63, int(documents[-1]) + 1).astype(np.uint64)
    return SimpleNamespace(
        text_id="synthetic",
        tokens=tokens,
        n_tokens=len(tokens),
        n_rows=rows,
        row_start=np.arange(rows + 1, dtype=np.int64) * ROW,
        row_document=documents.astype(np.int32),
        document_hash=hashes,
    )


class Timed(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}

    def finish(self, progress: StageProgress) -> None:
        self.seconds[progress.name] = progress.elapsed


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=750_000)
    parser.add_argument("--features", type=int, default=4096)
    parser.add_argument("-k", type=int, default=32)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--vocabulary", type=int, default=49_152)
    parser.add_argument("--memory-mib", type=int, default=256, help="chunks kept in memory")
    options = parser.parse_args()
    torch.manual_seed(0)
    store = synthetic_store(options.tokens, options.vocabulary)
    sae = SyntheticSAE(options.features, options.width, options.k)
    source: Any = SyntheticSource(store, options.width)
    host: Any = SyntheticHost(options.width, options.vocabulary)
    before, reporter = peak_mib(), Timed()
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        reader = build_index(
            HostedSAE.at(host, sae, SyntheticSource.site),  # type: ignore[arg-type]
            source,
            store,
            Path(folder) / "index",
            IndexingSpec(),
            reporter,
            memory_bytes=options.memory_mib * 2**20,
        )
        total = time.perf_counter() - begin
        peak = peak_mib()
        begin = time.perf_counter()
        rows = iterate_feature_rows(reader)
        packed = sum(len(row["examples"]) for row in rows)
        reading = time.perf_counter() - begin
        print_table(options, reader, reporter, total, sae.seconds, before, peak)
        print(f"{'rows: bytes per feature':<34}{rows.bytes_per_feature:>14,.0f}")
        print(f"{'  of which examples':<34}{packed / reader.n_features:>14,.0f}")
        print(f"{'rows: features per second':<34}{reader.n_features / reading:>14,.0f}")


def print_table(
    options: argparse.Namespace,
    reader: Any,
    reporter: Timed,
    total: float,
    drawing: float,
    before: float,
    peak: float,
) -> None:
    own = total - drawing
    posting_bytes = sum(reader.meta["files"][n] for n in ("positions.npy", "values.npy"))
    lines = [
        ("tokens", f"{reader.n_tokens:,}"),
        ("features", f"{reader.n_features:,}"),
        ("postings", f"{reader.n_postings:,}"),
        ("stage index (s)", f"{reporter.seconds['index'] - drawing:.1f}"),
        ("stage examples (s)", f"{reporter.seconds['examples']:.1f}"),
        ("all (s), codes' making left out", f"{own:.1f}"),
        ("tokens per second", f"{reader.n_tokens / own:,.0f}"),
        ("postings per second", f"{reader.n_postings / own:,.0f}"),
        ("bytes per posting", f"{posting_bytes / max(reader.n_postings, 1):.2f}"),
        ("index folder (MiB)", f"{reader.meta['bytes'] / 2**20:.1f}"),
        ("spilled chunks", f"{reader.meta['spilled_chunks']}"),
        ("co-activation tokens", f"{reader.meta['coactivation_tokens']:,}"),
        ("peak RSS (MiB)", f"{peak:,.0f}"),
        ("  of which before the build", f"{before:,.0f}"),
    ]
    print(f"F={options.features} k={options.k} threads={torch.get_num_threads()}")
    for name, value in lines:
        print(f"{name:<34}{value:>14}")


if __name__ == "__main__":
    main()
