"""Whose things are whose: the one rule of every call that changes what is there already.

Whatever is stored notes the API key that made it.  A key may change and delete what it made, keys
with the scope ``admin`` everything, and so may anybody in open mode.  What nobody made with a key
(in open mode, or before things had owners) is left to administrators.  Reading is for all.
"""

from __future__ import annotations

import uuid

from service.keys.authorize import Caller
from service.kit.errors import Forbidden, MissingScope

DEFAULT_PRIORITY = 0


def check_owner(caller: Caller, owner: uuid.UUID | str | None, what: str) -> None:
    """``Forbidden`` unless ``caller`` may change ``what``, such as ``the list 'x'``, which
    ``owner`` made."""
    if caller.administers or (owner is not None and str(owner) == caller.name):
        return
    raise Forbidden(
        f"Only the API key that made {what}, and keys with the scope 'admin', may change or"
        " delete it.",
        code="not-the-owner",
        title="It belongs to somebody else",
    )


def check_priority(caller: Caller, priority: int) -> None:
    """``MissingScope`` for a run that would go before those of others, unless ``caller``
    administers."""
    if priority > DEFAULT_PRIORITY and not caller.administers:
        raise MissingScope(
            f"Priorities above {DEFAULT_PRIORITY} put runs before those of others, which needs the"
            " scope 'admin'."
        )
