"""One whole training step of a matching pursuit SAE: ours beside SAELens'.

    python benchmarks/matching_pursuit.py [--d-sae 16384] [--tokens 2048] [--steps 32] [--runs 5]

Both make the same number of picks on the same weights and batch, in float32: before anything is
timed, loss and gradients are compared.  Steps include forward, backward, clipping and Adam, and for
ours the projection and renormalisation of the decoder, dead latents and running means.  Candidates
take turns in one process; medians.  ``--json FILE`` adds the result as one line.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from sae_lens.saes.matching_pursuit_sae import (
    MatchingPursuitTrainingSAE,
    MatchingPursuitTrainingSAEConfig,
)
from sae_lens.saes.sae import TrainStepInput

from monosemy.native.build import library
from monosemy.saes.base import StepInfo
from monosemy.saes.matching_pursuit import MatchingPursuitSAE
from monosemy.specs import MatchingPursuitSpec, TrainingSpec
from monosemy.training.trainer import SAETrainer

D_IN = 576


def batch(tokens: int) -> torch.Tensor:
    """Activations with a falling spectrum, ``[tokens, d_in]``."""
    scales = torch.logspace(0.5, -1, D_IN)
    mixing = torch.linalg.qr(torch.randn(D_IN, D_IN))[0]
    return (torch.randn(tokens, D_IN) * scales) @ mixing


def ours(d_sae: int, steps: int) -> MatchingPursuitSAE:
    sae = MatchingPursuitSAE(MatchingPursuitSpec(d_sae=d_sae, k=steps), D_IN)
    sae.initialise(torch.Generator().manual_seed(0))
    return sae


def theirs(weights: dict[str, torch.Tensor], steps: int) -> MatchingPursuitTrainingSAE:
    config = MatchingPursuitTrainingSAEConfig(
        d_in=D_IN,
        d_sae=len(weights["W_dec"]),
        max_iterations=steps,
        residual_threshold=0.0,
        stop_on_duplicate_support=False,
        decoder_init_norm=1.0,
    )
    sae = MatchingPursuitTrainingSAE(config)
    sae.load_state_dict(weights)
    return sae


def our_step(sae: MatchingPursuitSAE, x_ND: torch.Tensor) -> Callable[[], None]:
    trainer = SAETrainer(sae, TrainingSpec())
    return lambda: trainer.step(x_ND, 1, 3e-4)


def their_step(sae: MatchingPursuitTrainingSAE, x_ND: torch.Tensor) -> Callable[[], None]:
    optimiser = torch.optim.Adam(sae.parameters(), lr=3e-4)  # as its trainer makes it

    def step() -> None:
        given = TrainStepInput(x_ND, {}, None, 1, False)
        sae.training_forward_pass(given).loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def differences(
    a: MatchingPursuitSAE, b: MatchingPursuitTrainingSAE, x_ND: torch.Tensor
) -> dict[str, float]:
    """How far ours is from theirs, relative: the loss, and each gradient in the 2-norm."""
    info = StepInfo(0, 1, torch.zeros(0, dtype=torch.int64))
    loss = (a.training_pass(x_ND, x_ND, info).reconstruction - x_ND).pow(2).sum(-1).mean()
    loss.backward()
    their_loss = b.training_forward_pass(TrainStepInput(x_ND, {}, None, 1, False)).loss
    their_loss.backward()
    relative = {"loss": abs(float(loss.detach() / their_loss.detach()) - 1)}
    for name in ("W_dec", "b_dec"):
        mine, other = a.get_parameter(name).grad, b.get_parameter(name).grad
        assert mine is not None and other is not None
        relative[name] = float((mine - other).norm() / other.norm())
        a.get_parameter(name).grad = b.get_parameter(name).grad = None
    return relative


def timed(candidates: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for run in range(runs + 1):
        for name, step in candidates.items():
            start = time.perf_counter()
            step()
            if run:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--d-sae", type=int, default=16384)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--loop", action="store_true", help="also ours without compiled kernels")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    x_ND = batch(options.tokens)
    sae = ours(options.d_sae, options.steps)
    peer = theirs({k: v.clone() for k, v in sae.state_dict().items()}, options.steps)
    native = "compiled" if library("pursuit") else "tensor operations"
    errors = differences(sae, peer, x_ND)
    print("relative differences: " + ", ".join(f"{k} {v:.1e}" for k, v in errors.items()))
    if max(errors.values()) > 1e-5:
        raise SystemExit("the two do not compute the same")
    W = sae.W_dec.detach().T.clone()
    candidates: dict[str, Callable[[], object]] = {
        "one product": lambda: x_ND @ W,
        "ours": our_step(sae, x_ND),
        "SAELens": their_step(peer, x_ND),
    }
    if options.loop:
        step = our_step(ours(options.d_sae, options.steps), x_ND)

        def without() -> None:
            os.environ["MONOSEMY_NATIVE"] = "0"
            step()
            del os.environ["MONOSEMY_NATIVE"]

        candidates["ours, tensor operations"] = without
    seconds = timed(candidates, options.runs)
    report(options, native, {name: statistics.median(v) for name, v in seconds.items()})


def report(options: argparse.Namespace, native: str, medians: dict[str, float]) -> None:
    work = f"n={options.tokens} d={D_IN} F={options.d_sae} picks={options.steps}"
    threads = torch.get_num_threads()
    print(
        f"{work}, {threads} threads, {native}, torch {torch.__version__}, median of {options.runs}"
    )
    print(f"{'':<26}{'ms':>9}{'products':>10}{'tokens/s':>11}{'ours is faster by':>19}")
    for name, median in medians.items():
        print(
            f"{name:<26}{median * 1e3:>9.1f}{median / medians['one product']:>10.1f}"
            f"{options.tokens / median:>11,.0f}{median / medians['ours']:>18.2f}x"
        )
    if options.json:
        line = {
            "name": "matching pursuit step",
            "work": work,
            "ours": medians["ours"],
            "unit": "s",
            "peers": {"sae_lens": medians["SAELens"]},
            "floor": medians["one product"],
            "runs": options.runs,
            "machine": f"{platform.machine()}, {threads} threads, {native}",
        }
        with options.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
