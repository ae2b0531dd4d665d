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
from monosemy.interchange.attribution_graph import VIRTUAL, uncantor
from monosemy.interchange.files import list_of, number_of, text_of

MOST_NODES = 1_000_000
DEEPEST, WIDEST = 10_000, 2**31 - 1
"""A layer, and a latent, may be so large."""
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
    document: Mapping[str, Any], tokens: int, metadata: Mapping[str, Any]
) -> list[FileNode]:
    """``tokens``: how many the prompt has.  Raises ``GraphFault``."""
    with within("nodes"):
        values = listed(document, "nodes", MOST_NODES)
    read = []
    for number, each in enumerate(values):
        try:
            read.append(_node(each, f"node {number}", tokens, metadata))
        except DataError as error:
            raise GraphFault(f"nodes.{number}", str(error)) from None
    return read


def listed(document: Mapping[str, Any], name: str, most: int) -> list[Any]:
    """A list of the document, of at most so many things."""
    values = list_of(document.get(name), "The graph", name)
    if len(values) > most:
        raise DataError(f"The graph has more than {most} {name}.")
    return values


def whole(value: Any, where: str, name: str, most: int, least: int = 0) -> int:
    """A whole number from ``least`` to ``most``."""
    number = number_of(value, where, name)
    if not number.is_integer() or not least <= number <= most:
        raise DataError(f"{where}: {name} is no whole number from {least} to {most}.")
    return int(number)


def _node(value: Any, where: str, tokens: int, metadata: Mapping[str, Any]) -> FileNode:
    node = value if isinstance(value, dict) else {}
    name = text_of(node.get("node_id"), where, "node_id")
    where = f"node {name[:80]!r}"
    kind_text = text_of(node.get("feature_type"), where, "feature_type")
    position = whole(node.get("ctx_idx"), where, "ctx_idx", max(tokens - 1, 0))
    label = node.get("clerp")
    label = label if isinstance(label, str) else ""
    p, activation = (
        0.0 if node.get(key) is None else number_of(node[key], where, key)
        for key in ("token_prob", "activation")
    )
    feature = node.get("feature")
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
        return layer, int(match[2]), _bounded(match[3], where)
    if match := _LORSA.fullmatch(name):
        return layer, _CODERS[match[2]], _bounded(match[3], where)
    match = _PLAIN.fullmatch(name)
    if match and (int(match[1]), int(match[3])) == (layer, position):
        return layer, 0, _bounded(match[2], where)
    if number is None:
        raise DataError(f"{where}: neither its id nor its number says which feature it is.")
    given = whole(number, where, "feature", 2**53)
    if metadata.get("schema_version") is not None:
        depth, latent = uncantor(given)
        if depth != layer:
            raise DataError(f"{where}: its number is one of layer {depth}, not of {layer}.")
        return layer, 0, latent
    digits, head = str(given), str(layer)
    if layer and digits.startswith(head) and len(digits) > len(head):
        return layer, 0, _bounded(digits[len(head) :], where)
    return layer, 0, given


def _bounded(digits: str, where: str) -> int:
    if len(digits) > 10 or int(digits) > WIDEST:
        raise DataError(f"{where}: no latent has the number {digits[:40]}.")
    return int(digits)
