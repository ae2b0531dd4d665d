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


def test_a_budget_of_sizes() -> None:
    """What is measured counts, not what was expected; what a request needs is spared."""
    warm: Warm[int] = Warm(10, measure=lambda value: value)
    loads: list[int] = []

    def get(size: int, expected: int = 0, spare: tuple[int, ...] = ()) -> None:
        def load() -> int:
            loads.append(size)
            return size

        assert warm.get(size, load, expected, spare) == size

    for size in (4, 3, 2):
        get(size)
    assert warm.used == 9
    get(4)  # a use: 3 is the oldest now
    get(5, expected=1)  # fits as expected, not as it is
    assert warm.used == 9 and warm.loaded(5) == 5 and warm.loaded(4) == 4
    assert warm.loaded(3) is None and warm.loaded(2) is None
    get(6, spare=(5,))  # beyond the budget with what is spared, so nothing else stays
    assert warm.used == 11 and loads == [4, 3, 2, 5, 6]
    assert warm.loaded(4) is None
    assert warm.let_go({6}) == 5
    assert warm.used == 6


def test_room_is_made_before_loading() -> None:
    warm: Warm[int] = Warm(10, measure=lambda value: value)
    warm.get("old", lambda: 6)
    kept: list[int | None] = []

    def load() -> int:
        kept.append(warm.loaded("old"))
        return 5

    warm.get("new", load, expected=5)
    assert kept == [None]
