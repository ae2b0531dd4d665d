"""The example of docs/plugins.md as files, outside the tree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"```\w+ title=(\S+)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that the page shows."""
    folder = tmp_path_factory.mktemp("plugins")
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    for name, content in _BLOCK.findall(page):
        (folder / name).write_text(content, encoding="utf-8")
    assert {file.suffix for file in folder.iterdir()} == {".py", ".yaml"}
    return folder


@pytest.fixture
def python(example: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs code in a process of its own, where ``plugins`` are named and found in ``path``."""

    def run(
        code: str, plugins: str = "field_notes", path: Path = example
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            **{name: v for name, v in os.environ.items() if not name.startswith("MONOSEMY_")},
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(path)]),
            "MONOSEMY_PLUGINS": plugins,
        }
        return subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=path,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run
