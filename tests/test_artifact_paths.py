"""Paths of artifacts are made by ``Workspace`` alone: no folder's name is joined by hand."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from monosemy.errors import DataError
from monosemy.workspace import Kind, Workspace

ROOT = Path(__file__).resolve().parent.parent
NAMES = {str(kind) for kind in Kind}
ELSEWHERE = {"monosemy/workspace.py", "monosemy/interchange/neuronpedia.py"}
"""The one place; and a file of another program's layout, which has a folder of such a name."""


def joined_by_hand(source: str) -> list[str]:
    """Expressions that put an artifact folder's name into a path."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            bad = isinstance(node.right, ast.Constant) and str(node.right.value) in NAMES
        elif isinstance(node, ast.JoinedStr):
            first = node.values[0] if node.values else None
            text = first.value if isinstance(first, ast.Constant) else ""
            bad = str(text).partition("/")[0] in NAMES and "/" in str(text)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            first = node.args[0] if node.args else None
            named = isinstance(first, ast.Constant) and str(first.value) in NAMES
            bad = named and node.func.attr in {"folder", "find", "root_of", "joinpath"}
        else:
            continue
        if bad:
            faults.append(ast.unparse(node))
    return faults


@pytest.mark.parametrize(
    "source",
    ['root / "saes"', 'root / "text" / name', "f'indexes/{name}'", "w.folder('runs', name)"],
)
def test_such_expressions_are_seen(source: str) -> None:
    assert joined_by_hand(source)


@pytest.mark.parametrize("source", ["w.folder(Kind.RUNS, name)", "f'/runs/{id}'", 'a["saes"]'])
def test_others_are_let_be(source: str) -> None:
    assert not joined_by_hand(source)


@pytest.mark.parametrize("package", ["monosemy", "service", "workers"])
def test_no_artifact_path_is_joined_by_hand(package: str) -> None:
    faults = {
        str(file.relative_to(ROOT)): bad
        for file in (ROOT / package).rglob("*.py")
        if str(file.relative_to(ROOT)) not in ELSEWHERE
        and (bad := joined_by_hand(file.read_text(encoding="utf-8")))
    }
    assert not faults


def test_a_found_path_is_within_and_not_made(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "root")
    place = workspace.find(Kind.TEXT, "0123abcd")
    assert place == workspace.root_of(Kind.TEXT) / "0123abcd" and not place.exists()
    assert workspace.folder(Kind.TEXT, "0123abcd") == place and place.is_dir()
    assert workspace.relative(place) == "text/0123abcd"
    for name in ("../saes", "", "a/b", ".trash"):
        with pytest.raises(DataError, match="cannot name an artifact"):
            workspace.find(Kind.TEXT, name)
