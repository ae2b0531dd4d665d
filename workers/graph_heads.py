"""Heads behind a stored graph, by warm SAEs on a warm host model."""

from __future__ import annotations

from collections.abc import Sequence

from monosemy.graphs.head_answers import answer_heads, answer_score
from monosemy.specs.inference.graph_heads import (
    GraphHeads,
    GraphHeadsCall,
    GraphScore,
    GraphScoreCall,
)
from workers.graph_prompts import graph_prompt
from workers.reading import WarmSae
from workers.warm_host import WarmHost


def graph_heads(host: WarmHost, saes: Sequence[WarmSae], call: GraphHeadsCall) -> GraphHeads:
    """``saes`` are those of the call, in its order; one turn on the host's thread.  Raises
    ``DataError`` as ``graph_prompt`` and ``answer_heads`` do."""

    def work() -> GraphHeads:
        prompt = graph_prompt(host, saes, call)
        source = call.source if call.source is not None else call.token
        assert source is not None  # by the request
        return answer_heads(prompt, call.goals, call.target, source, call.top)

    return host.turn(work)


def graph_score(host: WarmHost, saes: Sequence[WarmSae], call: GraphScoreCall) -> GraphScore:
    """The same of ``answer_score``."""
    return host.turn(lambda: answer_score(graph_prompt(host, saes, call), call))
