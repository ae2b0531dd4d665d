"""Edits as people name them, by nodes or by latents, at their places in a graph.  No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monosemy.errors import SpecError
from monosemy.graphs.graph import Graph, NodeKind
from monosemy.specs.graphs import GraphGoals, TokenLogits
from monosemy.specs.inference.graph_steering import (
    EditPosition,
    GraphEdit,
    GraphSteered,
    PlacedEdit,
)

_LISTED = 5
"""SAEs that an error names."""


@dataclass(frozen=True)
class KnownSae:
    """An SAE of a graph, in the order of the nodes' ``coder``."""

    names: tuple[str, ...]
    """By which it may be called."""
    d_sae: int


def placed_edits(
    edits: Sequence[GraphEdit], graph: Graph, saes: Sequence[KnownSae]
) -> list[PlacedEdit]:
    """``SpecError`` with every fault at its field: a node that is not there or no feature, an SAE
    that is not the graph's, a latent or a token that there is not."""
    made, faults = [], []
    for number, edit in enumerate(edits):
        place = _place(edit, graph, saes)
        if isinstance(place, PlacedEdit):
            made.append(place)
        else:
            faults.append((f"edits.{number}.{place[0]}", place[1]))
    if faults:
        raise SpecError(faults)
    return made


def same_goals(graph: Graph, asked: GraphGoals) -> GraphGoals:
    """What a graph explains, its tokens by their ids: no other reading of the prompt changes which
    they are."""
    tokens = graph.nodes.number[list(graph.goals)].tolist()
    return TokenLogits(tokens=tokens) if all(token >= 0 for token in tokens) else asked


def number_nodes(answer: GraphSteered, graph: Graph) -> None:
    """Gives features of an answer the numbers of their nodes, as far as the graph has them."""
    nodes = graph.nodes
    at = np.flatnonzero(nodes.kind == NodeKind.feature)
    columns = (nodes.coder[at], nodes.number[at], nodes.position[at])
    keys = zip(*(column.tolist() for column in columns), strict=True)
    numbers = dict(zip(keys, at.tolist(), strict=True))
    for each in (*answer.edited, *answer.features):
        each.node = numbers.get((each.coder, each.latent, each.position))


def _place(edit: GraphEdit, graph: Graph, saes: Sequence[KnownSae]) -> PlacedEdit | tuple[str, str]:
    """The edit by its place, or (field, what is wrong with it)."""
    nodes, tokens = graph.nodes, len(graph.ids)
    if isinstance(edit.position, int) and edit.position >= tokens:
        return "position", f"the prompt has tokens 0 to {tokens - 1}, not {edit.position}"
    if edit.node is not None:
        if edit.node >= len(nodes):
            return "node", f"the graph has nodes 0 to {len(nodes) - 1}, not {edit.node}"
        kind = NodeKind(nodes.kind[edit.node])
        if kind != NodeKind.feature:
            return "node", f"node {edit.node} is of kind {kind.name}; features can be changed"
        coder, latent = int(nodes.coder[edit.node]), int(nodes.number[edit.node])
        position: EditPosition = int(nodes.position[edit.node])
    else:
        known = [at for at, sae in enumerate(saes) if edit.sae in sae.names]
        if not known:
            names = ", ".join(sae.names[0] for sae in saes[:_LISTED])
            names += f" and {len(saes) - _LISTED} more" if len(saes) > _LISTED else ""
            return "sae", f"the graph has no SAE '{edit.sae}'; it has {names}"
        coder, latent, position = known[0], edit.latent or 0, "firing"
        if latent >= saes[coder].d_sae:
            return "latent", f"'{edit.sae}' has latents 0 to {saes[coder].d_sae - 1}, not {latent}"
    if edit.position is not None:
        position = edit.position
    return PlacedEdit(
        coder=coder, latent=latent, position=position, mode=edit.mode, strength=edit.strength
    )
