"""Every architecture on data whose features are known: which find them, at one L0 and budget.

    python benchmarks/synthetic_quality.py [--steps 2000] [--only NAME ...] [--quick]

A SAELens synthetic model per seed: 4,096 features in 256 dimensions, two thirds of them in
hierarchies with exclusive siblings, correlated firing, power-law rates, about 16 active.  As in
SynthSAEBench the SAE has latents for a quarter of them and two thirds of their L0.  Per seed every
SAE sees the same batches and starts from the same generator.  Figures are on fresh samples
(``monosemy.evals.synthetic.metrics``): mean over seeds and standard deviation.  Writes
``benchmarks/synthetic_quality.json`` after every run and, with the same options, goes on from it;
no run starts after ``--minutes``.  Steps/s is of training alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from sae_lens.synthetic import (
    HierarchyConfig,
    LowRankCorrelationConfig,
    SyntheticModel,
    SyntheticModelConfig,
    ZipfianFiringProbabilityConfig,
)
from torch import Tensor

from monosemy.evals.synthetic.metrics import TruthSums, absorption, mcc
from monosemy.evals.synthetic.referee import RefereeData, Sample
from monosemy.models.precision import choose_dtype
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import ARCHITECTURES, TrainingSpec
from monosemy.training.schedule import learning_rate
from monosemy.training.trainer import SAETrainer

RESULT = Path(__file__).with_suffix(".json")
FAMILY = ("topk", "batchtopk", "matryoshka")
COLUMNS = (
    *("mcc", "f1", "precision", "recall", "uniqueness", "dead_share", "shrinkage"),
    *("absorption", "fvu", "l0", "steps_per_second"),
    "chance_mcc",
)
CALIBRATION = 65_536
INITIALISATION = 10_007
"""Added to the seed: SAELens draws its features from a generator seeded with the very same number,
in the same shape, and an SAE initialised from that starts at the truth."""


def candidates(l0: int) -> dict[str, dict[str, Any]]:
    """Options by row name, all aimed at the same L0; a transcoder has nothing to reconstruct,
    those of several places have one here."""
    saes: dict[str, dict[str, Any]] = {}
    for name in ARCHITECTURES:
        fields = ARCHITECTURES[name].model_fields
        if name == "transcoder" or "places" in fields:
            continue
        by_k = "k" in fields
        saes[name] = {"k": l0} if by_k else {"target_l0": float(l0)}
        if name in FAMILY:
            saes[f"{name}, annealed"] = {"k": l0, "k_start": 3 * l0}
            saes[f"{name}, ISTA"] = {"k": l0, "ista_steps": 1}
            saes[f"{name}, both"] = {"k": l0, "k_start": 3 * l0, "ista_steps": 1}
    return saes


def synthetic_model(options: argparse.Namespace, seed: int) -> SyntheticModel:
    return SyntheticModel(
        SyntheticModelConfig(
            num_features=options.features,
            hidden_dim=options.width,
            seed=seed,
            firing_probability=ZipfianFiringProbabilityConfig(
                exponent=0.5, max_prob=0.4, min_prob=5e-4 * 4096 / options.features
            ),
            hierarchy=HierarchyConfig(
                total_root_nodes=max(1, options.features // 128),
                branching_factor=4,
                max_depth=3,
                mutually_exclusive_portion=1.0,
                compensate_probabilities=True,
            ),
            correlation=LowRankCorrelationConfig(rank=25, correlation_scale=0.1),
            std_firing_magnitudes=0.25,
        )
    )


class World:
    """One seed's data: training batches, kept, and samples to judge by."""

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        self.data = RefereeData(synthetic_model(options, seed), seed)
        self.train: list[Tensor] = [
            self.data.sample(options.batch).x_ND for _ in range(options.steps)
        ]
        self.parents = self.data.parent_of()
        self.judge: list[Sample] = [self.data.sample(1024) for _ in range(options.samples // 1024)]


def trained(
    spec: Any, world: World, training: TrainingSpec, seed: int
) -> tuple[SAE, dict[str, float]]:
    """The SAE, its steps per second and its MCC before the first step, which is chance."""
    batches = world.train
    sample = torch.cat(batches[: -(-CALIBRATION // len(batches[0]))])
    sae = create(spec, sample.shape[1])
    sae.initialise(torch.Generator().manual_seed(seed + INITIALISATION))
    chance = mcc(world.data.features_FD, sae.W_dec)
    sae.product_dtype = choose_dtype("auto", torch.device("cpu"))
    trainer = SAETrainer(sae, training)
    with torch.no_grad():
        sae.b_dec.copy_(sample.mean(0))
        sae.begin(sample[:8192])
    start = time.perf_counter()
    for step, x_ND in enumerate(batches):
        rate = learning_rate(step, len(batches), training)
        trainer.step(x_ND, step, rate, len(batches))
    seconds = time.perf_counter() - start
    trainer.readings()  # raises where training diverged
    with torch.no_grad():
        sae.calibrate(sample)
    sae.product_dtype = None
    figures = {"steps_per_second": len(batches) / seconds, "chance_mcc": chance}
    return sae.requires_grad_(False), figures


def judged(sae: SAE, world: World) -> dict[str, float]:
    sums = TruthSums(sae, world.data.features_FD)
    for sample in world.judge:
        sums.add(*sample)
    lean = absorption(sums.true_FD, sums.learned_GD, world.parents, sums.matching)
    return {**sums.metrics(), "absorption": lean}


def measured(
    name: str, changes: dict[str, Any], world: World, options: argparse.Namespace, run: list[Any]
) -> dict[str, float]:
    rate, seed = run
    dead_after = options.steps * options.batch // 8
    kind = ARCHITECTURES[name.split(",")[0]]
    spec = kind(d_sae=options.d_sae, dead_after_tokens=dead_after, **changes)
    training = TrainingSpec(learning_rate=rate)
    sae, figures = trained(spec, world, training, seed)
    return {**judged(sae, world), **figures}


def main() -> None:
    options = parsed()
    described = {
        **{name: value for name, value in vars(options).items() if name not in ("only", "minutes")},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    runs = kept(described)
    started = time.monotonic()
    plan = [(seed, options.rates[0]) for seed in options.seeds]
    plan += [(options.seeds[-1], rate) for rate in options.rates[1:]]
    worlds: dict[int, World] = {}
    print(heading())
    for seed, rate in plan:
        for name, changes in candidates(options.l0).items():
            key = f"{name} | {rate:g} | {seed}"
            unwanted = options.only and name not in options.only
            if unwanted or key in runs or time.monotonic() - started > 60 * options.minutes:
                continue
            if seed not in worlds:
                worlds = {seed: World(options, seed)}
            runs[key] = measured(name, changes, worlds[seed], options, [rate, seed])
            RESULT.write_text(json.dumps({"options": described, "runs": runs}, indent=1))
            print(line(key, [runs[key]]), flush=True)
    print_table(options, described, runs)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--features", type=int, default=4096)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--d-sae", type=int, default=1024)
    parser.add_argument("--l0", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--samples", type=int, default=16_384)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=[3e-3, 1e-3],
        help="The first with all seeds, the others with the last seed.",
    )
    parser.add_argument("--only", nargs="*", help="Rows to run; all by default.")
    parser.add_argument("--minutes", type=float, default=35.0)
    parser.add_argument("--quick", action="store_true", help="A smoke run of seconds.")
    options = parser.parse_args()
    if options.quick:
        options.features, options.d_sae, options.width, options.l0 = 256, 128, 64, 8
        options.steps, options.batch = 60, 256
        options.samples, options.seeds, options.rates = 2048, [0, 1], [3e-3]
    return options


def kept(described: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What was measured before with the same options."""
    if not RESULT.exists():
        return {}
    before = json.loads(RESULT.read_text())
    return before["runs"] if before["options"] == json.loads(json.dumps(described)) else {}


def heading() -> str:
    names = (
        "MCC",
        "F1",
        "prec",
        "recall",
        "unique",
        "dead",
        "shrink",
        "absorb",
        "FVU",
        "L0",
        "steps/s",
    )
    return f"{'':<32}" + "".join(f"{name:>14}" for name in (*names, "chance"))


def line(name: str, rows: list[dict[str, float]]) -> str:
    cells = []
    for column in COLUMNS:
        values = [row[column] for row in rows]
        digits = 1 if column in ("l0", "steps_per_second") else 3
        cell = f"{statistics.fmean(values):.{digits}f}"
        if len(values) > 1:
            cell += f" ±{statistics.stdev(values):.{digits}f}"
        cells.append(f"{cell:>14}")
    return f"{name:<32}" + "".join(cells)


def print_table(
    options: argparse.Namespace, described: dict[str, Any], runs: dict[str, dict[str, float]]
) -> None:
    print(
        f"\n{options.features} features in {options.width} dimensions, {options.d_sae} latents, "
        f"L0 {options.l0}, {options.steps} steps of {options.batch}, {described['threads']} threads"
    )
    for rate in options.rates:
        print(f"rate {rate:g}\n{heading()}")
        for name in candidates(options.l0):
            keys = [f"{name} | {rate:g} | {seed}" for seed in options.seeds]
            rows = [runs[key] for key in keys if key in runs]
            if rows:
                print(line(f"{name} ({len(rows)})", rows))


if __name__ == "__main__":
    main()
