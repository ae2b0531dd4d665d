"""How commands end, ``monosemy`` and ``python -m monosemy`` alike."""

from __future__ import annotations

from collections.abc import Iterable

DONE, FAILED, USAGE, UNREACHABLE, NOT_FOUND, INTERRUPTED = 0, 1, 2, 3, 4, 130

MEANINGS = {
    DONE: "done",
    FAILED: "failed, or refused",
    USAGE: "bad usage, setting or spec",
    UNREACHABLE: "the service, or a part it needs, does not answer",
    NOT_FOUND: "what is named is not there",
    INTERRUPTED: "interrupted",
}
"""The one table of exit codes: helps are made of it, and docs/cli.md is held to it by a test."""


def described(codes: Iterable[int] = MEANINGS) -> str:
    """A sentence for a command's help."""
    return "Exit codes: " + "; ".join(f"{code} {MEANINGS[code]}" for code in codes) + "."
