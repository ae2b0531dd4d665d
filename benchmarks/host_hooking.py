"""What reading activations costs: our hooks, TransformerBridge, Hugging Face's own output.

    python benchmarks/host_hooking.py [--tiny] [--layer 9] [--batch 4] [--length 128]

Each way reads ``blocks.L.hook_resid_post`` of the same random tokens, in one process, one after the
other in every round (so that a noisy machine slows all of them), and the medians of five rounds are
printed.  SmolLM2-135M comes out of its package; the tiny model shows the fixed cost per call.
"""

from __future__ import annotations

import argparse
import copy
import os
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
from transformers import LlamaConfig, LlamaForCausalLM

from monosemy.models.host import HostModel
from monosemy.specs import ModelSpec
from monosemy.workspace import Workspace

ROUNDS = 5
OURS = "monosemy capture"


def ways(host: HostModel, layer: int, ids_BS: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """Name -> a call that returns the activations ``[B, S, d_model]``."""
    from transformer_lens.model_bridge import TransformerBridge

    site = f"blocks.{layer}.hook_resid_post"
    mask_BS = torch.ones_like(ids_BS)
    # The bridge rebuilds the model it is given, so it gets its own.
    bridge = TransformerBridge.boot_transformers(
        host.name, hf_model=copy.deepcopy(host.model), tokenizer=host.tokenizer, device="cpu"
    )

    def stopped() -> Any:
        _, cache = bridge.run_with_cache(ids_BS, names_filter=[site], stop_at_layer=layer + 1)
        return cache[site]

    def whole() -> Any:
        _, cache = bridge.run_with_cache(ids_BS, names_filter=[site])
        return cache[site]

    def hidden_states() -> Any:
        out = host.model.base_model(input_ids=ids_BS, use_cache=False, output_hidden_states=True)
        return out.hidden_states[layer + 1]

    return {
        OURS: lambda: host.capture(ids_BS, mask_BS, [site])[site],
        "TransformerBridge, stop_at_layer": stopped,
        "TransformerBridge, whole forward": whole,
        "HF output_hidden_states, no logits": hidden_states,
    }


def compare(title: str, host: HostModel, layer: int, ids_BS: torch.Tensor) -> None:
    """Prints one table: median seconds, tokens per second, ratio to ours, largest difference."""
    calls = ways(host, layer, ids_BS)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    values: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for name, call in calls.items():
            values[name] = call().float()
        for _ in range(ROUNDS):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
    ours = statistics.median(seconds[OURS])
    scale = values[OURS].abs().max()
    print(
        f"\n{title}: {tuple(ids_BS.shape)} tokens, layer {layer} of {host.n_layers}, {host.dtype}"
    )
    print(f"{'way':36} {'median ms':>10} {'tokens/s':>10} {'x ours':>7} {'max diff':>9}")
    for name in calls:
        median = statistics.median(seconds[name])
        difference = float((values[name] - values[OURS]).abs().max() / scale)
        rate = ids_BS.numel() / median
        print(f"{name:36} {median * 1e3:10.1f} {rate:10.0f} {median / ours:7.2f} {difference:9.1e}")


def import_cost(code: str) -> tuple[float, float]:
    """Median seconds and megabytes that a fresh process needs for ``code``."""
    measure = (
        "import time, resource; start = time.perf_counter()\n"
        f"{code}\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "print(time.perf_counter() - start, peak)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", measure], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    costs = [tuple(map(float, run.stdout.split()[-2:])) for run in runs]
    return statistics.median(f[0] for f in costs), statistics.median(f[1] for f in costs)


def tiny_host(tokenizer: Any) -> HostModel:
    """30 blocks of width 64: almost nothing to compute, so what is left is the cost of a call."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=30,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    config.architectures = ["LlamaForCausalLM"]
    torch.manual_seed(0)
    return HostModel.wrap(LlamaForCausalLM(config), tokenizer, "tiny-llama")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tiny", action="store_true", help="leave SmolLM2's own forwards out")
    parser.add_argument("--layer", type=int, default=9)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--workspace", type=Path, help="keeps the exported model for the next time")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for title, code in (
        ("torch + transformers' Llama", "from transformers import LlamaForCausalLM"),
        ("monosemy.models.host", "import monosemy.models.host"),
        ("TransformerBridge", "from transformer_lens.model_bridge import TransformerBridge"),
    ):
        cost, peak = import_cost(code)
        print(f"import {title:30} {cost:6.2f} s {peak:7.0f} MB")
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(options.workspace or scratch)
        host = HostModel.load(ModelSpec(device="cpu"), workspace)
        shape = (options.batch, options.length)
        ids_BS = torch.randint(3, host.d_vocab, shape, generator=torch.Generator().manual_seed(0))
        if not options.tiny:
            compare("SmolLM2-135M", host, options.layer, ids_BS)
        small = tiny_host(host.tokenizer)
        compare("30 blocks of width 64", small, options.layer, ids_BS[:1, :8])


if __name__ == "__main__":
    main()
