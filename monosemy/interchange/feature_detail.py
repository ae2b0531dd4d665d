"""What the attribution graph viewers show of a feature: one JSON object for each, by address
``{base}/{number}.json``, where the number is Cantor's of (layer, latent)."""

from __future__ import annotations

from typing import Any

from monosemy.interchange.attribution_graph import cantor
from monosemy.interchange.records import ExampleRecord, FeatureRecord

_TOP = "Top activations"


def feature_detail(record: FeatureRecord, layer: int, listed: int = 10) -> dict[str, Any]:
    """The object of a feature that reads ``layer``: examples by quantile, the strongest first, and
    the tokens that it promotes and suppresses."""
    groups: dict[int | None, list[ExampleRecord]] = {}
    for example in record.examples:
        groups.setdefault(example.quantile, []).append(example)
    order = sorted(groups, key=lambda quantile: (quantile is not None, -(quantile or 0)))
    largest = max((max(e.activations, default=0.0) for e in record.examples), default=0.0)
    return {
        "index": cantor(layer, record.feature),
        "examples_quantiles": [
            {
                "quantile_name": _TOP if quantile is None else f"Quantile {quantile}",
                "examples": [_example(each) for each in groups[quantile]],
            }
            for quantile in order
        ],
        "top_logits": [token for token, _ in record.promoted[:listed]],
        "bottom_logits": [token for token, _ in record.suppressed[:listed]],
        "act_min": 0.0,
        "act_max": max(record.max_activation, largest),
        "activation_frequency": record.density,
    }


def _example(example: ExampleRecord) -> dict[str, Any]:
    return {
        "tokens": list(example.tokens),
        "tokens_acts_list": list(example.activations),
        "train_token_ind": example.focus,
        "is_repeated_datapoint": False,
    }
