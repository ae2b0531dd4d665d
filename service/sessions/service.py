"""Sessions of browsers: begun with an API key, recognised by what their cookie holds.

The cookie holds 256 random bits; the database holds an HMAC of them.  A session has a token against
forged requests, another HMAC of the same bits, so that it is stored nowhere.
"""

from __future__ import annotations

import hmac
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import SecretStr
from sqlalchemy.orm import Session

from service.database.key_tables import ApiKey
from service.database.session_tables import BrowserSession
from service.keys import repository as keys
from service.keys.service import SCOPES, allows, digest
from service.sessions import repository

READ_ONLY = ("read",)


@dataclass(frozen=True)
class CurrentSession:
    """The session that a request came by."""

    id: uuid.UUID
    scopes: tuple[str, ...]
    """What it may now: what both it and its key allow."""
    csrf: str
    """The token that its changes must show."""


def begin(
    session: Session, key: ApiKey, read_only: bool, client: str, secret: SecretStr | str | None
) -> tuple[BrowserSession, str]:
    """A new session of ``key``, and what its cookie is to hold: it cannot be had again.

    Sessions that have ended, of whichever key, are removed meanwhile.
    """
    repository.remove_ended(session)
    token = secrets.token_urlsafe(32)
    scopes = list(READ_ONLY) if read_only else list(key.scopes)
    return repository.add(session, _digest(token, secret), key, scopes, client), token


def recognise(
    session: Session, token: str, secret: SecretStr | str | None
) -> tuple[CurrentSession, ApiKey] | None:
    """The session whose cookie holds ``token``, with its key; None where either has ended."""
    expected = _digest(token, secret)
    found = repository.find(session, expected)
    if found is None:
        return None
    row, key = found
    if not hmac.compare_digest(row.digest, expected):
        return None
    repository.touch(session, row)
    keys.touch(session, key)
    scopes = in_both(key.scopes, row.scopes)
    return CurrentSession(row.id, scopes, csrf_token(token, secret)), key


def forget(session: Session, token: str, secret: SecretStr | str | None) -> None:
    """Removes the session whose cookie holds ``token``, if there is one."""
    repository.remove_by_digest(session, _digest(token, secret))


def csrf_token(token: str, secret: SecretStr | str | None) -> str:
    """The token against forged requests of the session whose cookie holds ``token``."""
    return digest(f"csrf:{token}", secret)


def in_both(some: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Those scopes named in either that both allow."""
    named = [scope for scope in SCOPES if scope in some or scope in others]
    return tuple(scope for scope in named if allows(some, scope) and allows(others, scope))


def is_read_only(scopes: Sequence[str]) -> bool:
    """Whether nothing goes beyond reading."""
    return not any(allows(scopes, scope) for scope in SCOPES if scope not in READ_ONLY)


def _digest(token: str, secret: SecretStr | str | None) -> str:
    return digest(f"session:{token}", secret)
