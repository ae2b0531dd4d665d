"""Time and memory of building examples: ours beside delphi's, on the same firings.

    pip install --no-deps --target SITE eai-delphi
    OMP_NUM_THREADS=1 python benchmarks/example_building.py --tokens 1000000 --features 100 \
        [--delphi SITE]

Per feature 40 examples to explain from, 50 to score with and 50 random negatives.  Ours keeps
near-duplicates out and gives every window as text; a second row adds 50 negatives each of the same
token and of neighbours.  delphi's part is its published ``constructor`` and ``sampler`` with their
defaults; what it is given free of charge: its firings already sorted by latent and in tensors, and
a tokenizer that decodes at no cost.  Only modules that this path never calls (faiss,
sentence_transformers, ...) are replaced by empty ones.  Without ``--delphi`` ours runs alone.

Features are a sample of a large SAE's: ``--active`` of them fire per token on average (1,000 of
16,384 at L0 32 make 2), densities by a power law.  Each side works in a process of its own; memory
is the growth of its peak RSS over what it held with all files mapped and modules loaded; mapped
pages count as they are touched.  ``--json FILE`` adds the result as one line.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from index_build import (
    ROW,
    Codes,
    SyntheticHost,
    SyntheticSource,
    synthetic_store,
)
from results import Line, append, machine

from monosemy.data.token_bytes import TokenBytes
from monosemy.hosted_sae import HostedSAE
from monosemy.index.builder import build_index
from monosemy.index.reader import IndexReader
from monosemy.interp.judging.rehearsal import RehearsalJudge
from monosemy.interp.registry import create_explainer
from monosemy.interp.texts import FeatureTexts
from monosemy.interp.tools import Tools
from monosemy.specs import ExplanationSpec, FeatureSelection, ScoringSpec
from monosemy.specs.parts import IndexingSpec

TIERS = ("random", "same_token", "neighbour")
VOCABULARY, WIDTH = 49_152, 64
CONTEXT = 256
"""delphi's context; its windows of 32 tokens are cut out of it."""
UNUSED = ("faiss", "sentence_transformers", "blobfile", "asyncer", "sparsify", "nnsight")


class SyntheticSAE(torch.nn.Module):
    """Each feature fires by chance at a rate of its own, more often on tokens of its own."""

    def __init__(self, n_features: int, active: float, floor: float) -> None:
        super().__init__()
        self.d_sae, self.d_in, self.d_out = n_features, WIDTH, WIDTH
        rates = (1.0 + np.arange(n_features)) ** -0.7
        self.rates = np.clip(rates * active / rates.sum(), floor, 0.2)
        self.k = min(n_features, int(4 * active) + 8)
        self.W_dec = torch.nn.Parameter(torch.randn(n_features, WIDTH))
        self.b_dec = torch.nn.Parameter(torch.zeros(WIDTH))

    def decoder_rows(self, latents: slice) -> torch.Tensor:
        return self.W_dec[latents].detach()

    def encode(self, x_ND: torch.Tensor, budget: int | None = None) -> Codes:
        n, k = len(x_ND), min(self.d_sae, budget or self.k)
        rng = np.random.default_rng(int(x_ND[0, 0]))
        token = x_ND[:, 1].numpy().astype(np.int64)
        # One chance per (token, feature) holds for every occurrence, one for each occurrence.
        own = (token[:, None] * 0.6180339887 + np.arange(self.d_sae) * 0.7548776662) % 1.0
        chance = np.where(rng.random((n, 1)) < 0.5, own, rng.random((n, self.d_sae)))
        fires = chance < self.rates
        values = np.where(fires, rng.gamma(2.0, 1.0, fires.shape) + 0.01, 0.0)
        largest, indices = torch.from_numpy(values.astype(np.float32)).topk(k, dim=1)
        return Codes(indices, largest)


