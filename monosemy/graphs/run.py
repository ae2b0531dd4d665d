"""From a spec to a graph: what is asked, traced, scored, pruned and checked, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from monosemy.errors import DataError
from monosemy.graphs.check import check_graph
from monosemy.graphs.forecast import forecast, tell_forecast
from monosemy.graphs.goals import (
    Goal,
    logit_difference,
    stream_direction,
    token_logits,
    top_logits,
)
from monosemy.graphs.graph import Graph
from monosemy.graphs.prompt import ReplacedPrompt, read_prompt
from monosemy.graphs.pruning import Pruned, prune
from monosemy.graphs.replacement import ReplacementModel
from monosemy.graphs.summary import summary_of
from monosemy.graphs.trace import TraceOptions, trace
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.host_text import HostText
from monosemy.models.host import HostModel
from monosemy.progress import SILENT, Reporter
from monosemy.specs.graphs import (
    GraphGoals,
    GraphSpec,
    GraphSummary,
    LogitDifferenceOf,
    StreamDirection,
    TokenLogits,
    TokenOrId,
    TopLogits,
)


@dataclass(frozen=True)
class MadeGraph:
    """A graph of a prompt, and what is said of it."""

    whole: Graph
    pruned: Pruned
    summary: GraphSummary


def make_graph(
    host: HostModel,
    coders: Sequence[HostedSAE],
    spec: GraphSpec,
    reporter: Reporter = SILENT,
    allowed: int | None = None,
    beside: Sequence[tuple[HostModel, Sequence[HostedSAE]]] = (),
) -> MadeGraph:
    """Reads, traces, prunes and checks.

    ``beside``: host and coders on other devices that trace with the first; the first again, where
    threads of one device do.

    What it will take is told before (one line of the reporter's), and refused (``DataError``) where
    that is more than ``allowed`` bytes, or than there are.  Raises ``DataError`` also for coders
    that do not fit together, a prompt that the host cannot read, and a word that is no single
    token; ``ModelError`` for a host that is not affine with attention, norms and MLPs held.
    """
    model = ReplacementModel(host, coders, spec.whole_tokens)
    text = HostText(host)
    ids = text.with_bos(text.tokens(spec.prompt))
    prompt = read_prompt(model, ids)
    goals = goals_of(prompt, spec.goals)
    options = TraceOptions(
        batch=spec.trace.batch,
        most_features=spec.trace.features,
        untraced=spec.trace.untraced,
        row_mass=spec.trace.row_mass,
        row_edges=spec.trace.row_edges,
    )
    cost = forecast(prompt, goals, options, 1 + len(beside))
    tell_forecast(
        cost,
        f"{cost.tokens} tokens, {cost.features} active features, up to {cost.rows} rows",
        "Take a shorter prompt, fewer features (trace.features) or a smaller trace.batch.",
        host,
        allowed,
        reporter,
    )
    others = [
        prompt
        if each is host
        else read_prompt(ReplacementModel(each, its_coders, spec.whole_tokens), ids)
        for each, its_coders in beside
    ]
    whole = trace(prompt, goals, options, reporter, others)
    pruned = prune(whole, spec.pruning.nodes, spec.pruning.edges, spec.pruning.most_nodes)
    check = None
    if spec.check is not None:
        check = check_graph(prompt, goals, whole, pruned.kept, spec.check, 0, reporter)
    return MadeGraph(whole, pruned, summary_of(whole, pruned.graph, cost, check))


def goals_of(prompt: ReplacedPrompt, asked: GraphGoals) -> list[Goal]:
    """What a spec asks to be explained, as goals of its prompt."""
    if isinstance(asked, TopLogits):
        return top_logits(prompt, asked.mass, asked.most)
    if isinstance(asked, TokenLogits):
        return token_logits(prompt, [token_of(prompt.host, each) for each in asked.tokens])
    if isinstance(asked, LogitDifferenceOf):
        pair = (token_of(prompt.host, each) for each in (asked.token, asked.other))
        return [logit_difference(prompt, *pair)]
    assert isinstance(asked, StreamDirection)
    position = prompt.length - 1 if asked.position is None else asked.position
    return [stream_direction(prompt, asked.site, torch.tensor(asked.vector), position)]


def token_of(host: HostModel, word: TokenOrId) -> int:
    """The id of a word; ``DataError`` for one that the host reads as several tokens."""
    if isinstance(word, int):
        return word
    ids = HostText(host).tokens(word)
    if len(ids) != 1:
        raise DataError(
            f"{word!r} is {len(ids)} tokens of {host.name}; a logit is of one.",
            "Mind the leading space, or give the token's id.",
        )
    return ids[0]
