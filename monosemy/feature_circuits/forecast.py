"""How long a feature circuit will take, and how much memory, told before it is looked for."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from monosemy.feature_circuits.coded_sites import CodedSite, run
from monosemy.feature_circuits.pairs import PairGroup
from monosemy.models import sites as kinds
from monosemy.models.host import HostModel
from monosemy.models.sites import Site
from monosemy.specs.feature_circuits import FeatureCircuitSpec
from monosemy.specs.graphs import GraphForecast

_BACKWARD = 2
"""Forwards that a backward pass takes."""
_KEPT_PER_SITE = 8
"""Copies of a site's activations: values and what is read on both sides, gradients, differences."""
_STREAM_COPIES = 14
_MLP_COPIES = 4


def forecast(
    host: HostModel,
    sites: Sequence[CodedSite],
    fit: Sequence[PairGroup],
    test: Sequence[PairGroup],
    spec: FeatureCircuitSpec,
) -> GraphForecast:
    """Times one forward of the longest pairs; the rest is arithmetic.  ``features`` is not known
    before the prompts have been read, and stands as 0."""
    pairs, held_out = (sum(map(len, groups)) for groups in (fit, test))
    longest = max([*fit, *test], key=lambda group: len(group.pairs[0].clean))
    rows = longest.clean_PT[: spec.batch]
    with torch.no_grad():
        run(host, sites, rows, lambda *_: None)
        begun = time.perf_counter()
        run(host, sites, rows, lambda *_: None)
        one = (time.perf_counter() - begun) / len(rows)
    length = int(rows.shape[1])
    return GraphForecast(
        tokens=length,
        features=0,
        rows=spec.nodes + 1,
        seconds=one * _forwards(len(sites), pairs, held_out, spec),
        bytes=_bytes(host, sites, pairs, length, spec),
    )


def _forwards(sites: int, pairs: int, held_out: int, spec: FeatureCircuitSpec) -> float:
    whole = 1 + _BACKWARD
    effects = whole * (1 if spec.method == "atp" else sites * spec.midpoints + 1)
    traced = spec.edge_midpoints * (whole + _BACKWARD * spec.nodes / sites)
    circuits = 3 + 2 * spec.random_circuits + spec.neurons
    sizes = max(spec.nodes, 1).bit_length() + 2
    return pairs * (2 + effects + sites + traced + spec.exact) + held_out * sizes * circuits


def _bytes(
    host: HostModel, sites: Sequence[CodedSite], pairs: int, length: int, spec: FeatureCircuitSpec
) -> int:
    mlp = 4 * host.d_model
    name = str(Site(0, kinds.MLP_POST))
    if name in host.sites():
        mlp = host.site_width(name)
    heads = host.abilities.heads or 1
    layer = _STREAM_COPIES * host.d_model + _MLP_COPIES * mlp + 2 * heads * length
    forward = min(spec.batch, pairs * spec.midpoints) * (
        length * layer * host.n_layers + host.d_vocab
    )
    width = sum(host.site_width(each.site) + host.site_width(each.reads) for each in sites)
    readings = _KEPT_PER_SITE * pairs * length * width
    edges = (spec.nodes + 1) * (spec.nodes + len(sites) * length) * 4
    return 4 * (forward + readings + edges)
