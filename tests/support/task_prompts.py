"""Prompts with attributes of single tokens of the tiny tokenizer."""

from __future__ import annotations

from itertools import permutations
from typing import Any

NAMES = ("captain", "botanist", "clockmaker", "neighbour", "engine", "map")


def task_prompts() -> list[dict[str, Any]]:
    """60 prompts: who came first, who else was there, and in which order they are named; those that
    differ in the order alone stand side by side."""
    items: list[dict[str, Any]] = []
    for first, second in permutations(NAMES, 2):
        for order in ("AB", "BA"):
            one, other = (first, second) if order == "AB" else (second, first)
            items.append(
                {
                    "text": f"during the storm the {one} near the {other} measured the",
                    "answer": f" {first}",
                    "wrong": f" {second}",
                    "attributes": {"first": first, "second": second, "order": order},
                    "positions": {"name": f" {first}"},
                }
            )
    return items
