"""Which recipe finds the features, where they are known: learning curves, rates, switches, seeds.

    python benchmarks/synthetic_quality.py --worlds 1 2 --seeds 0 1 2 --samples 4000000 \
        --rates 3e-3 --recipes batchtopk matryoshka jumprelu finder [--part 0/2]
    python benchmarks/synthetic_quality.py --table

The worlds are those of SynthSAEBench v2 (``monosemy/evals/synthetic/kept_world.py``), by default
4,096 features in 256 dimensions, about 19 active, of which SAEs of 1,024 latents at L0 12 can find
a quarter.  ``--worlds`` are seeds of worlds; all SAEs of a world see the same batches.  Every
combination of the lists is a run, kept under ``--folder`` as a file of its own: what is there is
not run again, and ``--part 0/2`` takes every second run, so that two processes share a list.
Figures are on 16,384 samples that nobody trained on.  ``--quick`` is a smoke run of seconds.

``feature_f1`` is the mean over the 1,024 features matched one to one (Hungarian), a feature that is
never told counting 0: what is wanted.  ``latent_f1`` is SAELens' F1, over latents.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from monosemy.evals.synthetic.kept_world import KeptWorld, configured, kept_world
from monosemy.evals.synthetic.metrics import TruthSums, absorption, mcc
from monosemy.models.precision import choose_dtype
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import ARCHITECTURES, SAESpec, TrainingSpec
from monosemy.training.schedule import learning_rate
from monosemy.training.trainer import SAETrainer

COLUMNS = (
    *("feature_f1", "latent_f1", "precision", "recall", "mcc", "uniqueness", "dead_share"),
    *("absorption", "fvu", "l0", "steps_per_second"),
)
CALIBRATION = 65_536
INITIALISATION = 10_007
"""Added to the seed: SAELens draws its features from a generator seeded with the very same number,
in the same shape, and an SAE initialised from that starts at the truth."""
RESAMPLED = {"resample_every": 500}


class Recipe(NamedTuple):
    """``sae`` and ``training``: what differs from the defaults, for an L0 of ``l0``."""

    architecture: str
    sae: dict[str, Any]
    training: dict[str, Any]


def recipes(l0: int) -> dict[str, Recipe]:
    """By name, all aimed at the same L0.

    ``finder`` is ours for finding features: Matryoshka with all its switches, whose gains stand
    beside each other in ``matryoshka+...``.
    """
    k, target = {"k": l0}, {"target_l0": float(l0)}
    annealed, ista = {"k_start": 3 * l0}, {"ista_steps": 1}
    by_frequency, detached = {"sort_by_frequency": True}, {"detach_levels": True}
    both = {**k, **annealed, **ista}
    anthropic = {"sparsity": "steered", "straight_through": True, "bandwidth": 2.0}
    made = {
        **{name: Recipe(name, k, {}) for name in ("topk", "matching_pursuit")},
        **{name: Recipe(name, target, {}) for name in ("relu", "gated", "jumprelu")},
        "jumprelu+resample": Recipe("jumprelu", target, RESAMPLED),
        "jumprelu+steered": Recipe("jumprelu", {**target, "sparsity": "steered"}, {}),
        "jumprelu+steered+through": Recipe("jumprelu", {**target, **anthropic}, {}),
        "jumprelu+all": Recipe("jumprelu", {**target, **anthropic}, RESAMPLED),
    }
    for name in ("batchtopk", "matryoshka"):
        made |= {
            name: Recipe(name, k, {}),
            f"{name}+resample": Recipe(name, k, RESAMPLED),
            f"{name}+anneal": Recipe(name, {**k, **annealed}, {}),
            f"{name}+ista": Recipe(name, {**k, **ista}, {}),
            f"{name}+anneal+ista": Recipe(name, both, {}),
        }
    made |= {
        "batchtopk+all": Recipe("batchtopk", both, RESAMPLED),
        "matryoshka+anneal+ista+sort": Recipe("matryoshka", {**both, **by_frequency}, {}),
        "matryoshka+anneal+ista+detach": Recipe("matryoshka", {**both, **detached}, {}),
        "finder": Recipe("matryoshka", {**both, **by_frequency, **detached}, {}),
        "finder+resample": Recipe("matryoshka", {**both, **by_frequency, **detached}, RESAMPLED),
    }
    return made


class Run(NamedTuple):
    """One SAE."""

    recipe: str
    rate: float
    samples: int
    world: int
    seed: int

    @property
    def name(self) -> str:
        budget = f"{self.recipe} rate {self.rate:g} samples {self.samples}"
        return f"{budget} world {self.world} seed {self.seed}"


def specs(run: Run, options: argparse.Namespace) -> tuple[SAESpec, TrainingSpec]:
    recipe = recipes(options.l0)[run.recipe]
    sae = ARCHITECTURES[recipe.architecture](
        d_sae=options.d_sae, dead_after_tokens=min(200_000, run.samples // 8), **recipe.sae
    )
    training = TrainingSpec(
        learning_rate=run.rate,
        seed=run.seed,
        tokens=run.samples,
        batch_tokens=options.batch,
        **recipe.training,
    )
    return sae, training


def trained(
    spec: SAESpec, training: TrainingSpec, world: KeptWorld
) -> tuple[SAE, dict[str, float]]:
    """The SAE, its steps per second and its MCC before the first step, which is chance."""
    sample = world.batch(0, min(CALIBRATION, training.tokens))
    sae = create(spec, sample.shape[1])
    sae.initialise(torch.Generator().manual_seed(training.seed + INITIALISATION))
    chance = mcc(world.features_FD, sae.W_dec)
    sae.product_dtype = choose_dtype("auto", torch.device("cpu"))
    trainer = SAETrainer(sae, training)
    with torch.no_grad():
        sae.b_dec.copy_(sample.mean(0))
        sae.begin(sample[:8192])
    batch, steps = training.batch_tokens, training.tokens // training.batch_tokens
    start = time.perf_counter()
    for step in range(steps):
        rate = learning_rate(step, steps, training)
        trainer.step(world.batch(step * batch, batch), step, rate, steps)
    seconds = time.perf_counter() - start
    trainer.readings()  # raises where training diverged
    with torch.no_grad():
        sae.calibrate(sample)
    sae.product_dtype = None
    return sae.requires_grad_(False), {"steps_per_second": steps / seconds, "chance_mcc": chance}


def judged(sae: SAE, world: KeptWorld) -> dict[str, float]:
    sums = TruthSums(sae, world.features_FD)
    for sample in world.judged():
        sums.add(*sample)
    lean = absorption(sums.true_FD, sums.learned_GD, world.parent_of, sums.matching)
    return {**sums.metrics(), "absorption": lean}


def main() -> None:
    options = parsed()
    torch.set_num_threads(1)
    if not options.table:
        run_all(options)
    print_table(options)


def run_all(options: argparse.Namespace) -> None:
    part, parts = map(int, options.part.split("/"))
    lists = (options.recipes, options.rates, options.samples, options.worlds, options.seeds)
    worlds: dict[int, KeptWorld] = {}
    (options.folder / "runs").mkdir(parents=True, exist_ok=True)
    for run in [Run(*values) for values in product(*lists)][part::parts]:
        spec, training = specs(run, options)
        config = configured(options.features, options.width, run.world)
        about = {
            "run": run._asdict(),
            "sae": spec.model_dump(mode="json"),
            "training": training.model_dump(mode="json"),
            "world": config.to_dict(),
        }
        file = options.folder / "runs" / f"{run.name}.json"
        if file.exists():
            kept, asked = json.loads(file.read_text()), json.loads(json.dumps(about))
            if {name: kept.get(name) for name in asked} != asked:
                raise SystemExit(f"{file} is of other options: name another --folder.")
            continue
        if run.world not in worlds:
            where = options.folder / f"world-{run.world}"
            worlds[run.world] = kept_world(where, config, max(options.samples))
        sae, figures = trained(spec, training, worlds[run.world])
        figures |= judged(sae, worlds[run.world])
        about |= {"figures": figures, "torch": torch.__version__}
        file.write_text(json.dumps(about, indent=1))
        print(line(run.name, [figures]), flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).with_suffix(""))
    parser.add_argument("--recipes", nargs="+", default=[*recipes(12)], choices=[*recipes(12)])
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-3])
    parser.add_argument("--samples", type=int, nargs="+", default=[4_000_000])
    parser.add_argument("--worlds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--part", default="0/1", help="Which share of the runs: 0/2, 1/2.")
    parser.add_argument("--table", action="store_true", help="Print what is there; run nothing.")
    parser.add_argument("--features", type=int, default=4096)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--d-sae", type=int, default=1024)
    parser.add_argument("--l0", type=int, default=12)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--quick", action="store_true", help="A smoke run of seconds.")
    if parser.parse_known_args()[0].quick:
        parser.set_defaults(features=256, d_sae=128, width=64, l0=8)
        parser.set_defaults(samples=[16_384], seeds=[0, 1], worlds=[0])
    options = parser.parse_args()
    if options.quick:
        options.folder = options.folder / "quick"
    return options


def heading() -> str:
    return f"{'':<62}" + "".join(f"{name:>15}" for name in COLUMNS)


def line(name: str, rows: list[dict[str, float]]) -> str:
    cells = []
    for column in COLUMNS:
        values = [row[column] for row in rows]
        digits = 1 if column in ("l0", "steps_per_second") else 3
        cell = f"{statistics.fmean(values):.{digits}f}"
        if len(values) > 1:
            cell += f" ±{statistics.stdev(values):.{digits}f}"
        cells.append(f"{cell:>15}")
    return f"{name:<62}" + "".join(cells)


def print_table(options: argparse.Namespace) -> None:
    """What is kept, by recipe, rate and budget: the mean over worlds and seeds, and the standard
    deviation."""
    rows: dict[tuple[Any, ...], list[dict[str, float]]] = {}
    for file in sorted((options.folder / "runs").glob("*.json")):
        kept = json.loads(file.read_text())
        run = Run(**kept["run"])
        rows.setdefault((run.samples, run.recipe, run.rate), []).append(kept["figures"])
    print(heading())
    for (samples, recipe, rate), figures in sorted(rows.items()):
        print(line(f"{recipe}, {rate:g}, {samples:,} ({len(figures)})", figures))


if __name__ == "__main__":
    main()
