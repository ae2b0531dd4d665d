"""Packages of other libraries, each in a folder of its own: their versions of what they need would
clash with ours."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

CIRCUIT_TRACER = "circuit-tracer==0.5.0"


@functools.cache
def installed(package: str) -> Path:
    """A folder with ``package`` alone, without what it needs; skips the test where it cannot be
    had."""
    folder = Path(tempfile.mkdtemp(prefix="peer-"))
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), package]
    if subprocess.run([sys.executable, *install], capture_output=True).returncode:
        pytest.skip(f"{package} cannot be installed here")
    return folder


def run_beside(package: str, *arguments: str) -> str:
    """What a Python process that sees ``package`` prints; its errors are the assertion's."""
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(installed(package)), str(root)])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
