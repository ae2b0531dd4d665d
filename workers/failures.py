"""What is kept of an error that ended an attempt, and whether another attempt may help."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from monosemy.errors import MonosemyError
from monosemy.redaction import without_keys
from service.settings import Settings

_LONGEST = 2000
_PASSING = ("08", "40", "53", "55", "57")
"""Classes of SQLSTATE: connection, rollback (deadlock), resources, not in that state, operator."""

_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")
"""As CUDA and PyTorch's CPU allocator say it."""
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOT_LET = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def describe_failure(error: BaseException) -> tuple[str, bool]:
    """The text to keep, and True if another attempt may help.

    What a person has to mend first (a ``MonosemyError``, memory, disk) is not tried again.
    """
    message = str(error).lower()
    if is_out_of_memory(error):
        advice = "Use a smaller sae.d_sae, training.batch_tokens, buffer_tokens or host_rows."
        return f"Out of memory ({type(error).__name__}). {advice}", False
    if isinstance(error, MonosemyError):
        return str(error)[:_LONGEST], False
    if _errno(error) in _DISK_FULL or "no space left" in message:
        return "No space is left on the disk of the artifact folder. Free some and retry.", False
    if _errno(error) in _NOT_LET:
        named = getattr(error, "filename", None) or "the artifact folder"
        return (
            f"The system does not let the worker use {named} ({error}). Mend it, and retry.",
            False,
        )
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {Path(last[0].filename).name}:{last[0].lineno}" if last else ""
    if isinstance(error, SQLAlchemyError):
        # Its text quotes the statement with its values, whole texts among them.
        text = str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
    else:
        text = str(error)
    return f"{type(error).__name__}: {text[:500]}{where}", True


def is_out_of_memory(error: BaseException) -> bool:
    """True for Python's, CUDA's and the C allocator's errors, and for an error that
    reports one of them as a model that cannot be loaded."""
    if not isinstance(error, MonosemyError):
        return _no_memory(error) or any(words in str(error).lower() for words in _NO_MEMORY)
    below = error.__cause__ or error.__context__
    while below is not None:
        if _no_memory(below):
            return True
        below = below.__cause__ or below.__context__
    return False


def _no_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, RuntimeError):
        return any(words in str(error).lower() for words in _NO_MEMORY)
    return _errno(error) == errno.ENOMEM


def _errno(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def is_passing(error: Exception) -> bool:
    """True if the database was away or busy, False if it refused what it was given."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # it never came to an answer
        return isinstance(error, OperationalError | InterfaceError)
    return str(state).startswith(_PASSING)


def without_secrets(text: str, settings: Settings) -> str:
    """``text`` without the settings' keys and passwords, credentials in URLs, and likely keys."""
    for secret in _secrets(settings):
        text = text.replace(secret, "***")
    return without_keys(text)


def _secrets(settings: Settings) -> list[str]:
    keys = (settings.api_key, settings.judge_api_key, settings.secret)
    values = [key.get_secret_value() for key in keys if key is not None]
    for url in (settings.database_url, settings.redis_url):
        try:
            password = make_url(url).password if url else None
        except ArgumentError:
            password = None
        if password:
            values.append(str(password))
    # Very short ones would also remove harmless words.
    return sorted((secret for secret in values if len(secret) >= 6), key=len, reverse=True)
