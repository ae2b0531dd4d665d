"""Paths and tables of the documentation are those of the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md"])
MADE = {"benchmarks/latest.json", "benchmarks/gpu-check/report.md"}
"""What commands write."""
_PATH = re.compile(r"`((?:monosemy|service|workers|tests|benchmarks|migrations|docs)/[\w/.*-]*\w)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_of_a_page_are_there(page: Path) -> None:
    named = set(_PATH.findall(page.read_text(encoding="utf-8"))) - MADE
    assert [path for path in sorted(named) if not any(ROOT.glob(path))] == []


def test_no_change_touches_more_than_three_files() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    table = page.split("## To change ..., touch ...")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 10
    for row in rows:
        assert 1 <= len(_PATH.findall(row)) <= 3, row
