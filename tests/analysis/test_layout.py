"""Layouts: neighbourhoods are kept far better than by two components, the same bits by seed."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch

from monosemy.analysis.layout import EARLY, lay_out, require_package
from monosemy.errors import Cancelled, DataError, SpecError
from monosemy.progress import Reporter, StageProgress
from monosemy.specs import LayoutRun, parse_spec


def clusters(count: int = 30, each: int = 12, d: int = 24) -> torch.Tensor:
    """Rows around so many directions, of many lengths."""
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(count, d, generator=random).repeat_interleave(each, dim=0)
    rows = centres + 0.4 * torch.randn(len(centres), d, generator=random)
    return rows * torch.rand(len(rows), 1, generator=random).add(0.1)


class Told(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.finished: list[StageProgress] = []

    def finish(self, progress: StageProgress) -> None:
        self.finished.append(progress)


def spec(**options: Any) -> LayoutRun:
    return LayoutRun(sae="x", iterations=100, **options)


def test_clusters_are_kept_together() -> None:
    reporter = Told()
    rows = clusters()
    layout = lay_out(rows, spec(), "digest", reporter=reporter)
    kept = layout.faithfulness
    assert layout.places.shape == (360, 2) and layout.places.dtype == np.float32
    assert kept.layout.low > 0.75 > 0.5 > kept.pca.high and kept.chance == pytest.approx(15 / 359)
    assert kept.trustworthiness > 0.95
    summary = layout.summary
    assert (summary.features, summary.left_out, summary.weights) == (360, 0, "digest")
    assert summary.parameters["perplexity"] == 30 and "openTSNE" in summary.versions
    stages = [(each.name, each.done, each.total, each.unit) for each in reporter.finished]
    assert stages == [
        ("neighbours", 360, 360, "features"),
        ("layout", EARLY + 100, EARLY + 100, "iterations"),
        ("faithfulness", 1, 1, "layouts"),
    ]
    # Of what a row is does its length say nothing.
    longer = lay_out(rows * 3, spec(), "digest")
    assert longer.faithfulness.layout.value == pytest.approx(kept.layout.value, abs=0.05)


def test_equal_seeds_give_equal_bits() -> None:
    first = lay_out(clusters(), spec(seed=3), "").places
    assert np.array_equal(first, lay_out(clusters(), spec(seed=3), "").places)
    assert not np.array_equal(first, lay_out(clusters(), spec(seed=-4), "").places)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few iterations: on a busy machine threads that wait for each other take their time."""
    monkeypatch.setattr("monosemy.analysis.layout.EARLY", 5)
    brief = LayoutRun(sae="x", iterations=50)
    alone = lay_out(clusters(), brief, "").places
    monkeypatch.setattr("monosemy.analysis.layout._SHARED_FROM", 1)
    monkeypatch.setattr("monosemy.analysis.layout.usable_cores", lambda: 2)
    assert np.array_equal(alone, lay_out(clusters(), brief, "").places)


def test_silent_features_are_left_out_unless_asked_for() -> None:
    fires = np.arange(360) % 3 > 0
    layout = lay_out(clusters(), spec(), "", fires)
    assert np.array_equal(np.isfinite(layout.places).all(axis=1), fires)
    assert np.isnan(layout.places[~fires]).all()
    assert (layout.summary.features, layout.summary.left_out) == (240, 120)
    assert layout.faithfulness.n == 240
    whole = lay_out(clusters(), spec(silent=True), "", fires)
    assert np.isfinite(whole.places).all() and whole.summary.left_out == 0


def test_few_features_have_a_lower_perplexity() -> None:
    layout = lay_out(clusters(4, 3), spec(), "")
    assert layout.summary.parameters["perplexity"] == pytest.approx(11 / 3)
    assert layout.faithfulness.neighbours == 5
    with pytest.raises(DataError, match="9 features to lay out; at least 10"):
        lay_out(clusters(3, 3), spec(), "")
    with pytest.raises(DataError, match="Set silent=true"):
        lay_out(clusters(), spec(), "", np.zeros(360, bool))


def test_rows_that_are_equal_nothing_or_no_numbers() -> None:
    rows = clusters()
    rows[:40] = rows[0]
    rows[50:60] = 0.0
    assert np.isfinite(lay_out(rows, spec(), "").places).all()
    rows[7, 3] = torch.inf
    with pytest.raises(DataError, match="no finite numbers"):
        lay_out(rows, spec(), "")


def test_it_stops_when_asked() -> None:
    asked: list[int] = []

    def stop() -> type[Exception] | None:
        asked.append(1)
        return Cancelled if len(asked) > 6 else None

    with pytest.raises(Cancelled):
        lay_out(clusters(), spec(), "", reporter=Reporter(stop))
    assert len(asked) == 7


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    with pytest.raises(DataError, match=r"openTSNE.*pip install 'monosemy\[layout\]'"):
        require_package()
    with pytest.raises(DataError, match="openTSNE"):
        lay_out(clusters(), spec(), "")


@pytest.mark.parametrize(
    ("field", "value"),
    [("perplexity", 1e9), ("iterations", 10**9), ("exaggeration", 0.5), ("seed", 2**80)],
)
def test_numbers_have_ceilings(field: str, value: float) -> None:
    with pytest.raises(SpecError) as refused:
        parse_spec({"kind": "layout", "sae": "x", field: value})
    assert [path for path, _ in refused.value.problems] == [field]
