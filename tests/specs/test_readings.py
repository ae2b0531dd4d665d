"""Readings of a training: one vocabulary, and what earlier versions wrote."""

from __future__ import annotations

import pytest

from monosemy.specs.readings import (
    TrainingFigures,
    TrainingReading,
    current_words,
    figures,
    stored_reading,
)

NOW = TrainingReading(
    step=10,
    tokens=1000,
    seconds=1.5,
    learning_rate=1e-3,
    fvu=0.5,
    l0=3.0,
    loss=0.75,
    dead_share=0.25,
    terms={"auxk": 0.25},
    frozen_decoder_baseline=TrainingFigures(fvu=0.9, l0=3.0, loss=0.9, dead_share=0.0),
)


def test_a_reading_is_read_back_as_it_was_written() -> None:
    assert stored_reading(NOW.model_dump(mode="json")) == NOW
    assert stored_reading(NOW.model_dump(mode="json", exclude_none=True)) == NOW
    assert stored_reading(TrainingReading(tokens=1, fvu=0.5).model_dump()).terms == {}


def test_lines_of_earlier_versions() -> None:
    line = {
        **{"step": 10, "tokens": 1000, "seconds": 1.5, "learning_rate": 1e-3},
        **{"fvu": 0.5, "l0": 3.0, "loss": 0.75, "auxk": 0.25, "dead_share": 0.25},
        "baseline_fvu": 0.9,
    }
    baseline = TrainingFigures(fvu=0.9)
    assert stored_reading(line) == NOW.model_copy(update={"frozen_decoder_baseline": baseline})


@pytest.mark.parametrize("data", [{}, {"tokens": 3}, {"tokens": 1, "fvu": "x"}, {"fvu": None}])
def test_anything_else_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        stored_reading(data)


def test_flat_figures_are_taken_apart_and_put_together() -> None:
    flat = {"fvu": 0.5, "l0": 3.0, "loss": 0.75, "auxk": 0.25, "dead_share": 0.25}
    taken = figures(flat)
    assert taken.pop("terms") == {"auxk": 0.25} and "auxk" not in taken
    assert NOW.flat()["terms.auxk"] == 0.25
    assert NOW.flat()["frozen_decoder_baseline.fvu"] == 0.9
    assert "seconds" not in TrainingReading(tokens=1, fvu=0.5).flat()


def test_old_words_are_replaced_only_where_they_mean_a_training() -> None:
    stored = {
        "baseline": {"fvu": 0.9, "l0": 3},
        "evaluation": {"fvu": 0.4, "baseline": {"fvu": 0.8}},
        "progress": {"metrics": {"fvu": 0.1, "dead": 0.2, "baseline_fvu": 0.3}},
        "scores": [{"baseline": {"value": 0.5}}, {"baseline": 0.5, "dead": 1}],
    }
    assert current_words(stored) == {
        "frozen_decoder_baseline": {"fvu": 0.9, "l0": 3},
        "evaluation": {"fvu": 0.4, "frozen_decoder_baseline": {"fvu": 0.8}},
        "progress": {
            "metrics": {"fvu": 0.1, "dead_share": 0.2, "frozen_decoder_baseline_fvu": 0.3}
        },
        "scores": [{"baseline": {"value": 0.5}}, {"baseline": 0.5, "dead": 1}],
    }
    assert current_words(current_words(stored)) == current_words(stored)
