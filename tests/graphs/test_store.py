"""A graph as a file: what comes back, how large it is, and what is no graph."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from monosemy.errors import DataError
from monosemy.graphs.graph import Graph
from monosemy.graphs.influence import influence
from monosemy.graphs.pruning import prune
from monosemy.graphs.store import kept_mass, read_graph, write_graph
from tests.support.random_graphs import random_graph


def test_what_comes_back_is_the_graph(tmp_path: Path) -> None:
    graph = prune(random_graph(3), 0.9, 0.95).graph
    write_graph(tmp_path / "g.npz", graph)
    again = read_graph(tmp_path / "g.npz")
    assert (again.ids, again.texts, again.goals) == (graph.ids, graph.texts, graph.goals)
    assert again.about == graph.about
    for name, values in vars(graph.nodes).items():
        np.testing.assert_allclose(getattr(again.nodes, name), values, rtol=1e-6)
    largest = np.abs(graph.rows.weight).max()
    for node in range(len(graph.nodes)):
        ours, theirs = (dict(zip(*g.edges_into(node), strict=True)) for g in (graph, again))
        assert ours.keys() == theirs.keys()
        for source, weight in ours.items():
            assert theirs[source] == pytest.approx(weight, rel=6e-4, abs=1e-6 * largest)
    assert again.rounding.max() <= 1e-6  # what halves round away goes to the rest
    one, two = influence(graph), influence(again)
    np.testing.assert_allclose(two.through_N, one.through_N, rtol=5e-3, atol=1e-4)
    assert two.replacement == pytest.approx(one.replacement, rel=1e-3)


def test_an_edge_takes_four_bytes_at_most(tmp_path: Path) -> None:
    graph = prune(random_graph(1, layers=10, each=60, tokens=12), 0.95, 0.98).graph
    size = write_graph(tmp_path / "g.npz", graph)
    assert size.edges > 30_000
    assert size.bytes_per_edge <= 4
    assert kept_mass(graph).min() > 0.5


def test_the_same_graph_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_graph(tmp_path / name, random_graph(5))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def _changed(graph: Graph, path: Path, **changes: object) -> Path:
    """The file with entries replaced: bytes, an array, or (of header.json) entries."""
    write_graph(path, graph)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    for name, value in changes.items():
        if name == "header":
            header = {**json.loads(entries["header.json"]), **value}  # type: ignore[dict-item]
            entries["header.json"] = json.dumps(header).encode()
            continue
        buffer = io.BytesIO()
        np.save(buffer, value, allow_pickle=True)  # type: ignore[arg-type]
        entries[f"{name}.npy"] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"header": {"version": 2}},
        {"header": {"goals": [10**9]}},
        {"header": {"goals": []}},
        {"header": {"goal_weights": ["x", 1]}},
        {"header": {"layers": None}},
        {"gap": np.zeros(3, np.uint8)},
        {"gap": np.array([{"an": "object"}], dtype=object)},
        {"weight": np.zeros((2, 2), np.float16)},
        {"row_value": np.full(74, np.nan, np.float32)},
        {"row_target": np.zeros(74, np.uint8)},
        {"row_edges": np.full(74, 2**62, np.int64)},
        {"node_kind": np.zeros(2, np.uint8)},
        {"node_layer": np.zeros(109, np.uint8)},
    ],
    ids=str,
)
def test_what_is_no_graph_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    path = _changed(random_graph(0), tmp_path / "g.npz", **changes)
    with pytest.raises(DataError, match=r"g\.npz is no"):
        read_graph(path)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 40])
def test_other_files_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "g.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"g\.npz is no stored graph"):
        read_graph(tmp_path / "g.npz")
    with pytest.raises(DataError, match="no stored graph"):
        read_graph(tmp_path / "nothing")


def test_numbers_that_are_none_are_not_stored(tmp_path: Path) -> None:
    graph = random_graph(0)
    graph.rows.weight[3] = np.inf
    with pytest.raises(DataError, match="finite"):
        write_graph(tmp_path / "g.npz", graph)
    assert not list(tmp_path.iterdir())
