"""The page that shows a training."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from monosemy.specs.readings import TrainingFigures, TrainingReading
from monosemy.svg import policy
from monosemy.training.page import density_histogram, training_page


def readings(count: int) -> list[TrainingReading]:
    return [
        TrainingReading(
            step=i,
            tokens=100 * i,
            learning_rate=1e-3,
            fvu=1 / (i + 1),
            l0=3.0,
            loss=1 / (i + 1),
            dead_share=0.0,
            terms={"auxk": 0.125},
            frozen_decoder_baseline=TrainingFigures(fvu=0.9),
        )
        for i in range(1, count + 1)
    ]


class Balanced(HTMLParser):
    VOID = frozenset({"meta", "line"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, _attrs: Any) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, _attrs: Any) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_curves_bars_and_facts_are_there() -> None:
    density = [0.0, 1e-5, 0.02, 0.02, 0.5]
    histogram = density_histogram(density)
    page = training_page({"name": "one <b>", "sae": {"k": 3}}, readings(40), histogram)
    parser = Balanced()
    parser.feed(page)
    assert not parser.open
    assert page.count('class="curves"') == 5 and page.count('class="bars"') == 1
    assert "one &lt;b&gt;" in page and "<b>" not in page
    drawn = re.sub(r'<svg class="swatches".*?</svg>', "", page)  # the key has a line of its own
    curves = re.findall(r'<path class="line own" d="M([^"]*)"', drawn)
    assert [len(curve.split("L")) for curve in curves] == [40] * 5
    heights = [float(curve.split()[-1]) for curve in curves[:1]]
    assert heights[0] > float(curves[0].split("L")[0].split()[1]), "a falling curve goes down"
    assert "1 of 5 silent" in page
    assert "<dt>terms.auxk</dt><dd>0.125</dd>" in page
    bars = re.findall(r"<title>(\d+) latents", page)
    assert sum(map(int, bars)) == 4 and "2" in bars
    assert "http:" not in page and "https:" not in page, "it loads nothing"
    assert "style=" not in page and policy() in page


@pytest.mark.parametrize("count", [0, 1])
def test_short_runs_have_a_page_too(count: int) -> None:
    page = training_page({"site": "blocks.0.hook_resid_post"}, readings(count))
    assert "nan" not in page.lower() and "inf" not in page.split("<body>")[1].lower()


def test_a_value_that_cannot_be_drawn_is_left_out() -> None:
    lines = readings(3)
    lines[1] = lines[1].model_copy(update={"fvu": 0.0})
    lines[2] = lines[2].model_copy(update={"l0": None})
    page = training_page({}, lines)
    curves = re.findall(r'<path class="line own" d="M([^"]*)"', page)
    assert len(curves[0].split("L")) == 2 and len(curves[1].split("L")) == 2


def test_the_histogram_counts_every_latent_once() -> None:
    histogram = density_histogram([0.0, 1e-9, 1e-6, 2e-6, 0.011, 0.05, 1.0, 1.0])
    assert (histogram["lowest"], histogram["per_decade"], histogram["silent"]) == (-6, 2, 1)
    assert histogram["counts"] == [3, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 2]


def test_a_live_page_loads_itself_again() -> None:
    assert 'http-equiv="refresh"' in training_page({}, readings(2), live=True)
    assert 'http-equiv="refresh"' not in training_page({}, readings(2))
