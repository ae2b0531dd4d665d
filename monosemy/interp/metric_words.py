"""What the metrics of scores are called, and what their values are in."""

from __future__ import annotations

_NAMES = {
    "auroc": "AUROC",
    "pearson": "correlation",
    "mean_surprisal_change": "mean surprisal change (nats)",
}
_UPWARDS = "higher is better"
SHARES = ("balanced_accuracy", "auroc", "accuracy", "intruder_accuracy")
"""Metrics from 0 to 1."""


def name(metric: str) -> str:
    """In words, with its unit: ``balanced accuracy``."""
    return _NAMES.get(metric, metric.replace("_", " "))


def heading(metric: str) -> str:
    """The same at the beginning of a line, and which way is better."""
    words = name(metric)
    return f"{words[:1].upper()}{words[1:]}, {_UPWARDS}"


def judged(scorer: str, metric: str) -> str:
    """What the value of a single judgement is called at the head of a column."""
    if metric == "mean_surprisal_change":
        return "surprisal change (nats), higher is better"
    if metric == "auroc":
        return "value by " + scorer + ", higher where it fires is better"
    return f"value by {scorer}"