def prepare(folder: Path, options: argparse.Namespace) -> None:
    """The token store's arrays and the index, as files."""
    torch.manual_seed(0)
    store = synthetic_store(options.tokens, VOCABULARY)
    # Zipf and Mandelbrot's law: the commonest token is 3 % of the text, as in English.
    share = np.cumsum(1 / (np.arange(VOCABULARY) + 2.7))
    rng = np.random.default_rng(1)
    drawn = [rng.random(min(2**20, store.n_tokens - i)) for i in range(0, store.n_tokens, 2**20)]
    store.tokens = np.concatenate(
        [np.searchsorted(share, part * share[-1]).astype(np.uint32) for part in drawn]
    )
    for name in ("tokens", "row_start", "row_document", "document_hash"):
        np.save(folder / f"{name}.npy", getattr(store, name))
    floor = 1000 / options.tokens
    sae: Any = SyntheticSAE(options.features, options.active, floor)
    source: Any = SyntheticSource(store, WIDTH)
    host: Any = SyntheticHost(WIDTH, 1024)
    host.d_vocab = VOCABULARY
    host.unembedding = lambda: (torch.randn(WIDTH, VOCABULARY), torch.ones(WIDTH))
    hosted = HostedSAE.at(host, sae, source.site)
    build_index(hosted, source, store, folder / "index", IndexingSpec())


def open_store(folder: Path) -> Any:
    names = ("tokens", "row_start", "row_document", "document_hash")
    arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in names}
    return SimpleNamespace(
        text_id="synthetic",
        folder=folder,
        n_tokens=len(arrays["tokens"]),
        token_bytes=lambda: TokenBytes([f" t{i}".encode() for i in range(VOCABULARY)]),
        **arrays,
    )


def ours(
    folder: Path, _: str, tiers: tuple[str, ...] = ("random",)
) -> tuple[Callable[[int], int], int]:
    """(what is done for one feature, features); the token positions are built beforehand."""
    store = open_store(folder)
    texts = FeatureTexts(IndexReader(folder / "index"), store)
    explaining = ExplanationSpec(examples=40, features=FeatureSelection(seed=0))
    scoring = ScoringSpec(positives=50, negatives=50)
    if len(tiers) > 1:
        assert texts._token_positions is not None

    judge = RehearsalJudge(explaining.judge).as_judge()  # never asked
    explainer = create_explainer(explaining, Tools(judge=judge))

    def one(feature: int) -> int:
        shown = texts.to_explain(feature, explaining, explainer)
        scored = texts.to_score(feature, scoring, tiers)
        return len(shown.activating) + len(scored.with_tiers())

    return one, texts.reader.n_features


