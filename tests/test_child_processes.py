"""Processes that tests start: they see the checkout under test, and a death is told at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.child_process import ChildProcess

ROOT = Path(__file__).resolve().parent.parent


def test_a_script_in_any_folder_imports_this_checkout(tmp_path: Path) -> None:
    """Python looks where the script lies, not in the working directory."""
    script = tmp_path / "script.py"
    script.write_text("import monosemy, service, workers, tests.support\nprint(tests.__file__)")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path(done.stdout.strip()) == ROOT / "tests" / "__init__.py"


def test_a_child_that_ends_early_says_why_and_nobody_waits(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    began = time.monotonic()
    with ChildProcess(command, tmp_path / "child.log") as child:
        with pytest.raises(AssertionError, match=r"status 1:\nno such thing"):
            child.wait_until(lambda: False)
        with pytest.raises(AssertionError, match=r"status 1:\nno such thing"):
            child.succeeded()
    assert time.monotonic() - began < 30


def test_a_child_that_works_is_killed_after_the_block(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
    began = time.monotonic()
    with ChildProcess([sys.executable, "-c", code, str(mark)], tmp_path / "child.log") as child:
        child.wait_until(mark.exists)
        assert not child.succeeded()
    assert time.monotonic() - began < 50
