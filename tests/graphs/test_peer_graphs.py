"""circuit-tracer's graph of the same model, prompt and transcoders."""

from __future__ import annotations

import re

import pytest

from tests.support.peer_packages import CIRCUIT_TRACER, run_beside


@pytest.mark.campaign
def test_edges_that_both_have_are_the_same() -> None:
    shape = {"layers": 3, "width": 64, "heads": 4, "latents": 256, "active": 8, "batch": 32}
    options = [word for name, value in shape.items() for word in (f"--{name}", str(value))]
    script = ["benchmarks/attribution_graphs.py", "--tokens", "9", "--rounds", "1", *options]
    table = run_beside(CIRCUIT_TRACER, *script).splitlines()
    row = dict(zip(table[-3].split("|"), table[-1].split("|"), strict=True))
    figures = {name.strip(): value.strip() for name, value in row.items()}
    rows = re.findall(r"[\d,]+", figures["rows, ours / theirs (both)"])
    ours, theirs, both = (int(each.replace(",", "")) for each in rows)
    assert 100 < both <= ours <= theirs
    assert float(figures["edges apart, of the largest"]) < 1e-4