def delphis(folder: Path, site: str) -> tuple[Callable[[int], int], int]:
    """The same of the published package, on the same postings (cut to whole contexts)."""
    constructor, sampler, config, latents = import_delphi(site)
    store, reader = open_store(folder), IndexReader(folder / "index")
    whole = store.n_tokens // CONTEXT * CONTEXT
    tokens = torch.from_numpy(store.tokens[:whole].astype(np.int64)).reshape(-1, CONTEXT)
    decoder = SimpleNamespace(batch_decode=lambda ids: [""] * len(ids))

    def one(feature: int) -> int:
        positions, values = reader.postings(feature)
        reader.release(feature)
        inside = positions < whole
        places = torch.from_numpy(positions[inside])
        places = torch.stack([places // CONTEXT, places % CONTEXT, places * 0 + feature], 1)
        data = latents.ActivationData(places, torch.from_numpy(values[inside]))
        record = latents.LatentRecord(latents.Latent("", feature))
        begin = time.perf_counter()
        built = constructor(record, data, config.ConstructorConfig(), tokens, decoder)
        if built is not None:
            sampler(built, config.SamplerConfig(), decoder)
        clock.append(time.perf_counter() - begin)
        return 0 if built is None else len(built.train) + len(built.test) + len(built.not_active)

    clock: list[float] = []
    one.clock = clock  # type: ignore[attr-defined]
    return one, reader.n_features


def import_delphi(site: str) -> tuple[Any, Any, Any, Any]:
    """Its constructor, sampler and the modules of its settings and records."""
    sys.path.append(site)
    for name in UNUSED:
        try:
            importlib.import_module(name)
        except ImportError:
            module: Any = ModuleType(name)
            module.__getattr__ = lambda _name: object
            sys.modules[name] = module
    logging.disable(logging.WARNING)
    # The package's __init__ imports models and caches as well: only what is measured is loaded.
    package = ModuleType("delphi.latents")
    package.__path__ = [str(Path(site) / "delphi" / "latents")]
    sys.modules["delphi.latents"] = package
    names = ("latents.constructors", "latents.samplers", "config", "latents.latents")
    modules = [importlib.import_module(f"delphi.{name}") for name in names]
    return modules[0].constructor, modules[1].sampler, modules[2], modules[3]


SIDES = {"ours": ours, "ours, all tiers": partial(ours, tiers=TIERS), "delphi": delphis}


def work(side: str, folder: Path, site: str) -> None:
    """Prints seconds, growth of peak RSS (MiB) and examples of one side."""
    torch.set_num_threads(1)
    one, count = SIDES[side](folder, site)
    one(count - 1)  # imports and caches that are made once
    clock = getattr(one, "clock", None)
    if clock is not None:
        clock.clear()
    before = reset_peak()
    begin = time.perf_counter()
    examples = sum(one(feature) for feature in range(count))
    seconds = time.perf_counter() - begin if clock is None else sum(clock)
    grown = peak_mib() - before
    print(json.dumps({"seconds": seconds, "mib": grown, "examples": examples}))


def reset_peak() -> float:
    """Forgets the peak so far (Linux); the RSS of now, or that peak where it cannot be, in MiB."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak_mib()
    return _status("VmRSS")


def peak_mib() -> float:
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _status(name: str) -> float:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--active", type=float, default=2.0, help="of them, per token, on average")
    parser.add_argument("--delphi", default="", help="where eai-delphi was installed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        work(options.side, options.folder, options.delphi)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, options)
        reader = IndexReader(folder / "index")
        print(
            f"{options.tokens:,} tokens in rows of {ROW}, {reader.n_features:,} features, "
            f"{reader.n_postings:,} firings; densities {reader.density.min():.1e} "
            f"to {reader.density.max():.1e}, median {np.median(reader.density):.1e}"
        )
        figures = {
            side: measured(side, folder, options.delphi)
            for side in ("ours", "ours, all tiers", *(["delphi"] if options.delphi else []))
        }
    report(figures, options)


def measured(side: str, folder: Path, site: str) -> dict[str, float]:
    """``work`` in a process of its own."""
    line = [sys.executable, __file__, "--side", side, "--folder", str(folder), "--delphi", site]
    done = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True, env=os.environ)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def report(measured_figures: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    scale = 1000 / options.features
    for side, figures in measured_figures.items():
        each = figures["examples"] / options.features
        time_taken = f"{figures['seconds'] * scale:.2f} s per 1,000 features"
        print(f"{side:<16}{time_taken:>32}{figures['mib']:>9.1f} MiB{each:>8.0f} examples each")
    if "delphi" in measured_figures:
        for key in ("seconds", "mib"):
            ratio = measured_figures["delphi"][key] / max(measured_figures["ours"][key], 1e-9)
            print(f"delphi / ours, {key}: {ratio:.1f}")
    if options.json:
        about = f"{options.tokens:,} tokens, {options.features:,} features, 40 + 50 + 50 examples"
        for key, unit in (("seconds", "s/1000"), ("mib", "MiB")):
            factor = scale if key == "seconds" else 1.0
            values = {name: figures[key] * factor for name, figures in measured_figures.items()}
            mine = values.pop("ours")
            peers = {"eai-delphi": values["delphi"]} if "delphi" in values else {}
            append(
                options.json,
                Line(f"examples, {key}", about, mine, unit, peers, None, 1, machine()),
            )


if __name__ == "__main__":
    main()
