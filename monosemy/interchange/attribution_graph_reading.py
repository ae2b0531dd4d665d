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
from monosemy.graphs.graph import Floats, Graph, Ints, NodeKind, Nodes, Rows
from monosemy.graphs.store import validate_graph
from monosemy.interchange.attribution_graph import GraphMarks
from monosemy.interchange.attribution_graph_nodes import (
    DEEPEST,
    WIDEST,
    FileNode,
    GraphFault,
    bounded,
    listed,
    read_nodes,
    whole,
    within,
)
from monosemy.interchange.files import list_of, text_of
from monosemy.specs.part import LARGE

MOST_TOKENS = 100_000
_SURELY = 1.001
"""A probability that was rounded may be so large."""
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
    read = read_nodes(document, len(texts), metadata, notes)
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
        edges = _edges(document, read, sources, targets, notes)
        levels = _levels(read, nodes, edges)
    weights, goal_labels = _goals(read, goals, ours, notes)
    with within("metadata.monosemy"):
        graph = Graph(
            ids=_ids(read, len(texts), ours),
            texts=texts,
            layers=layers,
            nodes=nodes,
            rows=_rows(read, nodes, edges, levels, ours),
            goals=tuple(goals),
            goal_labels=goal_labels,
            goal_weights=weights,
            about=ours["about"] if isinstance(ours.get("about"), dict) else {},
            level_N=levels,
        )
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
        return text_of(metadata.get(name), "The graph", name)


def _tokens(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    with within("metadata.prompt_tokens"):
        texts = list_of(metadata.get("prompt_tokens"), "The graph", "prompt_tokens")
        if not 0 < len(texts) <= MOST_TOKENS:
            raise DataError(f"The prompt of a graph has 1 to {MOST_TOKENS} tokens.")
        return tuple(text_of(each, "The prompt", "one of the tokens") for each in texts)


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
    read: list[FileNode],
    sources: Mapping[str, int],
    targets: Mapping[str, int],
    notes: list[str],
) -> _Edges:
    """By target: (source, weight)."""
    edges: _Edges = {}
    lost = 0
    links = listed(document, "links", MOST_LINKS)
    for number, each in enumerate(links):
        with within(f"links.{number}"):
            names, weight = _link(each)
            source, target = sources.get(names[0]), targets.get(names[1])
            if source is None or target is None:
                lost += 1
                continue
            _check_ends(read[source], read[target])
            edges.setdefault(target, []).append((source, weight))
    if any(len({source for source, _ in into}) < len(into) for into in edges.values()):
        _check_once(links, sources, targets)
    if lost:
        notes.append(f"{lost} links name nodes that are not in the file, and were left out.")
    return edges


def _link(value: Any) -> tuple[tuple[str, str], float]:
    """((source, target), weight)."""
    link = value if isinstance(value, dict) else {}
    source, target = (text_of(link.get(end), "A link", end) for end in ("source", "target"))
    return (source, target), bounded(link.get("weight"), _called(source, target), "weight")


def _called(source: str, target: str) -> str:
    return f"The link from {source[:80]!r} to {target[:80]!r}"


def _check_ends(source: FileNode, target: FileNode) -> None:
    """``DataError`` for a link that no language model has: tokens are read from the first to the
    last, and a logit is where a graph ends."""
    if target.kind not in (NodeKind.feature, NodeKind.logit):
        reason = f"leads into {_a(target)}: only features and logits are fed by others"
    elif source is target:
        reason = "leads from a node to itself"
    elif source.kind == NodeKind.logit:
        reason = "leads out of a logit, which feeds nothing"
    elif source.position > target.position:
        reason = (
            f"leads from token {source.position} back to token {target.position} (ctx_idx), "
            "which cannot know of it"
        )
    else:
        return
    raise DataError(f"{_called(source.name, target.name)} {reason}. Leave it out or turn it round.")


def _a(node: FileNode) -> str:
    return f"{'an' if node.kind == NodeKind.error else 'a'} {node.kind.name}"


def _check_once(links: list[Any], sources: Mapping[str, int], targets: Mapping[str, int]) -> None:
    """``GraphFault`` for a second link of one source and target; not where two nodes share the
    source's id, whose links cannot be told apart."""
    first: dict[tuple[str, str], int] = {}
    for number, each in enumerate(links):
        ends = each["source"], each["target"]
        before = first.setdefault(ends, number)
        if before == number or not (ends[0] in sources and ends[1] in targets):
            continue
        if sources[ends[0]] == targets[ends[0]]:
            raise GraphFault(
                f"links.{number}",
                f"{_called(*ends)} is link {before} already. Leave one of them out, or give their "
                "sum as one.",
            )


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


