"""One optimiser step: ours, SAELens, sparsify, dictionary_learning.

    python benchmarks/training_step.py [--d-sae 16384] [--tokens 2048] [--runs 5] [--json FILE]
    python benchmarks/training_step.py --others

``--others`` times Matryoshka, ReLU, Gated and JumpReLU in place of TopK and BatchTopK.

The unit is ``x @ W_enc`` in float32, the floor of an exact float32 step.  All candidates take turns
in one process on the same batch; medians.  Steps are whole: forward, backward, clipping, optimiser,
statistics, and for ours the projection and renormalisation of the decoder.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from peers import SPARSIFY, dictionary_learning, saelens, sparsify
from results import Line, append, machine

from monosemy.saes.registry import create
from monosemy.specs import (
    BatchTopKSpec,
    GatedSpec,
    JumpReLUSpec,
    MatryoshkaSpec,
    ReLUSpec,
    SAESpec,
    TopKSpec,
    TrainingSpec,
)
from monosemy.training.trainer import SAETrainer

D_IN, K = 576, 32
UNIT = "one product, float32"


def our_step(x_ND: torch.Tensor, spec: SAESpec, dtype: torch.dtype) -> Callable[[], None]:
    sae = create(spec, D_IN)
    sae.initialise(torch.Generator().manual_seed(0))
    sae.begin(x_ND)
    sae.product_dtype = dtype
    trainer = SAETrainer(sae, TrainingSpec())
    return lambda: trainer.step(x_ND, 1, 1e-3)


def candidates(x_ND: torch.Tensor, d_sae: int) -> dict[str, Callable[[], object]]:
    W = torch.randn(D_IN, d_sae) * 0.04
    half, W_half = x_ND.bfloat16(), W.bfloat16()
    topk, batchtopk = TopKSpec(d_sae=d_sae, k=K), BatchTopKSpec(d_sae=d_sae, k=K)
    return {
        UNIT: lambda: x_ND @ W,
        "one product, bfloat16": lambda: half @ W_half,
        "TopK, ours": our_step(x_ND, topk, torch.float32),
        "TopK, ours, bfloat16 product": our_step(x_ND, topk, torch.bfloat16),
        "TopK, SAELens": saelens("topk", x_ND, d_sae, K),
        f"TopK, {SPARSIFY}": sparsify(x_ND, d_sae, K),
        "TopK, dictionary_learning (formula)": dictionary_learning(x_ND, d_sae, K),
        "BatchTopK, ours": our_step(x_ND, batchtopk, torch.float32),
        "BatchTopK, SAELens": saelens("batchtopk", x_ND, d_sae, K),
    }


def others(x_ND: torch.Tensor, d_sae: int) -> dict[str, Callable[[], object]]:
    W = torch.randn(D_IN, d_sae) * 0.04
    specs: dict[str, SAESpec] = {
        "Matryoshka": MatryoshkaSpec(d_sae=d_sae, k=K),
        "ReLU": ReLUSpec(d_sae=d_sae, target_l0=K),
        "Gated": GatedSpec(d_sae=d_sae, target_l0=K),
        "JumpReLU": JumpReLUSpec(d_sae=d_sae, target_l0=K),
    }
    steps: dict[str, Callable[[], object]] = {UNIT: lambda: x_ND @ W}
    for name, spec in specs.items():
        steps[f"{name}, ours"] = our_step(x_ND, spec, torch.float32)
        steps[f"{name}, SAELens"] = saelens(spec.architecture, x_ND, d_sae, K)
    return steps


def medians(steps: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for run in range(runs + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if run:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--d-sae", type=int, default=16_384)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--others", action="store_true", help="The other architectures.")
    parser.add_argument("--json", type=Path, help="Append the table's lines to this file.")
    options = parser.parse_args()
    torch.manual_seed(0)
    x_ND = torch.randn(options.tokens, D_IN)
    chosen = others if options.others else candidates
    times = medians(chosen(x_ND, options.d_sae), options.runs)
    unit = times[UNIT]
    print(
        f"n={options.tokens} d={D_IN} F={options.d_sae} k={K}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, median of {options.runs}"
    )
    print(f"{'':<38}{'ms':>9}{'products':>10}{'tokens/s':>12}")
    for name, median in times.items():
        rate = options.tokens / median
        print(f"{name:<38}{median * 1e3:>9.1f}{median / unit:>10.2f}{rate:>12,.0f}")
    if options.json:
        work = f"whole step, n={options.tokens} d={D_IN} F={options.d_sae} k={K}, float32"
        for kind in sorted({name.split(", ")[0] for name in times if ", ours" in name}):
            peers = {
                name.removeprefix(f"{kind}, "): value / unit
                for name, value in times.items()
                if name.startswith(f"{kind}, ") and "ours" not in name
            }
            ours = times[f"{kind}, ours"] / unit
            line = Line(f"{kind} step", work, ours, "products", peers, 1.0, options.runs, machine())
            append(options.json, line)


if __name__ == "__main__":
    main()
