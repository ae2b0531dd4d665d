"""What simulated activations come to: correlation with the real ones, and what stands behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from monosemy.interp.scorers.result import Judgement, Summary
from monosemy.interp.statistics.correlation import (
    calibrated_r_squared,
    deviation_explained,
    linear_calibration,
    pearson_interval,
    r_squared,
    spearman,
)
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.tiers import ACTIVATING


def simulation_score(judgements: Sequence[Judgement], seed: int = 0, z: float = Z95) -> Summary:
    """Pearson's correlation over all tokens of all contexts that have a simulation, joined
    (Bills et al. 2023), documents as clusters.

    ``details`` has the same for each stratum, for the activating contexts alone and for each tier
    alone, the other measures, and ``reason`` where the score is not defined.  A failed context has
    no worst simulation, hence ``worst_case`` is None.
    """
    main = _measures(judgements, seed, z)
    activating = [j for j in judgements if j.tier == ACTIVATING]
    groups = sorted({str(j.group) for j in activating}, key=lambda group: (len(group), group))
    tiers = dict.fromkeys(j.tier for j in judgements if j.tier != ACTIVATING)
    return Summary(
        metric="pearson",
        value=main["value"],
        low=main["low"],
        high=main["high"],
        worst_case=None,
        details={
            **{key: main[key] for key in main if key not in ("value", "low", "high", "n")},
            "n_tokens": main["n"],
            "activating_only": _measures(activating, seed, z),
            **{
                f"{tier}_only": _measures([j for j in judgements if j.tier == tier], seed, z)
                for tier in tiers
            },
            "by_group": {
                group: _measures([j for j in activating if str(j.group) == group], seed, z)
                for group in groups
            },
        },
    )


def _measures(judgements: Sequence[Judgement], seed: int, z: float) -> dict[str, Any]:
    judged = [j for j in judgements if j.simulated is not None and j.real is not None]
    real_N = np.array([level for j in judged for level in j.real or ()], dtype=np.float64)
    simulated_N = np.array([s for j in judged for s in j.simulated or ()], dtype=np.float64)
    documents = [j.document for j in judged for _ in j.real or ()]
    line = linear_calibration(real_N, simulated_N)
    return {
        **pearson_interval(real_N, simulated_N, documents, seed, z).as_dict(),
        "contexts": len(judged),
        "spearman": spearman(real_N, simulated_N),
        "r_squared": r_squared(real_N, simulated_N),
        "absolute_deviation_explained": deviation_explained(real_N, simulated_N),
        "calibration": {
            "slope": line.slope,
            "intercept": line.intercept,
            "r_squared": calibrated_r_squared(real_N, simulated_N, documents),
        },
        "mean_real": float(real_N.mean()) if len(real_N) else None,
        "mean_simulated": float(simulated_N.mean()) if len(simulated_N) else None,
    }
