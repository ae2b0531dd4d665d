"""One optimiser step of a TopK SAE: ours beside SAELens', in units of one dense product.

    python benchmarks/training_step.py [--d-sae 4096] [--tokens 2048] [--runs 7]

The unit is ``x @ W_enc`` in float32, the floor of an exact float32 step.  All candidates take turns
in one process on the same batch; medians.  Steps include forward, backward, clipping, Adam, and for
ours the projection and renormalisation of the decoder.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from sae_lens.saes.sae import TrainStepInput
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

from monosemy.saes.registry import create
from monosemy.specs import TopKSpec, TrainingSpec
from monosemy.training.trainer import SAETrainer

D_IN, K = 576, 32


def our_step(
    x_ND: torch.Tensor, d_sae: int, dtype: torch.dtype, frozen: bool
) -> Callable[[], None]:
    sae = create(TopKSpec(d_sae=d_sae, k=K), D_IN)
    sae.initialise(torch.Generator().manual_seed(0))
    sae.product_dtype = dtype
    trainer = SAETrainer(sae, TrainingSpec(), frozen_decoder=frozen)
    return lambda: trainer.step(x_ND, 1, 1e-3)


def saelens_step(x_ND: torch.Tensor, d_sae: int) -> Callable[[], None]:
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=D_IN, d_sae=d_sae, k=K))
    optimiser = torch.optim.Adam(sae.parameters(), lr=3e-4)  # as its trainer makes it

    def step() -> None:
        given = TrainStepInput(x_ND, {}, None, 1, False)
        sae.training_forward_pass(given).loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--d-sae", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(0)
    x_ND = torch.randn(options.tokens, D_IN)
    W = torch.randn(D_IN, options.d_sae) * 0.04
    half, W_half = x_ND.bfloat16(), W.bfloat16()
    candidates: dict[str, Callable[[], object]] = {
        "one product, float32": lambda: x_ND @ W,
        "one product, bfloat16": lambda: half @ W_half,
        "ours, bfloat16 product": our_step(x_ND, options.d_sae, torch.bfloat16, False),
        "ours, float32 product": our_step(x_ND, options.d_sae, torch.float32, False),
        "ours, bfloat16, frozen decoder": our_step(x_ND, options.d_sae, torch.bfloat16, True),
        "SAELens TopK": saelens_step(x_ND, options.d_sae),
    }
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for run in range(options.runs + 1):
        for name, step in candidates.items():
            start = time.perf_counter()
            step()
            if run:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    unit = statistics.median(seconds["one product, float32"])
    print(
        f"n={options.tokens} d={D_IN} F={options.d_sae} k={K}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, median of {options.runs}"
    )
    print(f"{'':<32}{'ms':>9}{'products':>10}{'tokens/s':>12}")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(
            f"{name:<32}{median * 1e3:>9.1f}{median / unit:>10.2f}{options.tokens / median:>12,.0f}"
        )


if __name__ == "__main__":
    main()
