"""Attribution graphs of others, read from JSON: circuit-tracer's, Neuronpedia's, Anthropic's, ours.

Nothing of a file is trusted: types, sizes, ids and numbers are looked at one by one, and what does
not fit is named.  Where an error and a latent of layer 0 share their id (a known fault of files
without ``_error_`` in ids), links into it are the feature's, which alone has inputs, and links out
of it the error's, so that the graph looks no better than it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from monosemy.errors import DataError
from monosemy.graphs.graph import Graph, Ints, NodeKind, Nodes, Rows
from monosemy.graphs.store import validate_graph
from monosemy.interchange.attribution_graph import GraphMarks
from monosemy.interchange.attribution_graph_nodes import (
    DEEPEST,
    WIDEST,
    FileNode,
    GraphFault,
    listed,
    read_nodes,
    whole,
    within,
)
from monosemy.interchange.files import list_of, number_of, text_of
from monosemy.specs.part import LARGE

MOST_TOKENS = 100_000
MOST_LINKS = 20_000_000


@dataclass(frozen=True)
class ImportedGraph:
    """A graph from a file, with what else is in it."""

    graph: Graph
    slug: str
    scan: str
    prompt: str
    labels: dict[int, str]
    """What features are called there, by node."""
    view: GraphMarks
    metadata: dict[str, Any]
    """As it stands in the file."""
    notes: list[str] = field(default_factory=list)
    """What was not as it should be and was read all the same."""


def import_graph(document: Any) -> ImportedGraph:
    """The graph of a JSON document, already parsed.  Raises ``GraphFault``."""
    if not isinstance(document, dict):
        raise GraphFault("", "An attribution graph is a JSON object.")
    with within("metadata"):
        metadata = _object(document.get("metadata"), "metadata")
    slug, scan, prompt = (_named(metadata, name) for name in ("slug", "scan", "prompt"))
    texts = _tokens(metadata)
    notes: list[str] = []
    read = read_nodes(document, len(texts), metadata)
    with within("nodes"):
        sources, targets = _by_name(read, notes)
    ours = metadata.get("monosemy")
    ours = ours if isinstance(ours, dict) else {}
    layers = _layers(read, ours)
    goals = [number for number, node in enumerate(read) if node.kind == NodeKind.logit]
    if not goals:
        raise GraphFault("nodes", "The graph has no logit, so it explains nothing.")
    nodes = _columns(read, layers)
    with within("links"):
        edges = _edges(document, sources, targets, notes)
        levels = _levels(nodes, edges)
    with within("metadata.monosemy"):
        graph = _graph(read, nodes, edges, levels, goals, texts, layers, ours)
    try:
        validate_graph(graph)
    except ValueError as error:
        raise GraphFault("", f"The graph cannot be used: {error}.") from None
    labels = {
        number: node.label
        for number, node in enumerate(read)
        if node.kind == NodeKind.feature and node.label
    }
    view = _view(document.get("qParams"), targets, notes)
    return ImportedGraph(graph, slug, scan, prompt, labels, view, dict(metadata), notes)


def _named(metadata: Mapping[str, Any], name: str) -> str:
    with within(f"metadata.{name}"):
        return text_of(metadata.get(name), "metadata", name)


def _tokens(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    with within("metadata.prompt_tokens"):
        texts = list_of(metadata.get("prompt_tokens"), "metadata", "prompt_tokens")
        if not 0 < len(texts) <= MOST_TOKENS:
            raise DataError(f"The prompt of a graph has 1 to {MOST_TOKENS} tokens.")
        return tuple(text_of(each, "metadata", "prompt_tokens") for each in texts)


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"An attribution graph has an object '{name}'.")
    return value


def _by_name(read: list[FileNode], notes: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """(which node links out of an id belong to, and links into it)."""
    out: dict[str, int] = {}
    into: dict[str, int] = {}
    shared = 0
    for number, node in enumerate(read):
        if node.name not in out:
            out[node.name] = into[node.name] = number
            continue
        other = read[out[node.name]]
        kinds = {node.kind: number, other.kind: out[node.name]}
        if set(kinds) != {NodeKind.feature, NodeKind.error}:
            raise DataError(f"Two nodes have the id {node.name[:80]!r}.")
        out[node.name], into[node.name] = kinds[NodeKind.error], kinds[NodeKind.feature]
        shared += 1
    if shared:
        notes.append(
            f"{shared} errors share their ids with features of layer 0; links out of these ids "
            "are taken for the errors'."
        )
    return out, into


def _layers(read: list[FileNode], ours: Mapping[str, Any]) -> int:
    inner = [n.layer for n in read if n.kind in (NodeKind.feature, NodeKind.error)]
    layers = 1 + max(inner, default=-1)
    stated = ours.get("layers")
    if isinstance(stated, int) and not isinstance(stated, bool) and layers <= stated <= DEEPEST:
        layers = stated
    return max(layers, 1)


_Edges = dict[int, list[tuple[int, float]]]


def _edges(
    document: Mapping[str, Any],
    sources: Mapping[str, int],
    targets: Mapping[str, int],
    notes: list[str],
) -> _Edges:
    """By target: (source, weight)."""
    edges: _Edges = {}
    lost = 0
    for number, each in enumerate(listed(document, "links", MOST_LINKS)):
        where = f"link {number}"
        link = each if isinstance(each, dict) else {}
        try:
            names = [text_of(link.get(end), where, end) for end in ("source", "target")]
            weight = number_of(link.get("weight"), where, "weight")
        except DataError as error:
            raise GraphFault(f"links.{number}", str(error)) from None
        source, target = sources.get(names[0]), targets.get(names[1])
        if source is None or target is None:
            lost += 1
            continue
        edges.setdefault(target, []).append((source, weight))
    if lost:
        notes.append(f"{lost} links name nodes that are not in the file, and were left out.")
    return edges


def _columns(read: list[FileNode], layers: int) -> Nodes:
    def of(values: Iterable[int]) -> Ints:
        return np.fromiter(values, np.int64, len(read))

    return Nodes(
        of(int(node.kind) for node in read),
        of(layers if node.kind == NodeKind.logit else node.layer for node in read),
        of(node.position for node in read),
        of(node.coder for node in read),
        of(node.number for node in read),
        np.fromiter((node.value for node in read), float, len(read)),
        of(int(node.branch) for node in read),
    )


def _levels(nodes: Nodes, edges: _Edges) -> Ints | None:
    """None where layers order the edges; else the longest way from a source.  ``DataError`` for a
    circle."""
    layer = nodes.depth
    if all(layer[s] < layer[t] for t, into in edges.items() for s, _ in into):
        return None
    waiting = {target: len(into) for target, into in edges.items()}
    leads: dict[int, list[int]] = {}
    for target, into in edges.items():
        for source, _ in into:
            leads.setdefault(source, []).append(target)
    levels = np.zeros(len(nodes), np.int64)
    ready = [number for number in range(len(nodes)) if number not in waiting]
    done = 0
    while ready:
        source = ready.pop()
        done += 1
        for target in leads.get(source, ()):
            levels[target] = max(levels[target], levels[source] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    if done < len(nodes):
        raise DataError("The links of the graph go round in a circle.")
    return levels


def _graph(
    read: list[FileNode],
    nodes: Nodes,
    edges: _Edges,
    levels: Ints | None,
    goals: list[int],
    texts: tuple[str, ...],
    layers: int,
    ours: Mapping[str, Any],
) -> Graph:
    level = nodes.depth if levels is None else levels
    targets = sorted(edges, key=lambda number: (-int(level[number]), number))
    if any(read[t].kind not in (NodeKind.feature, NodeKind.logit) for t in targets):
        raise GraphFault("links", "A link leads into a node that is neither a feature nor a logit.")
    parts = [sorted(edges[target]) for target in targets]
    counts = np.array([len(part) for part in parts], np.int64)
    own_rows = ours.get("rows")
    own_rows = own_rows if isinstance(own_rows, dict) else {}
    stored = np.array(
        [_told(own_rows.get(read[t].name), part) for t, part in zip(targets, parts, strict=True)]
    ).reshape(len(targets), 3)
    rows = Rows(
        np.array(targets, np.int64),
        np.concatenate([[0], np.cumsum(counts)]),
        np.array([source for part in parts for source, _ in part], np.int64),
        np.array([weight for part in parts for _, weight in part], float),
        stored[:, 1],
        stored[:, 2],
        stored[:, 0],
    )
    weights = np.array([read[goal].value for goal in goals])
    names, labels = [read[goal].name for goal in goals], [read[goal].label for goal in goals]
    for each in ours.get("goals", ()) if isinstance(ours.get("goals"), list) else ():
        if isinstance(each, dict) and each.get("node") in names:
            place = names.index(each["node"])
            weights[place] = number_of(each.get("weight"), "metadata.monosemy", "weight")
            labels[place] = text_of(each.get("label"), "metadata.monosemy", "label")
    if not (weights >= 0).all() or not 0 < weights.sum() <= LARGE:
        weights = np.ones(len(goals))
    return Graph(
        ids=_ids(read, len(texts), ours),
        texts=texts,
        layers=layers,
        nodes=nodes,
        rows=rows,
        goals=tuple(goals),
        goal_labels=tuple(labels),
        goal_weights=weights,
        about=ours["about"] if isinstance(ours.get("about"), dict) else {},
        level_N=levels,
    )


def _told(value: Any, part: list[tuple[int, float]]) -> tuple[float, float, float]:
    """(value, rest, its mass) of a row as we wrote it; of others' the edges are all there is."""
    if isinstance(value, list) and len(value) == 3:
        made = [number_of(each, "metadata.monosemy", "rows") for each in value]
        return made[0], made[1], abs(made[2])
    return math.fsum(weight for _, weight in part), 0.0, 0.0


