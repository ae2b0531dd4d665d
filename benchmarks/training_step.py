"""One optimiser step: ours, SAELens, sparsify, dictionary_learning.

    python benchmarks/training_step.py [--d-sae 16384] [--tokens 2048] [--runs 5] [--json FILE]
    python benchmarks/training_step.py --others
    python benchmarks/training_step.py --transcoders

``--others`` times Matryoshka, ReLU, Gated and JumpReLU in place of TopK and BatchTopK;
``--transcoders`` transcoders beside SAEs of their size, SAELens' classes (which it does not train;
here with the loss of a ReLU SAE) and a plain dense step.  ``--clock cpu`` takes this process's
processor time, for machines that are busy otherwise.

The unit is ``x @ W_enc`` in float32, the floor of an exact float32 step.  All candidates take turns
in one process on the same batch; medians.  Steps are whole: forward, backward, clipping, optimiser,
statistics, and for ours the projection and renormalisation of the decoder.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from peers import (
    SPARSIFY,
    dictionary_learning,
    plain_transcoder,
    saelens,
    saelens_transcoder,
    sparsify,
)
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


def our_step(
    x_ND: torch.Tensor, spec: SAESpec, dtype: torch.dtype, target_ND: torch.Tensor | None = None
) -> Callable[[], None]:
    sae = create(spec, D_IN, None if target_ND is None else D_IN)
    sae.initialise(torch.Generator().manual_seed(0))
    sae.begin(x_ND)
    sae.product_dtype = dtype
    trainer = SAETrainer(sae, TrainingSpec())
    return lambda: trainer.step(x_ND, 1, 1e-3, target_ND=target_ND)


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


def transcoders(x_ND: torch.Tensor, d_sae: int) -> dict[str, Callable[[], object]]:
    W, target_ND = torch.randn(D_IN, d_sae) * 0.04, torch.randn(len(x_ND), D_IN)
    kinds: dict[str, tuple[type[SAESpec], dict[str, float]]] = {
        "TopK": (TopKSpec, {"k": K}),
        "BatchTopK": (BatchTopKSpec, {"k": K}),
        "Matryoshka": (MatryoshkaSpec, {"k": K}),
        "ReLU": (ReLUSpec, {"target_l0": K}),
        "JumpReLU": (JumpReLUSpec, {"target_l0": K}),
    }
    steps: dict[str, Callable[[], object]] = {UNIT: lambda: x_ND @ W}
    for name, (spec, options) in kinds.items():
        own = partial(spec, d_sae=d_sae, **options)
        steps[f"{name} SAE"] = our_step(x_ND, own(), torch.float32)
        steps[f"{name} transcoder"] = our_step(x_ND, own(), torch.float32, target_ND)
        steps[f"{name} skip transcoder"] = our_step(x_ND, own(skip=True), torch.float32, target_ND)
    steps["TopK transcoder, plain"] = plain_transcoder(x_ND, target_ND, d_sae, K)
    for name in ("transcoder", "skip_transcoder"):
        steps[f"ReLU {name}, SAELens"] = saelens_transcoder(name, x_ND, target_ND, d_sae)
    return steps


def medians(
    steps: dict[str, Callable[[], object]], runs: int, clock: Callable[[], float]
) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for run in range(runs + 1):
        for name, step in steps.items():
            start = clock()
            step()
            if run:  # the first round warms up
                seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def ratios(times: dict[str, float]) -> None:
    """Transcoders as multiples of the SAE of their size."""
    for name, median in times.items():
        kind, _, what = name.partition(" ")
        if what.endswith("transcoder"):
            print(f"{name}: {median / times[f'{kind} SAE']:.2f} times the SAE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--d-sae", type=int, default=16_384)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--others", action="store_true", help="The other architectures.")
    parser.add_argument("--transcoders", action="store_true", help="Transcoders beside SAEs.")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", type=Path, help="Append the table's lines to this file.")
    options = parser.parse_args()
    torch.manual_seed(0)
    x_ND = torch.randn(options.tokens, D_IN)
    chosen = transcoders if options.transcoders else others if options.others else candidates
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    times = medians(chosen(x_ND, options.d_sae), options.runs, clock)
    unit = times[UNIT]
    print(
        f"n={options.tokens} d={D_IN} F={options.d_sae} k={K}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, median of {options.runs}, {options.clock} clock"
    )
    print(f"{'':<38}{'ms':>9}{'products':>10}{'tokens/s':>12}")
    for name, median in times.items():
        rate = options.tokens / median
        print(f"{name:<38}{median * 1e3:>9.1f}{median / unit:>10.2f}{rate:>12,.0f}")
    if options.transcoders:
        ratios(times)
    elif options.json:
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
