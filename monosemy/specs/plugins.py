"""Architectures, scorers and explainers from outside the tree: modules that ``MONOSEMY_PLUGINS``
names register them when they are imported.  They are imported wherever specs are read, so they must
not need torch; what computes is named as ``module:Class`` and imported where it is used.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import warnings
from typing import Any

from monosemy.errors import MonosemyError, SettingError

VARIABLE = "MONOSEMY_PLUGINS"

registering_modules: set[str] = set()
"""Modules whose classes are registered."""

_lock = threading.RLock()
_loaded: set[str] = set()


def load_plugins() -> None:
    """Imports the modules that ``MONOSEMY_PLUGINS`` names, separated by commas; each once.

    ``SettingError``, in one line, for one that cannot be imported or registers nothing; a warning
    for one that brings torch, without which the API has to read specs.
    """
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    with _lock:
        for name in names:
            if name not in _loaded:
                _load(name)


def _load(name: str) -> None:
    _loaded.add(name)  # before: what the plugin imports may ask for the plugins
    torch_was_there = "torch" in sys.modules
    try:
        importlib.import_module(name)
        if not any(f"{module}.".startswith(f"{name}.") for module in registering_modules):
            raise MonosemyError("it registers nothing; it is to call monosemy.register")
    except Exception as error:  # whatever somebody else's module does
        _loaded.discard(name)
        raise SettingError(
            f"The plugin '{name}' ({VARIABLE}) cannot be loaded: {in_one_line(error)}"
        ) from error
    if not torch_was_there and sys.modules.get("torch") is not None:
        warnings.warn(
            f"The plugin '{name}' ({VARIABLE}) imports torch. Where there is none, as in the API's"
            " own environment, it cannot be loaded: name what computes as module:Class.",
            stacklevel=3,
        )


def imported(place: str, subject: str) -> Any:
    """What ``place`` names as ``module:name``; ``MonosemyError`` in one line where it cannot be
    had, of ``subject``, which needs it."""
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever somebody else's module does
        raise MonosemyError(
            f"{subject} cannot be used: {place} is not to be had ({in_one_line(error)})."
        ) from error


def in_one_line(error: BaseException) -> str:
    """What went wrong in somebody else's code; errors of ours by their text alone."""
    text = str(error) if isinstance(error, MonosemyError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]
