"""Attribution graphs as JSON, as circuit-tracer's and Neuronpedia's viewers read and upload them.

The form (draft-07) is ``attribution_graph.schema.json``.  Features carry Cantor's number of (layer,
latent) and are of schema version 1.  Errors are ``{layer}_error_{token}`` here: circuit-tracer's
``0_{layer}_{token}`` is also the id of latent ``layer`` of layer 0 there, whose links then merge
with the error's.  Both forms are read.  Features and errors of attention are called as Llamascopium
and Neuronpedia call Lorsa's: ``{layer}_lor_{latent}_{token}`` and ``{layer}_error_attn_{token}``.
What the form has no place for (rows' values and what they left out) stands under
``metadata.monosemy`` and comes back with it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from monosemy.errors import DataError
from monosemy.graphs.graph import Branch, Floats, Graph, NodeKind
from monosemy.graphs.influence import influence
from monosemy.graphs.names import BIASES

FEATURE_TYPE = "cross layer transcoder"
"""Of transcoders of one layer too, as the viewers have it."""
ERROR_TYPE = "mlp reconstruction error"
ATTENTION_TYPES = {NodeKind.feature: "lorsa", NodeKind.error: "lorsa error"}
TYPES = {
    NodeKind.error: ERROR_TYPE,
    NodeKind.token: "embedding",
    NodeKind.position: "position",
    NodeKind.bias: "bias",
    NodeKind.logit: "logit",
}


def schema() -> dict[str, Any]:
    """The JSON schema of the form, draft-07."""
    text = files("monosemy.interchange").joinpath("attribution_graph.schema.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@dataclass(frozen=True)
class GraphMarks:
    """What a person has done to a graph: nodes by number."""

    pinned: tuple[int, ...] = ()
    supernodes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """(label, members)"""


def cantor(layer: int, latent: int) -> int:
    """The number of a pair in circuit-tracer's files."""
    return (layer + latent) * (layer + latent + 1) // 2 + latent


def uncantor(number: int) -> tuple[int, int]:
    """(layer, latent) of a number; exact for any.  ``ValueError`` below 0."""
    if number < 0:
        raise ValueError("a pair's number is 0 or more")
    diagonal = (math.isqrt(8 * number + 1) - 1) // 2
    latent = number - diagonal * (diagonal + 1) // 2
    return diagonal - latent, latent


def node_ids(graph: Graph) -> list[str]:
    """An id for each node, no two alike."""
    nodes = graph.nodes
    feature = nodes.kind == NodeKind.feature
    feature &= nodes.branch == Branch.mlp
    pairs = {
        (int(a), int(b)) for a, b in zip(nodes.layer[feature], nodes.coder[feature], strict=True)
    }
    coders_of = Counter(layer for layer, _ in pairs)
    seen: Counter[str] = Counter()
    names = []
    for number in range(len(nodes)):
        name = _node_id(graph, number, coders_of)
        seen[name] += 1
        # Only a file of others has two nodes of one place and number.
        names.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return names


def _node_id(graph: Graph, number: int, coders_of: Mapping[int, int]) -> str:
    nodes = graph.nodes
    kind, layer = NodeKind(nodes.kind[number]), int(nodes.layer[number])
    place, own = int(nodes.position[number]), int(nodes.number[number])
    attends = nodes.branch[number] == Branch.attention
    if attends and kind == NodeKind.feature:
        return f"{layer}_lor_{own}_{place}"
    if attends and kind == NodeKind.error:
        return f"{layer}_error_attn_{place}"
    if kind == NodeKind.feature:
        coder = f"_c{int(nodes.coder[number])}" if coders_of[layer] > 1 else ""
        return f"{layer}{coder}_{own}_{place}"
    if kind == NodeKind.error:
        return f"{layer}_error_{place}"
    if kind == NodeKind.token:
        return f"E_{own}_{place}"
    if kind == NodeKind.position:
        return f"P_{place}"
    if kind == NodeKind.bias:
        return f"bias_{_bias_name(own)}"
    return f"{graph.layers + 1}_{_logit_number(graph, number)}_{place}"


def _bias_name(number: int) -> str:
    return BIASES[number] if 0 <= number < len(BIASES) else "other"


VIRTUAL = 10**7
"""Logits that are no token's (differences, directions) have numbers from here on."""


def _logit_number(graph: Graph, node: int) -> int:
    """A token's id, or a virtual one."""
    own = int(graph.nodes.number[node])
    return own if own >= 0 else VIRTUAL + graph.goals.index(node)


