"""Sessions of browsers as the API shows and takes them."""

from __future__ import annotations

import datetime as dt
import uuid

from pydantic import Field, SecretStr

from monosemy.specs import Part
from monosemy.specs.described import Described
from monosemy.specs.rest.keys import Scope


class NewSession(Part):
    """A login."""

    key: SecretStr = Field(min_length=1, max_length=200)
    """The API key that the session stands for."""
    read_only: bool = False
    """Give the session the scope `read` alone, whatever the key allows."""


class SessionView(Described):
    """A session, which nobody can take up by this."""

    id: uuid.UUID
    current: bool
    """Whether the request came by it."""
    scopes: list[Scope]
    """At most these; what the key allows bounds them at every request."""
    client: str
    """Address that it was begun from."""
    created_at: dt.datetime
    last_used_at: dt.datetime
    """To the minute."""
    idle_at: dt.datetime
    """It ends then, unless it is used before."""
    expires_at: dt.datetime
    """It ends then at the latest."""


class MadeSession(SessionView):
    """A session that was just begun; its cookie is set by the answer."""

    csrf_token: str
    """What changes by this session must send in the header `X-CSRF-Token`, or in the field `csrf`
    of a form."""
