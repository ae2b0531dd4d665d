"""Every architecture on one real site: same text, width, L0, tokens, rate; one row each.

    python benchmarks/architecture_quality.py [--text FILE] [--tokens 400000] [--d-sae 4096]

Activations are computed once and cached, so tokens/s is that of training alone: with the SAE's
frozen-decoder baseline (``--no-baseline`` leaves it out), which costs about as much again.
Figures are on held-out documents: FVU, L0, effective L0 (PPL-1%; ``--no-needed`` leaves it out), CE
recovered against zero and mean ablation, KL of the spliced model, latents that never fired; of the
baseline, FVU and CE recovered.
Writes ``benchmarks/architecture_quality.json`` row by row, and goes on with what is missing there.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from monosemy import stages
from monosemy.console import ConsoleReporter
from monosemy.models.host import HostModel
from monosemy.run_hosts import HostLoader
from monosemy.sae_folder import SaeFolder
from monosemy.specs import EvaluateRun, EvaluationSpec, ModelSpec, TrainRun, parse_spec
from monosemy.workspace import Workspace

RESULT = Path(__file__).with_suffix(".json")


def candidates(l0: int) -> dict[str, dict[str, Any]]:
    """Options by row name, all aimed at the same L0."""
    return {
        "topk": {"architecture": "topk", "k": l0},
        "topk, annealed": {"architecture": "topk", "k": l0, "k_start": 3 * l0},
        "topk, 1 ISTA step": {"architecture": "topk", "k": l0, "ista_steps": 1},
        "batchtopk": {"architecture": "batchtopk", "k": l0},
        "batchtopk, annealed, ISTA": {
            "architecture": "batchtopk",
            "k": l0,
            "k_start": 3 * l0,
            "ista_steps": 1,
        },
        "matryoshka": {"architecture": "matryoshka", "k": l0},
        "jumprelu": {"architecture": "jumprelu", "target_l0": l0},
        "gated": {"architecture": "gated", "target_l0": l0},
        "relu": {"architecture": "relu", "target_l0": l0},
        "matching_pursuit": {"architecture": "matching_pursuit", "k": l0},
    }


def spec_of(options: argparse.Namespace, sae: dict[str, Any]) -> TrainRun:
    data = {
        "kind": "train",
        "model": {"name": options.model},
        "text": {"source": options.text, "max_tokens": options.text_tokens},
        "site": options.site,
        "sae": {"d_sae": options.d_sae, "dead_after_tokens": options.tokens // 4, **sae},
        "training": {
            "tokens": options.tokens,
            "learning_rate": options.learning_rate,
            "seed": options.seed,
            "frozen_decoder_baseline": options.baseline,
        },
    }
    spec = parse_spec(data)
    assert isinstance(spec, TrainRun)
    return spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--site", default="blocks.9.hook_resid_post")
    parser.add_argument("--text", default="wikipedia-sample")
    parser.add_argument("--text-tokens", type=int, default=None)
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--d-sae", type=int, default=4096)
    parser.add_argument("--l0", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--baseline", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--needed", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--loss-tokens", type=int, default=2048)
    parser.add_argument("--only", nargs="*", help="Rows to run; all by default.")
    parser.add_argument("--home", type=Path, default=Path("monosemy-work"))
    options = parser.parse_args()
    workspace = Workspace(options.home)
    reporter = ConsoleReporter()
    loaded: dict[str, HostModel] = {}

    def load_host(model: ModelSpec) -> HostModel:
        if model.name not in loaded:
            loaded[model.name] = HostModel.load(model, workspace, reporter)
        return loaded[model.name]

    rows = found_before(options)
    for name, sae in candidates(options.l0).items():
        if name in rows or (options.only and name not in options.only):
            continue
        rows[name] = measured(name, options, sae, workspace, load_host, reporter)
        RESULT.write_text(json.dumps({"options": described(options), "rows": rows}, indent=1))
    reporter.close()
    print_table(options, rows)


def measured(
    name: str,
    options: argparse.Namespace,
    sae_options: dict[str, Any],
    workspace: Workspace,
    load_host: HostLoader,
    reporter: ConsoleReporter,
) -> dict[str, Any]:
    """Trains (from an empty checkpoint folder) and evaluates one."""
    spec = spec_of(options, sae_options)
    run = f"quality-{time.time_ns()}"
    folder = workspace.folder("saes", run)
    made = stages.train(spec, folder, workspace.folder("runs", run), workspace, load_host, reporter)
    sae = SaeFolder(folder, workspace)
    measures = EvaluationSpec(
        tokens=options.loss_tokens,
        reconstruction_tokens=32_768,
        ppl_percent=1.0 if options.needed else None,
    )
    evaluation = EvaluateRun(sae=name, evaluation=measures)
    metrics = stages.evaluate(evaluation, sae, workspace, load_host, reporter)
    kept = ("tokens_per_second", "seconds", "dead_share")
    return {**{key: made.metrics[key] for key in kept}, "evaluation": metrics}


def found_before(options: argparse.Namespace) -> dict[str, Any]:
    """Rows of a run with the same options that was cut short."""
    try:
        data = json.loads(RESULT.read_text())
    except (OSError, ValueError):
        return {}
    rows: dict[str, Any] = data["rows"] if data["options"] == described(options) else {}
    return rows


def described(options: argparse.Namespace) -> dict[str, Any]:
    return {
        **{key: str(value) for key, value in vars(options).items() if key != "only"},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def print_table(options: argparse.Namespace, rows: dict[str, Any]) -> None:
    print(
        f"{options.model} {options.site}, F={options.d_sae}, {options.tokens:,} tokens, "
        f"rate {options.learning_rate}, seed {options.seed}, {torch.get_num_threads()} threads"
    )
    print(
        f"{'':<28}{'FVU':>8}{'L0':>7}{'needed':>8}{'CE0 %':>8}{'CEm %':>8}{'KL':>8}{'silent':>8}"
        f"{'tokens/s':>10}{'base. FVU':>10}{'CEm %':>8}"
    )
    for name, row in rows.items():
        evaluation = row["evaluation"]
        needed = f"{evaluation['effective_l0']['l0']:.1f}" if "effective_l0" in evaluation else ""
        zero, mean = (100 * evaluation[f"ce_recovered_{by}"] for by in ("zero", "mean"))
        print(
            f"{name:<28}{evaluation['fvu']:>8.4f}{evaluation['l0']:>7.1f}{needed:>8}"
            f"{zero:>8.2f}{mean:>8.2f}{evaluation['kl']:>8.4f}{evaluation['dead_share']:>8.3f}"
            f"{row['tokens_per_second']:>10,.0f}"
            + (
                f"{baseline['fvu']:>10.4f}{100 * baseline['ce_recovered_mean']:>8.2f}"
                if (baseline := evaluation.get("frozen_decoder_baseline"))
                else ""
            )
        )


if __name__ == "__main__":
    main()
