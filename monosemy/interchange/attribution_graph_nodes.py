"""Nodes of attribution graphs of others, read from JSON one by one; nothing of them is trusted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from monosemy.errors import DataError
from monosemy.graphs.graph import Branch, NodeKind
from monosemy.graphs.names import BIASES
from monosemy.interchange.attribution_graph import FEATURE_TYPE, VIRTUAL, cantor, uncantor
from monosemy.interchange.files import list_of, number_of, text_of
from monosemy.specs.part import LARGE

MOST_NODES = 1_000_000
DEEPEST, WIDEST = 10_000, 2**31 - 1
"""A layer, and a latent, may be so large."""
_MOST_FEATURE = 2**63 - 1
"""A node's number, whatever it counts."""
_FEATURE_TYPES = {FEATURE_TYPE, "transcoder", "lorsa", "crosscoder"}
_OURS = re.compile(r"(\d{1,10})_c(\d{1,4})_(\d+)_(\d{1,10})")
_PLAIN = re.compile(r"(\d{1,10})_(\d+)_(\d{1,10})")
_LORSA = re.compile(r"(\d{1,10})_(lor|cro)_(\d+)_(\d{1,10})")
_TOKEN = re.compile(r"E_(\d{1,10})_\d+")
_CODERS = {"lor": 1, "cro": 2}
"""Of coders named in ids, their numbers; plain ids are of coder 0."""


class GraphFault(DataError):
    """What is wrong with a file; ``path`` says where in it: ``nodes.17``."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


@contextmanager
def within(path: str) -> Iterator[None]:
    """Faults of the block are at ``path``, unless they say where they are."""
    try:
        yield
    except GraphFault:
        raise
    except DataError as error:
        raise GraphFault(path, str(error)) from None


@dataclass(frozen=True)
class FileNode:
    """A node, with its columns as a graph has them."""

    name: str
    kind: NodeKind
    layer: int
    position: int
    coder: int
    number: int
    value: float
    label: str
    branch: Branch = Branch.mlp


def read_nodes(
    document: Mapping[str, Any], tokens: int, metadata: Mapping[str, Any], notes: list[str]
) -> list[FileNode]:
    """``tokens``: how many the prompt has; what is odd is added to ``notes``.  Raises
    ``GraphFault``."""
    with within("nodes"):
        values = listed(document, "nodes", MOST_NODES)
    read: list[FileNode] = []
    strange: list[tuple[str, str]] = []
    renumbered: list[str] = []
    for number, each in enumerate(values):
        with within(f"nodes.{number}"):
            node = _node(each, tokens, metadata)
        read.append(node)
        if node.kind == NodeKind.feature:
            if each["feature_type"] not in _FEATURE_TYPES:
                strange.append((node.name, each["feature_type"]))
            if not _numbered(node, each.get("feature")):
                renumbered.append(node.name)
    if strange:
        name, kind = strange[0]
        notes.append(
            f"{len(strange)} nodes were taken for features, whose feature_type is none that is "
            f"known here (the first: node {name[:80]!r}, {kind[:80]!r})."
        )
    if renumbered:
        notes.append(
            f"{len(renumbered)} features have another number than their ids say (the first: node "
            f"{renumbered[0][:80]!r}); the ids were taken."
        )
    return read


def _numbered(node: FileNode, number: Any) -> bool:
    """Whether a feature's number is that of its layer and latent, in either way of counting."""
    if number is None or number == cantor(node.layer, node.number):
        return True
    return _latent_in(node.layer, int(number)) == node.number or number == node.number


def _latent_in(layer: int, number: int) -> int:
    """Of a number with the layer's digits before the latent's; itself without them."""
    digits, head = str(number), str(layer)
    if layer and digits.startswith(head) and len(digits) > len(head):
        return int(digits[len(head) :])
    return number


def listed(document: Mapping[str, Any], name: str, most: int) -> list[Any]:
    """A list of the document, of at most so many things."""
    values = list_of(document.get(name), "The graph", name)
    if len(values) > most:
        raise DataError(f"The graph has more than {most} {name}.")
    return values


