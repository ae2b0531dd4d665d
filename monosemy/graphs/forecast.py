"""How long a graph will take, and how much memory, told before it is traced."""

from __future__ import annotations

import time

import torch

from monosemy.errors import DataError
from monosemy.graphs.goals import Goal
from monosemy.graphs.prompt import ReplacedPrompt
from monosemy.graphs.sources import Sources
from monosemy.graphs.trace import TraceOptions
from monosemy.models.host import HostModel
from monosemy.models.memory import most_bytes
from monosemy.progress import Reporter
from monosemy.specs.graphs import GraphForecast

_TIMES, _MOST_TIMED = 2, 2**26
"""How often one block is timed, and with how many bytes of cotangents at most."""
_KEPT_EDGE = 24
"""Bytes of an edge: 8 while a graph is traced, 16 as it is handed over."""
_PASSED = 3
"""Times the cotangents that a pass holds at most, temporaries included."""


def forecast(
    prompt: ReplacedPrompt,
    goals: list[Goal],
    options: TraceOptions | None = None,
    devices: int = 1,
) -> GraphForecast:
    """Times the attention of one block; the rest is arithmetic.  Bytes are those of one card, and
    on CPU of all ``devices``.

    A feature's row takes the blocks below it and the tokens up to its own, so that seconds are the
    mean over active features; those that are traced are often later ones than the mean.
    """
    options = options or TraceOptions()
    features, sources = prompt.features, Sources.of(prompt)
    rows = len(features)
    if options.most_features is not None:
        rows = min(rows, options.most_features)
    whole = _seconds_per_row(prompt, options.batch)
    share = 1.0
    if len(features):
        below = (features.layer_N.double() + 1) / prompt.layers
        before = (features.position_N.double() + 1) / prompt.length
        share = float((below * before).mean())
    width, length = prompt.last_TD.shape[1], prompt.length
    heads = prompt.attention[0].reading.call.heads
    batch = 4 * options.batch
    held = batch * (_PASSED * length * width + sources.first_goal) + heads * length**2
    edges = int(sources.first_bias * share) + 1
    if options.row_edges is not None:
        edges = min(edges, options.row_edges)
    kept = _KEPT_EDGE * rows * edges
    if prompt.last_TD.device.type == "cpu":
        held *= devices
    return GraphForecast(
        tokens=length,
        features=len(features),
        rows=rows + len(goals),
        seconds=whole * (len(goals) + rows * share) / min(devices, options.between_ranks),
        bytes=held + kept,
    )


def tell_forecast(
    cost: GraphForecast,
    counted: str,
    advice: str,
    host: HostModel,
    allowed: int | None,
    reporter: Reporter,
) -> None:
    """One line of the reporter's: what is ``counted``, and what it will take; ``DataError`` with
    ``advice`` where that is more than ``allowed`` bytes, or than ``host``'s device has."""
    reporter.log(f"{counted}: about {cost.seconds:.0f} s, {cost.bytes / 2**20:.0f} MB")
    most = most_bytes(host.device, allowed)
    if cost.bytes > most:
        raise DataError(
            f"The graph would take {cost.bytes / 2**30:.1f} GB of memory; there are "
            f"{most / 2**30:.1f}.",
            advice,
        )


def _seconds_per_row(prompt: ReplacedPrompt, batch: int) -> float:
    """By a batch as it will go down: a row of a few costs up to five times that of many.  The least
    of some times, since others may hold the machine for a moment."""
    width = prompt.last_TD.shape[1]
    timed = max(1, min(batch, _MOST_TIMED // (4 * prompt.length * width)))
    cotangents = torch.ones(prompt.length, timed, width, device=prompt.last_TD.device)
    layer = prompt.layers // 2
    with torch.no_grad():
        prompt.attention[layer].add_transposed(cotangents)
        taken = []
        for _ in range(_TIMES):
            begun = time.perf_counter()
            prompt.attention[layer].add_transposed(cotangents)
            taken.append(time.perf_counter() - begun)
    return min(taken) / timed * prompt.layers
