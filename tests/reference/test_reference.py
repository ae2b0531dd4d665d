"""Two runs of one commit are equal to the bit, and give the stored figures.

After a change that is meant to change figures, store them anew:
``python -m tests.reference.run OUT --work FOLDER && cp OUT/figures.json tests/reference/``.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from monosemy.specs import ARCHITECTURES, EXPLAINERS, KINDS, SCORERS, parse_spec
from tests.reference import compare
from tests.reference.commits import CHECKOUT, library_of, run
from tests.reference.plan import plan
from tests.support.fixtures_database import create_database, drop_database, with_database

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FIGURES = Path(__file__).with_name("figures.json")


def twice(folder: Path, postgres: str, *options: str) -> tuple[Path, Path]:
    """Outputs of two runs of this checkout, each with a hash seed and a database of its own."""
    sides = folder / "one", folder / "another"
    for side in sides:
        name = f"reference_{os.getpid()}_{side.name}"
        create_database(postgres, name)
        try:
            database = with_database(postgres, name)
            run(CHECKOUT, side, folder / "work", "--database", database, *options)
        finally:
            drop_database(postgres, name)
    return sides


def stored() -> dict[str, dict[str, float]]:
    data: dict[str, dict[str, float]] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return data


def check(one: Path, another: Path, wanted: compare.Figures) -> None:
    assert compare.table(one, another) == []
    digests = json.loads((one / "digests.json").read_text(encoding="utf-8"))
    parts = {name.split("/")[0] for name in digests}
    assert parts == {"weights", "index", "rows", "served", "exported", "openapi"}
    refused = [
        n for n, value in digests.items() if value.startswith("status") and "report" not in n
    ]
    assert refused == [], "everything that is compared was there"
    assert compare.off(wanted, compare.read(one, "figures.json")) == []


def test_two_small_runs_are_equal_and_give_the_stored_figures(
    postgres: str, tmp_path: Path
) -> None:
    one, another = twice(tmp_path, postgres, "--small")
    check(one, another, {name: stored()[name] for name in ("topk", "jumprelu", "many-0")})
    # What differs is found: one weight in its last bit.
    file = another / "weights" / "topk" / "sae_weights.safetensors"
    tensors = load_file(file)
    tensors["W_dec"][3, 5] += 1e-6
    save_file(tensors, file)
    digests = json.loads((another / "digests.json").read_text(encoding="utf-8"))
    digests["weights/topk/sae_weights.safetensors/W_dec"] = "another"
    (another / "digests.json").write_text(json.dumps(digests))
    lines = compare.table(one, another)
    assert lines[0] == "1 digests differ:"
    assert any("W_dec  (at most 9" in line or "W_dec  (at most 1" in line for line in lines)


@pytest.mark.campaign
@pytest.mark.timeout(3600)  # everything that there is, twice
def test_two_whole_runs_are_equal_and_give_the_stored_figures(
    postgres: str, tmp_path: Path
) -> None:
    check(*twice(tmp_path, postgres), stored())


def test_the_whole_reference_covers_everything() -> None:
    steps = list(plan("model", "text.jsonl", "exported", small=False))
    specs: list[Any] = [parse_spec(step.spec) for step in steps]
    assert {spec.kind for spec in specs} == set(KINDS)
    trained = [spec.sae.architecture for spec in specs if spec.kind == "pipeline"]
    assert set(trained) == set(ARCHITECTURES)
    assert {s.explanation.explainer for s in specs if s.kind == "explain"} == set(EXPLAINERS)
    assert {s.scoring.scorer for s in specs if s.kind == "score"} == set(SCORERS)
    assert any(
        spec.sae.skip for spec in specs if getattr(spec, "site", 0) and hasattr(spec.sae, "skip")
    )
    assert len({step.name for step in steps}) == len(steps)


def test_figures_are_held_to_five_thousandths() -> None:
    wanted = {"a": {"fvu": 0.5, "l0": 4.0}}
    assert compare.off(wanted, {"a": {"fvu": 0.5024, "l0": 4.0}}) == []
    assert len(compare.off(wanted, {"a": {"fvu": 0.5026, "l0": 4.0}})) == 1
    assert len(compare.off(wanted, {"a": {"l0": 4.0}})) == 1


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_an_unknown_commit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no-such-commit is no commit"):
        library_of("no-such-commit", tmp_path / "library")
