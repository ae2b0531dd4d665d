"""Versions of what the numbers depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def versions() -> dict[str, str]:
    """By package, and that of Python."""
    known = {"python": platform.python_version()}
    for package in ("monosemy", "torch", "transformers", "numpy", "tokenizers"):
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            continue
    return known
