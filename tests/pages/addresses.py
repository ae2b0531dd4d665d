"""Every address of the explorer over the library of tests: shared tests walk them."""

from __future__ import annotations

ADDRESSES: list[str] = [
    "/models",
    "/lists",
    "/lists/royalty",
    "/lists/empty",
    "/tags",
    "/tags?sae=demo",
    "/try",
    "/try?sae=demo&top_k=3&sort=rarity",
    "/nothing-here",
]
