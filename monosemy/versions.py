"""Versions of what the numbers depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def versions(*also: str) -> dict[str, str]:
    """By package, those of ``also`` among them, and that of Python."""
    known = {"python": platform.python_version()}
    for package in ("monosemy", "torch", "transformers", "numpy", "tokenizers", *also):
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            continue
    return known
