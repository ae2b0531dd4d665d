"""The benchmark of recipes in a known world: a list is run once, in parts, and told as a table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "synthetic_quality.py"
SMALL = ("--quick", "--recipes", "batchtopk", "finder", "jumprelu+all", "--seeds", "0")


def called(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--folder", str(folder), *SMALL, *options],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_a_list_is_run_in_parts_once_and_told_by_recipe(tmp_path: Path) -> None:
    first = called(tmp_path, "--part", "0/2")
    assert first.returncode == 0, first.stderr
    runs = tmp_path / "quick" / "runs"
    assert len(list(runs.iterdir())) == 2
    whole = called(tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.count("world 0 seed 0") == 1, "what is there is not run again"
    rows = {
        line.split(",")[0]: line.split() for line in whole.stdout.splitlines() if "16,384" in line
    }
    assert set(rows) == {"batchtopk", "finder", "jumprelu+all"}
    for name in rows:
        (file,) = runs.glob(f"{name} *.json")
        figures = json.loads(file.read_text())["figures"]
        assert rows[name][4] == f"{figures['feature_f1']:.3f}"
        assert 0 < figures["feature_f1"] < 1 and abs(figures["l0"] - 8) < 0.5
    refused = called(tmp_path, "--batch", "256")
    assert refused.returncode != 0 and "is of other options" in refused.stderr
