"""A training step of a cross-layer transcoder, beside the sum of its products.

    python benchmarks/cross_layer_step.py --layers 6 --width 384 --latents 2048

The products are those that no exact step can do without: the encoders' (dense), the decode with its
two gradients, the encoders' gradient (sparse), over the very entries of the step, each on its own.
A step has besides them the selection, the loss, the norms and the optimiser.  Medians over rounds
in which step and products take turns; CPU seconds of one thread, which a busy machine changes
little.  Memory is the process's peak over what it had before the SAE was made, beside the
parameters' 16 bytes each (weight, gradient, two moments).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from monosemy.saes.base import StepInfo
from monosemy.saes.clt import BatchTopKCLT
from monosemy.saes.ragged import Entries, entry_sums, entry_values
from monosemy.saes.registry import create
from monosemy.specs import CLTSpec, TrainingSpec
from monosemy.training.trainer import SAETrainer

WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--latents", type=int, default=2048, help="of each layer")
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--k", type=int, default=48, help="over all layers")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(measured(options), indent=1))


def measured(options: argparse.Namespace) -> dict[str, float]:
    wide = options.layers * options.width
    generator = torch.Generator().manual_seed(0)
    x_ND = torch.randn(options.batch, wide, generator=generator)
    y_ND = torch.randn(options.batch, wide, generator=generator)
    before = peak_bytes()
    spec = CLTSpec(places=options.layers, d_sae=options.layers * options.latents, k=options.k)
    sae = create(spec, wide, wide)
    assert isinstance(sae, BatchTopKCLT)
    sae.initialise(generator)
    trainer = SAETrainer(sae, TrainingSpec())
    number = 0

    def step() -> None:
        nonlocal number
        trainer.step(x_ND, number, 1e-4, 1000, y_ND)
        number += 1

    for _ in range(WARM_UP):
        step()
    taken = peak_bytes() - before
    parts = products(sae, x_ND, y_ND)
    seconds: dict[str, list[float]] = {"step": [], **{name: [] for name in parts}}
    for _ in range(options.rounds):
        seconds["step"].append(cpu_seconds(step))
        for name, part in parts.items():
            seconds[name].append(cpu_seconds(part))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    whole = sum(value for name, value in medians.items() if name != "step")
    parameters = sum(value.numel() for value in sae.parameters())
    return {
        **{f"{name}_seconds": round(value, 4) for name, value in medians.items()},
        "products_seconds": round(whole, 4),
        "step_over_products": round(medians["step"] / whole, 3),
        "parameters": parameters,
        "peak_over_16_bytes_each": round(taken / (16 * parameters), 3),
        "dense_would_be_parameters": 2 * wide * sae.d_sae,
    }


def products(sae: BatchTopKCLT, x_ND: Tensor, y_ND: Tensor) -> dict[str, Callable[[], object]]:
    """The products by name, over the entries that a step selects."""
    entries = sae.training_entries(x_ND, StepInfo(0, 10, torch.zeros(0, dtype=torch.int64)))
    entries = Entries(entries.rows, entries.latents, entries.values.detach())
    z_NLd = sae.encoder_input(x_ND).detach()
    size, n = sae.size, len(x_ND)
    parts = sae.decoder.split(entries)
    weights = [matrix.detach() for matrix in sae.decoder.matrices]
    columns = [sae.W_enc.detach()[:, i * size : (i + 1) * size] for i in range(sae.layers)]

    def encode() -> None:
        for layer, weight in enumerate(columns):
            torch.mm(z_NLd[:, layer], weight)

    def decode_backward() -> None:
        for part, weight in zip(parts, weights, strict=True):
            values, rows = part.values.requires_grad_(), weight.requires_grad_()
            sums = entry_sums(part._replace(values=values), rows, n)
            torch.autograd.grad(sums, (values, rows), y_ND[:, -sums.shape[1] :].contiguous())
            values.requires_grad_(False)
            rows.requires_grad_(False)

    def encode_backward() -> None:
        W_enc, b_enc = sae.W_enc, sae.b_enc
        values = entry_values(entries, z_NLd, W_enc, b_enc).values
        torch.autograd.grad(values, (W_enc, b_enc), torch.ones_like(values))

    return {
        "encode": encode,
        "decode_and_gradients": decode_backward,
        "encoder_gradient": encode_backward,
    }


def cpu_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
