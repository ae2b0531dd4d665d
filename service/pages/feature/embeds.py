"""Addresses of embeds: signed where keys are asked for, since a frame brings no session along.

The signature covers the SAE's id, the feature, the parts and the expiry, under the server's secret;
the address names the API key that asked for it, and ends with that key.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from collections.abc import Sequence

from sqlalchemy.orm import Session

from service.keys.repository import is_valid
from service.kit.errors import DomainError, NotFound
from service.settings import Settings

_FOR = b"monosemy embed\n"
NOBODYS = uuid.UUID(int=0)
"""In place of an SAE that there is not, so that nothing is told about it."""


def token(
    settings: Settings, key: uuid.UUID, sae: uuid.UUID, feature: int, parts: Sequence[str], end: int
) -> str:
    """``expiry.key.signature``; ``end`` is in seconds of Unix time."""
    signature = _signature(settings, key, sae, feature, parts, end)
    return f"{end}.{key.hex}.{signature}"


def check(
    session: Session,
    settings: Settings,
    given: str | None,
    sae: uuid.UUID,
    feature: int,
    parts: Sequence[str],
) -> None:
    """Raises ``NoEmbed`` unless ``given`` was made for this, has not expired, and the key that it
    was made by is still good."""
    try:
        expiry, hexed, signature = (given or "").split(".")
        end, key = int(expiry), uuid.UUID(hex=hexed)
    except ValueError:
        raise NoEmbed("it is not signed") from None
    wanted = _signature(settings, key, sae, feature, parts, end)
    if not hmac.compare_digest(wanted.encode(), signature.encode()):
        raise NoEmbed("it was signed for something else")
    if end < time.time():
        raise NoEmbed("it has expired")
    if not is_valid(session, key):
        raise NoEmbed("the key that made it is revoked or has expired")


def _signature(
    settings: Settings, key: uuid.UUID, sae: uuid.UUID, feature: int, parts: Sequence[str], end: int
) -> str:
    secret = settings.secret.get_secret_value() if settings.secret else ""
    said = f"{sae.hex}\n{feature}\n{','.join(parts)}\n{key.hex}\n{end}".encode()
    return hmac.new(secret.encode(), _FOR + said, hashlib.sha256).hexdigest()


class NoEmbed(NotFound):
    """Nothing is shown at this address, and nothing told of what there is."""

    def __init__(self, why: str) -> None:
        DomainError.__init__(
            self,
            f"This address of an embed does not serve: {why}.",
            "Make one with POST /api/v1/saes/{sae}/features/{index}/embed or "
            "'monosemy feature embed'.",
            code="no-embed",
            title="Nothing to embed",
        )