def export_graph(
    graph: Graph,
    slug: str,
    scan: str,
    prompt: str,
    labels: Mapping[int, str] | None = None,
    view: GraphMarks | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The JSON document of a (pruned) graph.

    ``scan`` is what a viewer looks features up by: Neuronpedia's id of the model, or any name;
    ``labels`` of features, by node; ``metadata`` more of what the schema has there.
    ``DataError`` for a name that is empty.
    """
    if not slug or not scan:
        raise DataError("An exported graph needs a slug and a scan.")
    names, view = node_ids(graph), view or GraphMarks()
    flow = influence(graph)
    shares = _cumulative(flow.through_N)
    pruning = graph.about.get("pruning") or {}
    about = {
        "slug": slug,
        "scan": scan,
        "prompt": prompt,
        "prompt_tokens": list(graph.texts),
        "schema_version": 1,
        "info": {"generator": {"name": "monosemy"}},
        **({"node_threshold": pruning["nodes"]} if "nodes" in pruning else {}),
        **(
            {
                "pruning_settings": {
                    "node_threshold": pruning["nodes"],
                    "edge_threshold": pruning["edges"],
                }
            }
            if pruning
            else {}
        ),
        **dict(metadata or {}),
        "monosemy": _ours(graph, names),
    }
    return {
        "metadata": about,
        "qParams": {
            "pinnedIds": [names[node] for node in view.pinned],
            "supernodes": [[label, *(names[n] for n in group)] for label, group in view.supernodes],
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": [
            _node(graph, number, names[number], float(shares[number]), (labels or {}).get(number))
            for number in range(len(names))
        ],
        "links": _links(graph, names),
    }


def _cumulative(through_N: np.ndarray) -> np.ndarray:
    """The share of the influence through a node and all before it: small is important."""
    order = np.argsort(-through_N, kind="stable")
    running = np.cumsum(through_N[order]) / max(float(through_N.sum()), 1e-300)
    shares = np.empty(len(through_N))
    shares[order] = np.minimum(running, 1.0)
    return shares


def _ours(graph: Graph, names: Sequence[str]) -> dict[str, Any]:
    rows, cancelled_R = graph.rows, _cancelled(graph)
    return {
        "layers": graph.layers,
        "ids": list(graph.ids),
        "about": dict(graph.about),
        "goals": [
            {"node": names[node], "label": label, "weight": float(weight)}
            for node, label, weight in zip(
                graph.goals, graph.goal_labels, graph.goal_weights, strict=True
            )
        ],
        "rows": {
            names[int(target)]: [
                float(rows.value[row]),
                float(rows.rest[row]),
                float(rows.rest_mass[row] + cancelled_R[row]),
            ]
            for row, target in enumerate(rows.target)
        },
    }


def _cancelled(graph: Graph) -> Floats:
    """``[R]``: the mass that links lose where edges of both signs from one error become one; it
    counts as missed, as the error's did, so that the file looks no better than the graph."""
    rows = graph.rows
    pair_E = rows.row_of_edge * len(graph.nodes) + rows.source
    _, first_P, pair_E = np.unique(pair_E, return_index=True, return_inverse=True)
    sum_P, mass_P = (np.bincount(pair_E, each) for each in (rows.weight, np.abs(rows.weight)))
    lost_P = mass_P - np.abs(sum_P)
    lost_R = np.bincount(rows.row_of_edge[first_P], lost_P, minlength=len(rows))
    return lost_R.astype(np.float64)


def _links(graph: Graph, names: Sequence[str]) -> list[dict[str, Any]]:
    """Edges of one source and target are one link: where pruning kept both signs apart, their
    sum."""
    rows = graph.rows
    sums: dict[tuple[int, int], float] = {}
    targets = rows.target[rows.row_of_edge]
    for source, target, weight in zip(
        rows.source.tolist(), targets.tolist(), rows.weight.tolist(), strict=True
    ):
        sums[source, target] = sums.get((source, target), 0.0) + weight
    return [
        {"source": names[source], "target": names[target], "weight": weight}
        for (source, target), weight in sums.items()
    ]


def _node(graph: Graph, number: int, name: str, share: float, label: str | None) -> dict[str, Any]:
    nodes = graph.nodes
    kind, layer = NodeKind(nodes.kind[number]), int(nodes.layer[number])
    place, own = max(int(nodes.position[number]), 0), int(nodes.number[number])
    text = json.dumps(graph.texts[place], ensure_ascii=False)
    attends = nodes.branch[number] == Branch.attention
    types = ATTENTION_TYPES if attends else TYPES
    node: dict[str, Any] = {
        "node_id": name,
        "feature": None,
        "layer": str(layer),
        "ctx_idx": place,
        "feature_type": types.get(kind, FEATURE_TYPE),
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "reverse_ctx_idx": len(graph.ids) - 1 - place,
        "jsNodeId": f"{name}-0",
        "clerp": "",
        "influence": share,
        "activation": None,
    }
    if kind == NodeKind.feature:
        node |= {
            "feature": cantor(layer, own),
            "jsNodeId": f"{layer}_lor_{own}-0" if attends else f"{layer}_{own}-0",
            "clerp": label or "",
            "activation": float(nodes.value[number]),
        }
    elif kind == NodeKind.error:
        of = "attn" if attends else "mlp"
        ending = f"{layer}_attn_{place}-0" if attends else f"{layer}_{place}-0"
        node |= {"feature": -1, "jsNodeId": ending, "clerp": f"Err: {of} {text}"}
    elif kind == NodeKind.token:
        node |= {
            "feature": place,
            "layer": "E",
            "jsNodeId": f"E_{own}-{place}",
            "clerp": f"Emb: {text}",
        }
    elif kind in (NodeKind.position, NodeKind.bias):
        what = f"Position {place}" if kind == NodeKind.position else f"Bias: {_bias_name(own)}"
        node |= {"layer": "E", "jsNodeId": name, "clerp": what}
    else:
        goal = graph.goals.index(number)
        label = json.dumps(graph.goal_labels[goal], ensure_ascii=False)
        p = float(nodes.value[number])
        node |= {
            "feature": _logit_number(graph, number),
            "layer": str(graph.layers + 1),
            "jsNodeId": f"L_{_logit_number(graph, number)}-{place}",
            "clerp": f"Output {label} (p={p:.3f})",
            "token_prob": p,
            "is_target_logit": goal == 0,
        }
    return node
