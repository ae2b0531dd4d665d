"""What the packing policies cost, and what they do to special tokens.

    python benchmarks/packing.py [speed] [--chats chats.jsonl.gz] [--model ...] [--context 512]
    python benchmarks/packing.py effect [--chats chats.jsonl.gz] [--tokens 30000] [--layer 4]

Without ``--chats`` the dialogues are made of the Wikipedia sample: about a title, some paragraphs.
``speed``: dialogues and tokens per second of one pass over the same dialogues, each policy in turn
in every round; and how far block-diagonal activations are from those of each dialogue alone.
``effect``: TopK SAEs trained on equal tokens of ``packed`` and of ``chat_block_diagonal`` rows of
the same dialogues, measured on held-out dialogues run alone (FAST against its BT(F)).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch

from monosemy import stages
from monosemy.data.store import TokenStore, prepare_text
from monosemy.data.wikipedia import read_wikipedia_sample
from monosemy.evals.special_tokens import special_token_metrics
from monosemy.evals.splice import reconstruct
from monosemy.models.activations import ActivationSource
from monosemy.models.columns import Columns
from monosemy.models.host import HostModel
from monosemy.models.packing import check_blocks, reading_order
from monosemy.specs import ModelSpec, TextSpec, TopKSpec, TrainingSpec, TrainRun
from monosemy.workspace import Workspace

POLICIES = ("chat", "chat_block_diagonal", "packed")
ROUNDS = 3


def made_up_chats(file: Path) -> str:
    """Dialogues of very different lengths: one to four paragraphs of an article."""
    lines = []
    chance = np.random.default_rng(0)
    for title, article, _ in read_wikipedia_sample():
        paragraphs = [part for part in article.split("\n\n") if len(part) > 100]
        while paragraphs:
            count = int(chance.integers(1, 5))
            answer, paragraphs = "\n\n".join(paragraphs[:count]), paragraphs[count:]
            question = {"role": "user", "content": f"Tell me about {title}."}
            lines.append(json.dumps([question, {"role": "assistant", "content": answer}]))
    chance.shuffle(lines)
    file.write_text("".join(f'{{"messages": {line}}}\n' for line in lines), encoding="utf-8")
    return str(file)


def text(arguments: argparse.Namespace, packing: str) -> TextSpec:
    return TextSpec.model_validate(
        {
            "source": arguments.chats,
            "packing": packing,
            "context_size": arguments.context,
            "max_tokens": arguments.tokens,
        }
    )


def one_pass(store: TokenStore, source: ActivationSource, lines: int) -> float:
    """Seconds for all rows, read in random order as training does."""
    read, rows = reading_order(source, store, np.arange(store.n_rows))
    rows = np.random.default_rng(0).permutation(rows)
    start = time.perf_counter()
    for at in range(0, len(rows), lines):
        read.rows(rows[at : at + lines])  # ends on the CPU, so nothing is still under way
    return time.perf_counter() - start


def speed(arguments: argparse.Namespace, host: HostModel, workspace: Workspace) -> None:
    site = f"blocks.{arguments.layer}.hook_resid_post"
    check_blocks(host)
    stores = {name: prepare_text(text(arguments, name), host, workspace) for name in POLICIES}
    sources = {name: ActivationSource(host, store, site, None) for name, store in stores.items()}
    seconds: dict[str, list[float]] = {name: [] for name in POLICIES}
    for _ in range(ROUNDS):
        for name in POLICIES:
            seconds[name].append(one_pass(stores[name], sources[name], arguments.rows))
    base = statistics.median(seconds["chat"])
    print(f"{site}, {host.dtype} on {host.device}, {torch.get_num_threads()} threads, median of 3")
    print(f"{'policy':22}{'lines':>8}{'full':>8}{'dialogues/s':>13}{'tokens/s':>10}{'ratio':>7}")
    for name, store in stores.items():
        taken = statistics.median(seconds[name])
        full = store.n_tokens / (store.n_sequences * arguments.context)
        print(
            f"{name:22}{store.n_sequences:8}{full:8.1%}{store.n_documents / taken:13.1f}"
            f"{store.n_tokens / taken:10.0f}{base / taken:7.2f}"
        )
    rows = np.arange(min(64, stores["chat"].n_rows))
    alone_ND, _ = sources["chat"].rows(rows)
    blocks_ND, _ = sources["chat_block_diagonal"].rows(rows)
    off = (alone_ND - blocks_ND).norm(dim=1) / alone_ND.norm(dim=1)
    print(f"block-diagonal against alone, share of the norm: at most {float(off.max()):.1e}")


def effect(arguments: argparse.Namespace, host: HostModel, workspace: Workspace) -> None:
    site = f"blocks.{arguments.layer}.hook_resid_post"
    held = prepare_text(text(arguments, "chat_block_diagonal"), host, workspace)
    print(f"{'trained on':22}{'seed':>5}{'MSE':>9}{'MSE_st':>9}{'FVU':>9}{'FVU_st':>9}")
    for packing in ("packed", "chat_block_diagonal"):
        for seed in range(2):
            run = TrainRun(
                model=ModelSpec(name=arguments.model, dtype="float32"),
                text=text(arguments, packing),
                site=site,
                sae=TopKSpec(d_sae=2048, k=32),
                training=TrainingSpec(
                    tokens=2 * arguments.tokens,
                    batch_tokens=1024,
                    buffer_tokens=32_768,
                    seed=seed,
                    host_rows=8,
                    frozen_decoder_baseline=False,
                ),
            )
            folder = workspace.folder("saes", f"{packing}-{seed}")
            stages.train(run, folder, folder / "run", workspace, lambda _spec: host)
            sae = stages.SaeFolder(folder, workspace)
            source = stages.activations(run, [site], host, held, workspace)
            rows = held.heldout_rows()
            metrics = special_token_metrics(
                {"sae": reconstruct(sae.sae)},
                source,
                held,
                rows,
                10**9,
                columns=Columns.of(sae.spec.hooks, source.columns, sae.max_norm),
            )["sae"]
            whole, special = metrics["all"], metrics["special"]
            print(
                f"{packing:22}{seed:5}{whole['mse_per_document']:9.3f}"
                f"{special['mse_per_document']:9.3f}{whole['fvu']:9.4f}{special['fvu']:9.4f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("speed", "effect"), nargs="?", default="speed")
    parser.add_argument("--chats", help="a .jsonl, .jsonl.gz or .parquet file of dialogues")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--layer", type=int, default=4)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=30_000)
    parser.add_argument("--rows", type=int, default=16, help="rows or lines of one forward")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        arguments.chats = arguments.chats or made_up_chats(Path(folder) / "chats.jsonl")
        host = HostModel.load(ModelSpec(name=arguments.model, dtype="float32"), workspace)
        {"speed": speed, "effect": effect}[arguments.what](arguments, host, workspace)


if __name__ == "__main__":
    main()