def whole(value: Any, where: str, name: str, most: int, least: int = 0) -> int:
    """A whole number from ``least`` to ``most``."""
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    # Not by number_of: as a float a large one is another.
    if not fits or not least <= value <= most or int(value) != value:
        plain = isinstance(value, str | int | float)
        shown = repr(value)[:40] if plain else "missing" if value is None else "no number"
        raise DataError(f"{where}: {name} is {shown}, not a whole number from {least} to {most}.")
    return int(value)


def bounded(value: Any, where: str, name: str) -> float:
    """A number that a stored graph holds, in 32 bits, and sums of millions as well."""
    number = number_of(value, where, name)
    if abs(number) > LARGE:
        raise DataError(f"{where}: {name} is {number:g}; there it is at most {LARGE:g} in size.")
    return number


def _node(value: Any, tokens: int, metadata: Mapping[str, Any]) -> FileNode:
    node = value if isinstance(value, dict) else {}
    name = text_of(node.get("node_id"), "A node", "node_id")
    where = f"Node {name[:80]!r}"
    kind_text = text_of(node.get("feature_type"), where, "feature_type")
    position = whole(node.get("ctx_idx"), where, "ctx_idx", max(tokens - 1, 0))
    label = node.get("clerp")
    label = label if isinstance(label, str) else ""
    p, activation = (
        0.0 if node.get(key) is None else bounded(node[key], where, key)
        for key in ("token_prob", "activation")
    )
    feature = node.get("feature")
    if feature is not None:
        whole(feature, where, "feature", _MOST_FEATURE, -1)
    layer = node.get("layer")
    if kind_text == "logit":
        number = -1 if feature is None else whole(feature, where, "feature", WIDEST, -1)
        number = -1 if number >= VIRTUAL else number
        return FileNode(name, NodeKind.logit, -1, position, -1, number, p, label)
    if kind_text == "embedding":
        match = _TOKEN.fullmatch(name)
        token = int(match[1]) if match is not None and int(match[1]) <= WIDEST else -1
        return FileNode(name, NodeKind.token, -1, position, -1, token, 0.0, label)
    if kind_text == "position":
        return FileNode(name, NodeKind.position, -1, position, -1, position, 0.0, label)
    if kind_text == "bias":
        own = name.removeprefix("bias_")
        number = BIASES.index(own) if own in BIASES else -1
        return FileNode(name, NodeKind.bias, -1, -1, -1, number, 0.0, label)
    depth = _layer(layer, where)
    branch = Branch.attention if "lorsa" in kind_text else Branch.mlp
    if "error" in kind_text:
        return FileNode(name, NodeKind.error, depth, position, -1, -1, 0.0, label, branch)
    depth, coder, latent = _feature(name, depth, position, feature, metadata, where)
    kind = NodeKind.feature
    return FileNode(name, kind, depth, position, coder, latent, activation, label, branch)


def _layer(value: Any, where: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"\d{1,5}", value):
        value = int(value)
    return whole(value, where, "layer", DEEPEST)


def _feature(
    name: str, layer: int, position: int, number: Any, metadata: Mapping[str, Any], where: str
) -> tuple[int, int, int]:
    """(layer, coder, latent): from the id, or from the number by the file's version."""
    if match := _OURS.fullmatch(name):
        return layer, int(match[2]), _latent(match[3], where)
    if match := _LORSA.fullmatch(name):
        return layer, _CODERS[match[2]], _latent(match[3], where)
    match = _PLAIN.fullmatch(name)
    if match and (int(match[1]), int(match[3])) == (layer, position):
        return layer, 0, _latent(match[2], where)
    if number is None:
        raise DataError(f"{where}: neither its id nor its number says which feature it is.")
    given = whole(number, where, "feature", 2**53)
    if metadata.get("schema_version") is not None:
        depth, latent = uncantor(given)
        if depth != layer:
            raise DataError(f"{where}: its number is one of layer {depth}, not of {layer}.")
        return layer, 0, latent
    return layer, 0, _latent(str(_latent_in(layer, given)), where)


def _latent(digits: str, where: str) -> int:
    if len(digits) > 10 or int(digits) > WIDEST:
        raise DataError(f"{where}: no latent has the number {digits[:40]}.")
    return int(digits)
