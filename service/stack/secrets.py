"""Secrets that a stack makes for itself: each a file in the home that its owner alone can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from monosemy.errors import MonosemyError


def kept_secret(path: Path) -> str:
    """The secret in ``path``, made there on first use."""
    saved = read_secret(path)
    if saved is not None:
        return saved
    secret = secrets.token_urlsafe(32)
    write_secret(path, secret)
    return secret


def read_secret(path: Path) -> str | None:
    """None where there is none.  ``MonosemyError`` for a file that is empty or cannot be read."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise MonosemyError(f"The secret in {path} cannot be read: {error}.") from None
    if not text:
        raise MonosemyError(f"The secret in {path} is empty.", "Remove that file and start again.")
    return text


def write_secret(path: Path, secret: str) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{secret}\n")
    unfinished.replace(path)
