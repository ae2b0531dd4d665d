"""Features of a stored graph's prompt changed on a warm host model."""

from __future__ import annotations

from collections.abc import Sequence

from monosemy.graphs.steering import steer_graph
from monosemy.specs.inference.graph_steering import GraphSteerCall, GraphSteered
from workers.graph_prompts import graph_prompt
from workers.reading import WarmSae
from workers.warm_host import WarmHost


def graph_steered(host: WarmHost, saes: Sequence[WarmSae], call: GraphSteerCall) -> GraphSteered:
    """``saes`` are those of the call, in its order.

    One turn on the host's thread.  Raises ``DataError`` as ``graph_prompt`` and ``steer_graph`` do.
    """

    def work() -> GraphSteered:
        prompt = graph_prompt(host, saes, call)
        return steer_graph(prompt, call.goals, call.edits, call)

    return host.turn(work)
