"""API keys: made, recognised, revoked.  The database holds an HMAC of a key, never the key.

A key reads ``mnsy_`` + 32 random letters and digits + 6 of a CRC-32, so that a mistyped key is told
from an unknown one without asking the database, and leaked keys can be searched for.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import secrets
import string
import uuid
import zlib
from collections.abc import Iterable, Sequence

from pydantic import SecretStr
from sqlalchemy.orm import Session

from monosemy.specs.names import nameable
from service.database.key_tables import ApiKey
from service.keys import repository
from service.kit.errors import (
    Conflict,
    InvalidRequest,
    Listing,
    Misconfigured,
    NameTaken,
    NotFound,
)

PREFIX = "mnsy_"
SCOPES = ("read", "infer", "run", "admin")
"""Each includes those before it: ``infer`` may read and have texts read and written, ``run`` may
that and submit runs, ``admin`` may do everything."""
MINIMUM_SECRET = 16

_ALPHABET = string.digits + string.ascii_letters
_RANDOM_LENGTH = 32
_CHECK_LENGTH = 6
_SHOWN = len(PREFIX) + 6


def create_key(
    session: Session,
    name: str,
    scopes: Iterable[str],
    secret: SecretStr | str | None,
    expires_at: dt.datetime | None = None,
    max_running: int | None = None,
    requests_per_minute: int | None = None,
) -> str:
    """Stores a new key and returns it: the only time that it can be seen.

    ``max_running`` bounds how many of its runs are under way at once, ``requests_per_minute`` how
    often it may call (a quarter of them at once).

    Raises ``InvalidRequest`` for what is no name and unknown scopes, ``NameTaken`` for that of
    another key that is not revoked, ``Misconfigured`` for a missing or short ``secret``.
    """
    wanted = sorted(set(scopes), key=lambda scope: (scope not in SCOPES, scope))
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown or not wanted:
        wrong = ", ".join(unknown) or "no scope"
        fault = f"{wrong} cannot be given to a key; scopes are {', '.join(SCOPES)}"
        raise InvalidRequest([("scopes", fault)])
    try:
        name = nameable(name)
    except ValueError as error:
        raise InvalidRequest([("name", f"{name!r} is no name of a key: {error}")]) from None
    if expires_at is not None and expires_at.tzinfo is None:
        raise InvalidRequest([("expires_at", "the time a key expires at needs a time zone")])
    _check_free(session, name)
    random = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    key = PREFIX + random + _checksum(random)
    repository.add(
        session,
        ApiKey(
            name=name,
            prefix=key[:_SHOWN],
            digest=digest(key, secret),
            scopes=wanted,
            expires_at=expires_at,
            max_running=max_running,
            requests_per_minute=requests_per_minute,
        ),
    )
    return key


def _check_free(session: Session, name: str) -> None:
    """``NameTaken`` where a key of this name is not revoked: nobody could tell the two apart.

    Keys are made one at a time from here on, until the transaction ends.
    """
    repository.one_at_a_time(session)
    older = repository.of_name(session, name)
    if older is not None:
        raise NameTaken(
            f"There is an API key named '{name}' already ({older.prefix}...).",
            "Revoke it, or take another name.",
        )


def list_keys(session: Session) -> Sequence[ApiKey]:
    """Every key, revoked ones too, oldest first; none of them can be turned back into a key."""
    return repository.all_keys(session)


def require_key(session: Session, id: uuid.UUID) -> ApiKey:
    """``NotFound`` if there is none of this id."""
    row = repository.get(session, id)
    if row is None:
        raise NotFound("API key", id, Listing.KEYS)
    return row


def revoke_key(session: Session, prefix_or_name: str) -> ApiKey:
    """Ends the one key with this id, prefix or name at once.

    Raises ``NotFound`` when there is none that is not revoked, ``Conflict`` when there are several.
    """
    matches = repository.matching(session, prefix_or_name)
    if not matches:
        raise NotFound("usable API key", prefix_or_name, Listing.KEYS)
    if len(matches) > 1:
        raise Conflict(
            f"{len(matches)} keys in use match '{prefix_or_name}'.",
            "Name one by its prefix or id.",
        )
    repository.revoke(session, matches[0])
    return matches[0]


def recognise(session: Session, key: str, secret: SecretStr | str | None) -> ApiKey | None:
    """The stored key that ``key`` is; None when it is malformed, unknown, revoked or expired."""
    if not is_well_formed(key):
        return None
    expected = digest(key, secret)
    stored = repository.get_valid(session, expected)
    if stored is None or not hmac.compare_digest(stored.digest, expected):
        return None
    repository.touch(session, stored)
    return stored


def allows(scopes: Sequence[str], needed: str) -> bool:
    """Whether one of ``scopes`` is ``needed`` or includes it."""
    return any(scope in SCOPES[SCOPES.index(needed) :] for scope in scopes)


def is_well_formed(key: str) -> bool:
    body = key.removeprefix(PREFIX)
    if len(key) != len(PREFIX) + _RANDOM_LENGTH + _CHECK_LENGTH or body == key:
        return False
    if not (body.isascii() and body.isalnum()):
        return False
    return _checksum(body[:_RANDOM_LENGTH]) == body[_RANDOM_LENGTH:]


def digest(key: str, secret: SecretStr | str | None) -> str:
    """HMAC-SHA256 of ``key`` under ``secret``, in hex."""
    return hmac.new(_secret_bytes(secret), key.encode(), hashlib.sha256).hexdigest()


def why_no_keys(secret: SecretStr | str | None) -> str | None:
    """Why the server can make no key, in words; None where it can."""
    try:
        _secret_bytes(secret)
    except Misconfigured as error:
        return str(error)
    return None


def _secret_bytes(secret: SecretStr | str | None) -> bytes:
    value = secret.get_secret_value() if isinstance(secret, SecretStr) else secret or ""
    if len(value) < MINIMUM_SECRET:
        raise Misconfigured(
            f"API keys need MONOSEMY_SECRET, of at least {MINIMUM_SECRET} characters.",
            "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return value.encode()


def _checksum(random: str) -> str:
    value = zlib.crc32(random.encode())
    letters = []
    for _ in range(_CHECK_LENGTH):
        value, rest = divmod(value, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)
