"""Every address of the explorer over the library of tests: shared tests walk them."""

from __future__ import annotations

from tests.support.scored_rows import EXPLANATION, SCORE

ADDRESSES: list[str] = [
    "/models",
    "/lists",
    "/lists/royalty",
    "/lists/empty",
    "/tags",
    "/tags?sae=demo",
    "/try",
    "/try?sae=demo&top_k=3&sort=rarity",
    "/saes/demo/features/11",
    "/saes/demo/features/11?view=wrapped&context=row&breaks=true&scale=window",
    "/saes/demo/features/12?sort=density&order=desc&min_density=0.01&group=q0",
    "/saes/demo/features/13",
    "/saes/demo/features/14",
    "/saes/demo/features/10",
    "/saes/demo/features/16",
    "/saes/demo/features/3?list=royalty",
    "/saes/raw/features/3",
    "/saes",
    "/saes?model=none",
    "/saes/demo",
    "/saes/demo?min_density=0.0075&max_density=0.0134",
    "/saes/demo/features",
    "/saes/demo/features?sort=score&order=desc&q=king&tag=a",
    "/saes/demo/provenance",
    "/search",
    "/search?q=king",
    "/search?q=zzzzqqqq",
    "/steer",
    "/steer?sae=demo&f=13=1.5&f=7=2&f=3=1=clamp",
    "/steer?sae=demo&add=king",
    f"/saes/demo/features/11/scores/{SCORE}",
    f"/saes/demo/features/11/scores/{SCORE}?outcome=failed",
    f"/saes/demo/features/11/explanations/{EXPLANATION}",
    "/prompts/detection",
    "/nothing-here",
]
