"""Texts about whales, and others like them about repairs."""

from __future__ import annotations

from itertools import combinations

WORDS = ["clock", "bridge", "river", "garden", "letter", "market", "winter", "captain", "island"]
TARGETS = [f"Grey whales near the {a} and the {b}" for a, b in combinations(WORDS, 2)]
RETAIN = [f"She repaired a {b} before some {a}" for a, b in combinations(WORDS, 2)]
