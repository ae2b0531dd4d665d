"""A graph as one file: a zip of .npy arrays and a JSON header, read without pickle.

    header.json          version, tokens, goals, what it was made with, how edges are kept
    node_*.npy           columns of the nodes, each in the smallest integers that hold it;
                         node_branch where attention has features or errors
    row_target, row_edges    targets of rows, and how many edges each has
    gap.npy              sources, ascending within a row: the first itself, then differences
    weight.npy           float16: share of the row's largest weight, row_scale (float32)
    row_rest, row_rest_mass, row_value    float32

An edge takes a weight of 2 bytes and a gap of 1 or 2, before deflation.  Float16 of a share is
right to 2^-11 of the weight down to 6e-5 of the row's largest; what that leaves of a row's sum goes
to its rest, so that rows still add up.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError
from monosemy.formats.npz import array_of, check_sizes
from monosemy.graphs.graph import NODE_COLUMNS, Branch, Floats, Graph, Ints, NodeKind, Nodes, Rows
from monosemy.half_written import faults_naming
from monosemy.json_faults import json_fault

VERSION = 1
MOST_BYTES = 2**31
"""What a file may unpack to."""
MOST_NODES = 50_000_000

_ROW_FLOATS = ("row_scale", "row_rest", "row_rest_mass", "row_value")
_UNSIGNED = (np.uint8, np.uint16, np.uint32, np.uint64)
_SIGNED = (np.int8, np.int16, np.int32, np.int64)
_BEGINNING = (1980, 1, 1, 0, 0, 0)
"""No time stamp: the same graph is the same bytes."""


@dataclass(frozen=True)
class StoredSize:
    """How large a file became."""

    bytes: int
    edges: int

    @property
    def bytes_per_edge(self) -> float:
        return self.bytes / max(self.edges, 1)


def write_graph(path: str | Path, graph: Graph) -> StoredSize:
    """Writes the file whole or not at all.  Raises ``DataError`` as ``graph_bytes`` does, and for a
    path that cannot be written."""
    target, data = Path(path), graph_bytes(graph)
    part = target.with_name(target.name + ".part")
    with faults_naming(target, part):
        part.write_bytes(data)
        part.replace(target)
    return StoredSize(len(data), len(graph.rows.source))


def graph_bytes(graph: Graph) -> bytes:
    """What the file of a graph holds.  Raises ``DataError`` for a graph with a number that is not
    finite."""
    arrays = _arrays(graph)
    header = {
        "version": VERSION,
        "ids": list(graph.ids),
        "texts": list(graph.texts),
        "layers": graph.layers,
        "goals": list(graph.goals),
        "goal_labels": list(graph.goal_labels),
        "goal_weights": [float(each) for each in graph.goal_weights],
        "about": dict(graph.about),
    }
    try:
        text = json.dumps(header, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"What a graph says of itself is no JSON: {error}.") from None
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(_entry("header.json"), text)
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            file.writestr(_entry(f"{name}.npy"), buffer.getvalue())
    return whole.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _BEGINNING)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _arrays(graph: Graph) -> dict[str, npt.NDArray[Any]]:
    nodes, rows = graph.nodes, graph.rows
    for name, values in (("edge", rows.weight), ("value", rows.value), ("node", nodes.value)):
        if not np.isfinite(values).all():
            raise DataError(f"A graph with {name}s that are no finite numbers is not stored.")
    order = np.lexsort((rows.weight < 0, rows.source, rows.row_of_edge))
    source, weight = rows.source[order], rows.weight[order]
    counts = np.diff(rows.start)
    gap = np.diff(source, prepend=0)
    first = rows.start[:-1][counts > 0]
    gap[first] = source[first]
    scale = np.zeros(len(rows))
    np.maximum.at(scale, rows.row_of_edge, np.abs(weight))
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        scale = scale.astype(np.float32).astype(np.float64)
        share = (weight / np.where(scale > 0, scale, 1.0)[rows.row_of_edge]).astype(np.float16)
        kept = share.astype(np.float64) * scale[rows.row_of_edge]
        rest = rows.rest + rows.sums(weight - kept)
    floats = {
        "node_value": nodes.value,
        "row_scale": scale,
        "row_rest": rest,
        "row_rest_mass": rows.rest_mass,
        "row_value": rows.value,
    }
    with np.errstate(over="ignore"):
        narrow = {name: values.astype(np.float32) for name, values in floats.items()}
    for name, column in narrow.items():
        if not np.isfinite(column).all():
            raise DataError(f"A graph is not stored whose {name} is no number of 32 bits.")
    columns = {f"node_{name}": _smallest(getattr(nodes, name)) for name in NODE_COLUMNS[:-1]}
    if nodes.branch.any():
        columns["node_branch"] = _smallest(nodes.branch)
    if graph.level_N is not None:
        columns["node_level"] = _smallest(graph.level_N)
    return {
        **columns,
        **narrow,
        "row_target": _smallest(rows.target),
        "row_edges": _smallest(counts),
        "gap": _smallest(gap),
        "weight": share,
    }


def _smallest(values: Ints) -> npt.NDArray[Any]:
    if not len(values):
        return values.astype(np.uint8)
    low, high = int(values.min()), int(values.max())
    for dtype in _UNSIGNED if low >= 0 else _SIGNED:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    raise AssertionError("int64 holds them all")


def read_graph(path: str | Path) -> Graph:
    """The graph in a file.  Raises ``DataError`` for what is no such file, whatever is in it."""
    return _read(Path(path), Path(path).name)


def graph_of_bytes(data: bytes, name: str) -> Graph:
    """The graph that a file held; ``name`` says which in errors.  Raises as ``read_graph`` does."""
    return _read(io.BytesIO(data), name)


def _read(source: Path | io.BytesIO, name: str) -> Graph:
    try:
        with zipfile.ZipFile(source) as file:
            check_sizes(file.infolist(), name, MOST_BYTES)
            header = json.loads(file.read("header.json"))
            arrays = {
                entry.removesuffix(".npy"): _array(file.read(entry))
                for entry in file.namelist()
                if entry.endswith(".npy")
            }
    except (OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{name} is no stored graph: {reason}.") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is no stored graph: {json_fault(error)}.") from None
    try:
        return _graph(header, arrays)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{name} is no whole graph: {str(error)[:200]}.") from None


def _array(data: bytes) -> npt.NDArray[Any]:
    array = array_of(data)
    if array.ndim != 1:
        raise ValueError("an array is no list of numbers")
    return array


def _graph(header: Any, arrays: dict[str, npt.NDArray[Any]]) -> Graph:
    if header["version"] != VERSION:
        raise ValueError(f"its version is {header['version']!r}, not {VERSION}")
    ints = {name: arrays[f"node_{name}"].astype(np.int64) for name in NODE_COLUMNS[:-1]}
    ints |= {"branch": arrays["node_branch"].astype(np.int64)} if "node_branch" in arrays else {}
    nodes = Nodes(**ints, value=arrays["node_value"].astype(np.float64))
    count, layers = len(nodes), int(header["layers"])
    if count > MOST_NODES or any(len(column) != count for column in vars(nodes).values()):
        raise ValueError("its nodes have columns of unequal length")
    target, counts = (arrays[name].astype(np.int64) for name in ("row_target", "row_edges"))
    start = np.concatenate([[0], np.cumsum(counts)])
    floats = {name: arrays[name].astype(np.float64) for name in _ROW_FLOATS}
    share = arrays["weight"].astype(np.float64)
    if any(len(each) != len(target) for each in (counts, *floats.values())):
        raise ValueError("its rows have columns of unequal length")
    source = _sources(arrays["gap"].astype(np.int64), start, counts)
    if len(share) != len(source):
        raise ValueError("it has not one weight for each edge")
    weight = share * np.repeat(floats["row_scale"], counts)
    rows = Rows(
        target,
        start,
        source,
        weight,
        floats["row_rest"],
        floats["row_rest_mass"],
        floats["row_value"],
    )
    goals = tuple(int(each) for each in header["goals"])
    graph = Graph(
        ids=tuple(int(each) for each in header["ids"]),
        texts=tuple(str(each) for each in header["texts"]),
        layers=layers,
        nodes=nodes,
        rows=rows,
        goals=goals,
        goal_labels=tuple(str(each) for each in header["goal_labels"]),
        goal_weights=np.array([float(each) for each in header["goal_weights"]]),
        about=dict(header["about"]),
        level_N=arrays["node_level"].astype(np.int64) if "node_level" in arrays else None,
    )
    validate_graph(graph)
    return graph


def _sources(gap: Ints, start: Ints, counts: Ints) -> Ints:
    """From differences: a running sum that begins anew with each row."""
    if int(start[-1]) != len(gap) or (counts < 0).any() or (gap < 0).any():
        raise ValueError("its rows have another number of edges than there are")
    running = np.cumsum(gap)
    before = np.concatenate([[0], running])[start[:-1]]
    return np.asarray(running - np.repeat(before, counts))


def validate_graph(graph: Graph) -> None:
    """``ValueError`` unless numbers are finite, nodes exist, and edges lead upwards."""
    nodes, rows, count = graph.nodes, graph.rows, len(graph.nodes)
    for values in (*(v for v in vars(rows).values()), nodes.value, graph.goal_weights):
        if not np.isfinite(values).all():
            raise ValueError("a number is not finite")
    for numbers in (rows.target, rows.source, np.asarray(graph.goals, np.int64)):
        if len(numbers) and not (numbers.min() >= 0 and numbers.max() < count):
            raise ValueError("an edge leads to a node that is not there")
    if not len(graph.goals) or len(graph.goals) != len(graph.goal_weights):
        raise ValueError("its goals and their weights are not as many")
    if len(graph.goal_labels) != len(graph.goals) or len(graph.texts) != len(graph.ids):
        raise ValueError("a label is missing")
    if len(np.unique(rows.target)) < len(rows):
        raise ValueError("a node has two rows")
    kinds = nodes.kind[rows.target]
    if not np.isin(kinds, (NodeKind.feature, NodeKind.logit)).all():
        raise ValueError("a node has inputs that is neither a feature nor a logit")
    level = graph.level_of_node
    if len(level) != count:
        raise ValueError("its nodes have not one level each")
    if (np.diff(level[rows.target]) > 0).any():
        raise ValueError("its rows are not in the order of their layers")
    if (level[rows.source] >= level[rows.target[rows.row_of_edge]]).any():
        raise ValueError("an edge does not lead to a higher layer")
    errors = nodes.kind == NodeKind.error
    if not np.isin(nodes.branch, list(Branch)).all():
        raise ValueError("a node is of no branch")
    placed = (nodes.layer[errors] >= 0) & (nodes.layer[errors] < graph.layers)
    placed &= (nodes.position[errors] >= 0) & (nodes.position[errors] < len(graph.ids))
    if not placed.all():
        raise ValueError("an error has no place in the prompt")


def kept_mass(graph: Graph) -> Floats:
    """``[R]``: the share of each row's mass that its edges hold, biases left out."""
    rows = graph.rows
    mass = rows.sums(np.where(graph.bias_edges, 0.0, np.abs(rows.weight)))
    return np.asarray(mass / np.maximum(mass + rows.rest_mass, 1e-300))
