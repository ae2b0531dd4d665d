"""What surrounds the encoder's product on CUDA: by the Triton kernels and by tensor operations.

    python benchmarks/cuda_kernels.py [--tokens 8192] [--d-in 2304] [--d-sae 65536] [--k 64]

The unit is ``x @ W_enc`` in bfloat16.  Each part and the whole step take turns with the kernels on
and off (``MONOSEMY_NATIVE=0``) in one process on the same tensors; medians.  Without a card, small
sizes and ``TRITON_INTERPRET=1`` show that it runs; the times then mean nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch

from monosemy.native.gpu.device import ready
from monosemy.saes.registry import create
from monosemy.saes.selection import top_latents
from monosemy.saes.sparse_ops import row_products, scatter_rows, weighted_rows
from monosemy.specs import BatchTopKSpec, TopKSpec, TrainingSpec
from monosemy.training.trainer import SAETrainer

UNIT = "one product, bfloat16"


def parts(tokens: int, d_in: int, d_sae: int, k: int, device: str) -> dict[str, Callable[[], None]]:
    x = torch.randn(tokens, d_in, device=device)
    rows = torch.randn(d_sae, d_in, device=device) * d_in**-0.5
    bias = torch.zeros(d_sae, device=device)
    half, rows_half = x.bfloat16(), rows.bfloat16()
    indices, values = top_latents(x, rows.T, bias, k, torch.bfloat16)
    work: dict[str, Callable[[], object]] = {
        UNIT: lambda: half @ rows_half.T,
        "product and top-k": lambda: top_latents(half, rows_half.T, bias, k, torch.bfloat16),
        "decode": lambda: weighted_rows(indices, values, rows),
        "decode, bfloat16 rows": lambda: weighted_rows(indices, values.bfloat16(), rows_half),
        "gradient of the codes": lambda: row_products(indices, x, rows),
        "gradient of the rows": lambda: scatter_rows(indices, values, x, d_sae),
    }
    for spec in (TopKSpec(d_sae=d_sae, k=k), BatchTopKSpec(d_sae=d_sae, k=k)):
        sae = create(spec, d_in).to(device)
        sae.initialise(torch.Generator().manual_seed(0))
        sae.product_dtype = torch.bfloat16
        trainer = SAETrainer(sae, TrainingSpec())
        work[f"{spec.architecture}, whole step"] = lambda own=trainer: own.step(x, 1, 1e-3, 1000)  # type: ignore[misc]
    return work  # type: ignore[return-value]


def seconds(work: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (
        ("tokens", 8192), ("d-in", 2304), ("d-sae", 65_536), ("k", 64), ("runs", 9)
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    os.environ["MONOSEMY_NATIVE"] = "1"
    if not ready(torch.zeros(0, device=device).device):
        parser.exit(1, "The Triton kernels do not run here (see monosemy/native/gpu/device.py).\n")
    table = medians(
        parts(asked.tokens, asked.d_in, asked.d_sae, asked.k, device), asked.runs, device
    )
    unit = table[UNIT, "1"]
    where = torch.cuda.get_device_name() if device == "cuda" else "interpreter: meaningless times"
    print(f"{where}; {vars(asked)}; unit {1e3 * unit:.3f} ms\n| part | kernels | without |")
    for name in dict.fromkeys(name for name, _ in table):
        print(f"| {name} | {table[name, '1'] / unit:.2f} | {table[name, '0'] / unit:.2f} |")


def medians(
    work: dict[str, Callable[[], None]], runs: int, device: str
) -> dict[tuple[str, str], float]:
    """Seconds of each part with the kernels ("1") and without ("0"), taking turns."""
    before = os.environ.get("MONOSEMY_NATIVE", "1")
    times: dict[tuple[str, str], list[float]] = {(n, s): [] for n in work for s in "10"}
    for run in range(runs + 1):
        for name, switch in times:
            os.environ["MONOSEMY_NATIVE"] = switch
            taken = seconds(work[name], device)
            if run:  # the first compiles
                times[name, switch].append(taken)
    os.environ["MONOSEMY_NATIVE"] = before
    return {key: statistics.median(taken) for key, taken in times.items()}


if __name__ == "__main__":
    main()
