"""Who may import whom (docs/architecture.md), read off the source and tried in a process."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {
    "monosemy": {"service", "workers", "migrations", "fastapi", "sqlalchemy", "redis", "dramatiq"},
    "service": {"workers", "torch", "transformers", "sae_lens", "transformer_lens"},
}


@cache
def nodes_of(file: Path) -> list[ast.Import | ast.ImportFrom | ast.Call]:
    """What ``file`` imports and calls, inside functions too."""
    tree = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return [node for node in tree if isinstance(node, ast.Import | ast.ImportFrom | ast.Call)]


def imports_of(file: Path) -> set[str]:
    """Top-level names of every module that ``file`` imports, inside functions too."""
    names: set[str] = set()
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def calls_of(file: Path) -> set[str]:
    """Every function that ``file`` calls, as written there."""
    return {ast.unparse(node.func) for node in nodes_of(file) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_no_room_imports_above_itself(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert len(files) > 10
    faults = {
        str(file.relative_to(ROOT)): bad
        for file in files
        if (bad := imports_of(file) & FORBIDDEN[package])
    }
    assert not faults


BLOCKED = """
import sys
for name in ("torch", "transformers", "safetensors", "sae_lens", "transformer_lens"):
    sys.modules[name] = None
import importlib, pkgutil, service
for module in pkgutil.walk_packages(service.__path__, "service."):
    importlib.import_module(module.name)
import monosemy.specs, monosemy.index.reader, monosemy.index.example_bytes
import monosemy.data.token_bytes, monosemy.data.splits, monosemy.interp.statistics.rates
import monosemy.interp.registry, monosemy.client
from pathlib import Path
from service.app import create_app
from service.settings import Settings
app = create_app(Settings(home=Path(sys.argv[1])))
print(len(app.openapi()["paths"]))
"""


def test_service_and_readers_work_where_torch_does_not_exist(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 30


def test_no_module_unpickles() -> None:
    """Whatever a user names is read as safetensors, npy without objects, or JSON."""
    for package in ("monosemy", "service", "workers"):
        for file in (ROOT / package).rglob("*.py"):
            source = file.read_text(encoding="utf-8")
            assert not imports_of(file) & {"pickle", "dill", "joblib", "cloudpickle"}, file
            assert "torch.load" not in calls_of(file), file
            assert "allow_pickle=True" not in source, file
            assert "trust_remote_code=True" not in source, file