def _ids(read: list[FileNode], tokens: int, ours: Mapping[str, Any]) -> tuple[int, ...]:
    """Token ids, -1 where nothing says them."""
    stated = ours.get("ids")
    if isinstance(stated, list) and len(stated) == tokens:
        return tuple(whole(each, "metadata.monosemy", "ids", WIDEST, -1) for each in stated)
    ids = [-1] * tokens
    for node in read:
        if node.kind == NodeKind.token:
            ids[node.position] = node.number
    return tuple(ids)


def _view(value: Any, nodes: Mapping[str, int], notes: list[str]) -> GraphMarks:
    """Pins and supernodes, those alone whose nodes are there."""
    params = value if isinstance(value, dict) else {}
    pinned = params.get("pinnedIds")
    groups = params.get("supernodes")
    lost = 0
    kept: list[tuple[str, tuple[int, ...]]] = []
    for group in groups if isinstance(groups, list) else ():
        if not isinstance(group, list) or not group or not isinstance(group[0], str):
            lost += 1
            continue
        members = [name for name in group[1:] if isinstance(name, str) and name in nodes]
        lost += len(group) - 1 - len(members)
        kept.append((group[0], tuple(nodes[name] for name in members)))
    names = [name for name in pinned if isinstance(name, str)] if isinstance(pinned, list) else []
    there = [nodes[name] for name in names if name in nodes]
    lost += len(names) - len(there)
    if lost:
        notes.append(f"{lost} pins or members of supernodes name nodes that are not in the file.")
    return GraphMarks(tuple(dict.fromkeys(there)), tuple(kept))
