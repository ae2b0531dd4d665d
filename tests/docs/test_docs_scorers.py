"""docs/interpretation.md has every scorer, with what it asks."""

from __future__ import annotations

import re
from pathlib import Path

from monosemy.specs import EXPLAINERS, SCORERS, Need

PAGE = Path(__file__).resolve().parents[2] / "docs" / "interpretation.md"
WORDS = {Need.JUDGE: "judge", Need.HOST: "host model", Need.EMBEDDER: "embedder"}


def test_the_table_of_scorers_is_the_registry() -> None:
    page = PAGE.read_text(encoding="utf-8")
    section = page.split("\n## Scores\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", section, re.MULTILINE)
    asks = {name: {WORDS[need] for need in spec.needs} for name, spec in SCORERS.items()}
    assert {name: set(what.split(", ")) for name, what in rows} == asks
    assert all(f"`{name}`" in page for name in EXPLAINERS)
