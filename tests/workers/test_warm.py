"""What is kept loaded, and what is let go."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from workers.warm import Warm


def test_a_thing_is_loaded_once_and_the_oldest_is_let_go(tmp_path: Path) -> None:
    warm: Warm[str] = Warm(2)
    loads: list[str] = []
    gate = threading.Event()

    def load(name: str) -> str:
        loads.append(name)
        gate.wait(5)
        return name.upper()

    with ThreadPoolExecutor(8) as pool:
        same = [pool.submit(warm.get, "a", lambda: load("a")) for _ in range(6)]
        gate.set()
        assert {future.result() for future in same} == {"A"}
    assert loads == ["a"]
    for name in ("b", "a", "c"):  # b is the oldest when c comes
        warm.get(name, lambda name=name: load(name))
    warm.get("a", lambda: load("a"))
    assert loads == ["a", "b", "c"]
    warm.get("b", lambda: load("b"))
    assert loads == ["a", "b", "c", "b"]


def test_a_load_that_fails_is_tried_again_and_blocks_nobody() -> None:
    warm: Warm[str] = Warm(2)
    slow, began = threading.Event(), threading.Event()

    def fail() -> str:
        began.set()
        slow.wait(5)
        raise OSError("not there")

    with ThreadPoolExecutor(1) as pool:
        failing = pool.submit(warm.get, "bad", fail)
        assert began.wait(5)
        assert warm.get("good", lambda: "fine") == "fine"  # while the other still loads
        slow.set()
        with pytest.raises(OSError, match="not there"):
            failing.result()
    assert warm.get("bad", lambda: "there now") == "there now"