def _levels(read: list[FileNode], nodes: Nodes, edges: _Edges) -> Ints | None:
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
        raise DataError(
            f"The links of the graph go round in a circle, through {_circle(read, edges, waiting)}."
        )
    return levels


def _circle(read: list[FileNode], edges: _Edges, waiting: Mapping[int, int]) -> str:
    """Nodes of one circle, up to five: each that waits has a source that waits as well."""
    at = next(number for number, count in waiting.items() if count)
    way: dict[int, int] = {}
    while at not in way:
        way[at] = len(way)
        at = next(source for source, _ in edges[at] if waiting.get(source))
    around = list(way)[way[at] :][::-1]
    more = f" and {len(around) - 5} more" if len(around) > 5 else ""
    return ", ".join(repr(read[number].name[:80]) for number in around[:5]) + more


def _rows(
    read: list[FileNode],
    nodes: Nodes,
    edges: _Edges,
    levels: Ints | None,
    ours: Mapping[str, Any],
) -> Rows:
    level = nodes.depth if levels is None else levels
    targets = sorted(edges, key=lambda number: (-int(level[number]), number))
    parts = [sorted(edges[target]) for target in targets]
    counts = np.array([len(part) for part in parts], np.int64)
    own_rows = ours.get("rows")
    own_rows = own_rows if isinstance(own_rows, dict) else {}
    stored = np.array(
        [_told(own_rows.get(read[t].name), part) for t, part in zip(targets, parts, strict=True)]
    ).reshape(len(targets), 3)
    return Rows(
        np.array(targets, np.int64),
        np.concatenate([[0], np.cumsum(counts)]),
        np.array([source for part in parts for source, _ in part], np.int64),
        np.array([weight for part in parts for _, weight in part], float),
        stored[:, 1],
        stored[:, 2],
        stored[:, 0],
    )


def _goals(
    read: list[FileNode], goals: list[int], ours: Mapping[str, Any], notes: list[str]
) -> tuple[Floats, tuple[str, ...]]:
    """(weights, labels): of ours as they were written, of others' the probabilities."""
    weights = np.array([read[goal].value for goal in goals])
    names, labels = [read[goal].name for goal in goals], [read[goal].label for goal in goals]
    written = set()
    with within("metadata.monosemy"):
        for each in ours.get("goals", ()) if isinstance(ours.get("goals"), list) else ():
            if isinstance(each, dict) and each.get("node") in names:
                place = names.index(each["node"])
                where = f"Goal {names[place][:80]!r}"
                weights[place] = bounded(each.get("weight"), where, "weight")
                labels[place] = text_of(each.get("label"), where, "label")
                if weights[place] < 0:
                    raise DataError(f"{where}: weight is {weights[place]:g}, below 0.")
                written.add(place)
    for place, goal in enumerate(goals):
        if place not in written and not 0 <= weights[place] <= _SURELY:
            raise GraphFault(
                f"nodes.{goal}",
                f"Node {names[place][:80]!r}: token_prob is {weights[place]:g}, no probability "
                "from 0 to 1.",
            )
    if not 0 < weights.sum() <= LARGE:
        notes.append("No logit has a probability (token_prob); all of them count alike.")
        weights = np.ones(len(goals))
    return weights, tuple(labels)


def _told(value: Any, part: list[tuple[int, float]]) -> tuple[float, float, float]:
    """(value, rest, its mass) of a row as we wrote it; of others' the edges are all there is."""
    if isinstance(value, list) and len(value) == 3:
        made = [bounded(each, "A row", "one of its numbers") for each in value]
        return made[0], made[1], abs(made[2])
    return math.fsum(weight for _, weight in part), 0.0, 0.0


def _ids(read: list[FileNode], tokens: int, ours: Mapping[str, Any]) -> tuple[int, ...]:
    """Token ids, -1 where nothing says them."""
    stated = ours.get("ids")
    if isinstance(stated, list) and len(stated) == tokens:
        return tuple(whole(each, "The prompt", "one of the ids", WIDEST, -1) for each in stated)
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
