"""Logging in by the page, as a person does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MakeKey = Callable[..., str]
"""``make_key(scope, name, **limits)`` of ``conftest.py``."""


def press(button: Any) -> None:
    """And waits for the page that it leads to."""
    button.click()
    button.page.wait_for_load_state()


def enter(page: Any, key: str, read_only: bool = False) -> None:
    page.get_by_label("API key").fill(key)
    if read_only:
        page.get_by_label("Read only").check()
    press(page.get_by_role("button", name="Log in"))
