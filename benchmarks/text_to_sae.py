"""From a text to a trained SAE: ours and SAELens' runner, equal settings, side by side.

    python benchmarks/text_to_sae.py [--tokens 40960] [--d-sae 16384] [--runs 3] [--dtype float32]
    python benchmarks/text_to_sae.py --device cuda --dtype bfloat16 --tokens 262144

Both read the same text through SmolLM2-135M at ``blocks.9.hook_resid_post`` (contexts of 128,
batches of 2,048 tokens, a buffer of 32,768 tokens, TopK k=32, Adam 1e-3, no evaluation, nothing
cached).  Each measurement is a process of its own, the two take turns, medians are printed.  The
clock runs from the loaded host model to the trained SAE; peak memory is that of the process.  Ours
also says which share of its time the host's forward and the SAE's step are.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from results import Line, append, machine

SITE, CONTEXT, BATCH, BUFFER, K = "blocks.9.hook_resid_post", 128, 2048, 32_768, 32


def ours(options: argparse.Namespace) -> dict[str, float]:
    from monosemy import stages
    from monosemy.models.host import HostModel
    from monosemy.specs import TrainRun, parse_spec
    from monosemy.training.trainer import SAETrainer
    from monosemy.workspace import Workspace

    home = Path(tempfile.mkdtemp())
    spec = parse_spec(
        {
            "kind": "train",
            "model": {"dtype": options.dtype, "device": options.device},
            "text": {"max_tokens": 3 * options.tokens, "context_size": CONTEXT},
            "site": SITE,
            "sae": {"d_sae": options.d_sae, "k": K},
            "training": {
                "tokens": options.tokens,
                "batch_tokens": BATCH,
                "buffer_tokens": BUFFER,
                "host_rows": 32,
                "cache_activations": False,
                "frozen_decoder_baseline": False,
                "checkpoint_seconds": 1e9,
            },
        }
    )
    assert isinstance(spec, TrainRun)
    host = HostModel.load(spec.model, Workspace(options.models))
    parts: dict[str, float] = {}
    timed(HostModel, "capture", parts)
    timed(SAETrainer, "step", parts)
    start = time.perf_counter()
    stages.train(spec, home / "sae", home / "run", Workspace(home), lambda _: host)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, **parts}


def timed(owner: Any, name: str, parts: dict[str, float]) -> None:
    """Adds up what the calls of a method cost."""
    plain: Callable[..., Any] = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = plain(*args, **kwargs)
        parts[name] = parts.get(name, 0.0) + time.perf_counter() - start
        return result

    setattr(owner, name, call)


def saelens(options: argparse.Namespace) -> dict[str, float]:
    from datasets import Dataset
    from sae_lens import (
        LanguageModelSAERunnerConfig,
        LanguageModelSAETrainingRunner,
        LoggingConfig,
        TopKTrainingSAEConfig,
    )
    from transformer_lens.model_bridge import TransformerBridge

    from monosemy.data.sources import open_text
    from monosemy.models.host import HostModel
    from monosemy.specs import ModelSpec, TextSpec
    from monosemy.workspace import Workspace

    host = HostModel.load(
        ModelSpec(dtype=options.dtype, device=options.device), Workspace(options.models)
    )
    bridge = TransformerBridge.boot_transformers(
        host.name, hf_model=host.model, tokenizer=host.tokenizer, device=options.device
    )
    texts = [document.text for document in open_text(TextSpec())]
    config = LanguageModelSAERunnerConfig(
        sae=TopKTrainingSAEConfig(d_in=576, d_sae=options.d_sae, k=K, device=options.device),
        device=options.device,
        model_name=host.name,
        hook_name=SITE,
        is_dataset_tokenized=False,
        streaming=False,
        context_size=CONTEXT,
        n_batches_in_buffer=BUFFER // CONTEXT,
        training_tokens=options.tokens,
        store_batch_size_prompts=32,
        train_batch_size_tokens=BATCH,
        lr=1e-3,
        n_eval_batches=0,
        logger=LoggingConfig(log_to_wandb=False),
        checkpoint_path=None,
        output_path=None,
        verbose=False,
    )
    start = time.perf_counter()
    runner = LanguageModelSAETrainingRunner(
        config, override_dataset=Dataset.from_dict({"text": texts}), override_model=bridge
    )
    runner.run()
    return {"seconds": time.perf_counter() - start}


def child(options: argparse.Namespace) -> None:
    figures = ours(options) if options.child == "ours" else saelens(options)
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if options.device == "cuda":
        figures["peak_card_mb"] = torch.cuda.max_memory_allocated() / 2**20
    figures["threads"] = torch.get_num_threads()
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=40_960)
    parser.add_argument("--d-sae", type=int, default=16_384)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--models", type=Path, help="keeps the exported model for the next time")
    parser.add_argument("--json", type=Path, help="Append the table's lines to this file.")
    parser.add_argument("--child", choices=["ours", "saelens"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    models = options.models or Path(tempfile.mkdtemp())
    figures: dict[str, list[dict[str, float]]] = {"ours": [], "saelens": []}
    for _ in range(options.runs):
        for name, results in figures.items():
            results.append(measure(name, options, models))
            print(f"{name}: {results[-1]['seconds']:.1f} s", file=sys.stderr)
    report(options, figures)


def measure(name: str, options: argparse.Namespace, models: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", name, "--models", str(models)]
    command += ["--tokens", str(options.tokens), "--d-sae", str(options.d_sae)]
    command += ["--dtype", options.dtype, "--device", options.device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def report(options: argparse.Namespace, figures: dict[str, list[dict[str, float]]]) -> None:
    middle = {
        name: {key: statistics.median(r[key] for r in results) for key in results[0]}
        for name, results in figures.items()
    }
    mine, theirs = middle["ours"], middle["saelens"]
    print(
        f"SmolLM2-135M {SITE} ({options.dtype}), F={options.d_sae}, k={K}, {options.tokens:,} "
        f"tokens, {mine['threads']:.0f} threads, medians of {options.runs}"
    )
    print(f"{'':<10}{'seconds':>9}{'tokens/s':>10}{'peak MB':>9}")
    for name, values in middle.items():
        rate = options.tokens / values["seconds"]
        print(f"{name:<10}{values['seconds']:>9.1f}{rate:>10,.0f}{values['peak_mb']:>9,.0f}")
    if options.json:
        work = f"SmolLM2-135M {SITE}, {options.dtype}, F={options.d_sae}, {options.tokens} tokens"
        for name, key, unit in (("text to SAE", "seconds", "s"), ("peak memory", "peak_mb", "MB")):
            peers = {"SAELens": theirs[key]}
            line = Line(name, work, mine[key], unit, peers, None, options.runs, machine())
            append(options.json, line)
    share = (mine["capture"] + mine["step"]) / mine["seconds"]
    print(
        f"ours is {theirs['seconds'] / mine['seconds']:.2f}x as fast with "
        f"{mine['peak_mb'] / theirs['peak_mb']:.2f} of the memory; host forward and SAE step are "
        f"{share:.0%} of its time ({mine['capture']:.1f} s and {mine['step']:.1f} s)"
    )


if __name__ == "__main__":
    main()
