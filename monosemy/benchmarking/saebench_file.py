"""Results as SAEBench 0.6.0 has them (Karvonen et al., arXiv 2503.09532), for its viewers and to
stand beside what others published.  No torch.

Its names have its formulas: ``explained_variance`` of its core evaluation is its own, which is
wrong; the right one stands with intervals, n and seeds under ``eval_result_unstructured``.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable
from statistics import pstdev
from typing import Any

from monosemy.benchmarking.leaderboard import figure_of
from monosemy.errors import DataError
from monosemy.specs.rest.benchmarks import BenchmarkMetric, BenchmarkResult

_KS = (1, 2, 5, 10, 20, 50, 100)
"""Numbers of latents that its output has a field for."""


def saebench_result(
    result: BenchmarkResult, sae: str, id: uuid.UUID, measured_at: dt.datetime
) -> dict[str, Any]:
    """What SAEBench would have written of an SAE called ``sae``, as JSON.

    ``DataError`` for a benchmark that SAEBench has not, and where a figure that its schema wants
    has no value.
    """
    own = _OWN.get(result.benchmark)
    if own is None:
        known = ", ".join(_OWN)
        raise DataError(
            f"SAEBench has no benchmark like '{result.benchmark}'.", f"It has those like {known}."
        )
    eval_type, config, metrics, details = own
    return {
        "eval_type_id": eval_type,
        "eval_config": {
            "model_name": result.about.model,
            "llm_dtype": result.about.dtype,
            **config(result),
        },
        "eval_id": str(id),
        "datetime_epoch_millis": int(measured_at.timestamp() * 1000),
        "eval_result_metrics": metrics(result),
        "eval_result_details": details(result),
        "sae_bench_commit_hash": f"monosemy {result.about.code}",
        "sae_lens_id": sae,
        "sae_lens_release_id": "monosemy",
        "sae_lens_version": None,
        "sae_cfg_dict": {
            "architecture": result.about.architecture,
            "d_sae": result.about.latents,
            "hook_name": result.about.site,
        },
        "eval_result_unstructured": {
            "about": result.about.model_dump(mode="json"),
            "options": result.options,
            "seeds": result.seeds,
            "figures": [figure_of(each).model_dump(mode="json") for each in result.metrics],
            "notes": result.notes,
        },
    }


def saebench_name(sae: str) -> str:
    """Of the file that ``saebench_result`` is written to."""
    return re.sub(r"[/\\\x00]", "_", f"monosemy_{sae}_eval_results.json")


def _metric(result: BenchmarkResult, name: str, subject: str = "sae") -> BenchmarkMetric | None:
    found = (each for each in result.metrics if (each.metric, each.subject) == (name, subject))
    return next(found, None)


def _value(result: BenchmarkResult, name: str) -> float:
    metric = _metric(result, name)
    if metric is None or metric.value is None:
        raise DataError(
            f"The result has no value of {name}, which SAEBench's file must have.",
            "Measure the SAE again; an SAE without losses has no such file.",
        )
    return metric.value


# ------------------------------------------------------------------ core
_TEXT = {"dataset": "source", "context_size": "context_size"}


def _core_config(result: BenchmarkResult) -> dict[str, Any]:
    text = result.options.get("text") or {}
    flags = ("kl", "ce_loss", "l2_norms", "sparsity_metrics", "variance_metrics")
    return {
        **{name: text[own] for name, own in _TEXT.items() if own in text},
        **{f"compute_{each}": True for each in flags},
    }


def _core_metrics(result: BenchmarkResult) -> dict[str, Any]:
    of = result.details.get("sae") or {}
    losses = result.details.get("losses")
    if not losses:
        raise DataError(
            "The result has no losses, which SAEBench's file must have.",
            "Measure an SAE whose place can be put back into the host model.",
        )
    return {
        "model_behavior_preservation": {
            "kl_div_score": _value(result, "kl_score_zero"),
            "kl_div_with_ablation": losses["kl_zero"],
            "kl_div_with_sae": losses["kl_sae"],
        },
        "model_performance_preservation": {
            "ce_loss_score": _value(result, "ce_score_zero"),
            "ce_loss_with_ablation": losses["ce_zero"],
            "ce_loss_with_sae": losses["ce_sae"],
            "ce_loss_without_sae": losses["ce_clean"],
        },
        "reconstruction_quality": {
            "explained_variance": of["explained_variance_saebench_0_6_0"],
            "explained_variance_legacy": of["explained_variance_legacy"],
            "mse": of["mse"],
            "cossim": _value(result, "cosine_similarity"),
        },
        "shrinkage": {
            "l2_norm_in": of["norm_in"],
            "l2_norm_out": of["norm_out"],
            "l2_ratio": _value(result, "norm_ratio"),
            "relative_reconstruction_bias": _value(result, "relative_reconstruction_bias"),
        },
        "sparsity": {"l0": _value(result, "l0"), "l1": of["l1"]},
        "token_stats": {
            "total_tokens_eval_reconstruction": losses["tokens"],
            "total_tokens_eval_sparsity_variance": of["tokens"],
        },
        "misc_metrics": {
            "freq_over_1_percent": of["latents_above_0.01"],
            "freq_over_10_percent": of["latents_above_0.1"],
            "normalized_freq_over_1_percent": of["firing_mass_above_0.01"],
            "normalized_freq_over_10_percent": of["firing_mass_above_0.1"],
            "average_max_encoder_cosine_sim": of["nearest_encoder_cosine"],
            "average_max_decoder_cosine_sim": of["nearest_cosine"],
            "frac_alive": 1 - of["dead_share"],
        },
    }


# ------------------------------------------------------------------ absorption
def _absorption_config(result: BenchmarkResult) -> dict[str, Any]:
    options = result.options
    return {
        "random_seed": result.seeds[0],
        "f1_jump_threshold": options["least_rise"],
        "max_k_value": options["most_latents"],
        "k_sparse_probe_l1_decay": options["l1"],
        "min_GT_probe_f1": options["least_f1"],
        "min_feats_for_eval": options["least_letters"],
    }


_FRACTION = "absorption_fraction_0_6_0"


def _absorption_metrics(result: BenchmarkResult) -> dict[str, Any]:
    means: dict[str, float] = {}
    for name, metric in (
        ("absorption_fraction_score", _FRACTION),
        ("full_absorption_score", "full_absorption"),
        ("num_split_features", "main_latents"),
    ):
        means[f"mean_{name}"] = _value(result, metric)
        found = _metric(result, metric)
        known = [part for part in (found.parts if found else []) if part is not None]
        means[f"std_dev_{name}"] = pstdev(known)
    return {"mean": means}


def _absorption_details(result: BenchmarkResult) -> list[dict[str, Any]]:
    def parts(name: str) -> list[float | None]:
        found = _metric(result, name)
        return [None] * len(result.units) if found is None else found.parts

    rows = []
    columns = map(parts, (_FRACTION, "full_absorption", "main_latents", "words_told"))
    for unit, fraction, full, split, told in zip(result.units, *columns, strict=True):
        if fraction is None or full is None or split is None or told is None:
            continue
        rows.append(
            {
                "first_letter": unit.name.lower(),
                "mean_absorption_fraction": fraction,
                "full_absorption_rate": full,
                "num_full_absorption": round(full * told),
                "num_probe_true_positives": round(told),
                "num_split_features": round(split),
            }
        )
    return rows


# ------------------------------------------------------------------ probing
def _probing_metrics(result: BenchmarkResult) -> dict[str, Any]:
    first = result.options["ks"][0]
    llm = {
        f"llm_test_{name}": found.value
        for name in _PROBED
        if (found := _metric(result, f"{name}_k{first}", "dense")) is not None
    }
    sae = {
        f"sae_top_{k}_test_{name}": _value(result, f"{name}_k{k}")
        for k in result.options["ks"]
        if k in _KS
        for name in _PROBED
    }
    return {"llm": llm, "sae": sae}


def _probing_details(result: BenchmarkResult) -> list[dict[str, Any]]:
    by_k = {
        k: {f"test_{name}": _metric(result, f"{name}_k{k}") for name in _PROBED}
        for k in result.options["ks"]
    }
    return [
        {
            "dataset_name": unit.name,
            "sae_metrics_by_k": {
                k: {name: each.parts[at] for name, each in own.items() if each is not None}
                for k, own in by_k.items()
            },
        }
        for at, unit in enumerate(result.units)
    ]


_PROBED = ("accuracy", "auc", "f1")
_Part = Callable[[BenchmarkResult], Any]
_OWN: dict[str, tuple[str, _Part, _Part, _Part]] = {
    "core": ("core", _core_config, _core_metrics, lambda _: []),
    "absorption": (
        "absorption_first_letter",
        _absorption_config,
        _absorption_metrics,
        _absorption_details,
    ),
    "probing": (
        "sparse_probing_sae_probes",
        lambda result: {"random_seed": result.seeds[0], "ks": result.options["ks"]},
        _probing_metrics,
        _probing_details,
    ),
}
"""By benchmark: (its name there, configuration, metrics, details)."""
KNOWN_TO_SAEBENCH = frozenset(_OWN)
"""Benchmarks that it has the like of."""
