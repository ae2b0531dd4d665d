"""/graphs/common: what graphs of several prompts share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from monosemy.common_graph_plot import FEATURES, common_drawing
from monosemy.figures import plural
from monosemy.specs.rest.common_graphs import CommonUnit, CommonView
from monosemy.ticks import Span
from service.edge.context import ContextDep
from service.graphs.common_endpoints import AskedDep, answered
from service.pages.page import PageRouter
from service.pages.render import LinksDep

router = PageRouter()

_EDGES = 40
"""Rows of the table of edges."""


@dataclass(frozen=True)
class CommonGraphs:
    it: CommonView
    drawing: Markup
    drawn: int
    """Features that are drawn."""
    features: list[CommonUnit]
    most: Span
    """Ends of the scale of shares."""
    edge_rows: int
    graphs: Sequence[str]
    """As the address names them."""
    against: Sequence[str]


@router.page("/graphs/common", "graph_common.html")
async def common_graphs(context: ContextDep, links: LinksDep, asked: AskedDep) -> CommonGraphs:
    it = await context.lanes.reports.run(partial(answered, context, asked))
    own = [unit for unit in it.units if unit.kind == "feature"]
    drawn = min(len(own), FEATURES)

    def link(unit: CommonUnit) -> str | None:
        if unit.kind != "feature" or not it.served[unit.coder]:
            return None
        return links.url(f"/saes/{it.saes[unit.coder]}/features/{unit.latent}")

    says = f"{plural(drawn, 'feature')} that graphs share, with their edges; the tables have them"
    return CommonGraphs(
        it=it,
        drawing=Markup(common_drawing(it, link, says)),
        drawn=drawn,
        features=own,
        most=(0.0, max((unit.share.high for unit in own), default=0.0) or 1.0),
        edge_rows=_EDGES,
        graphs=asked.graphs,
        against=asked.against,
    )
