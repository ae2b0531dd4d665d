"""Token tables of host models, kept in memory: half a megabyte each, needed for every example."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict

from sqlalchemy.orm import Session

from monosemy.data.token_bytes import TokenBytes
from service.database.tables import Model
from service.models.repository import token_bytes


class TokenTables:
    """The ``keep`` tables used last, by model and fingerprint; safe to use from many threads."""

    def __init__(self, keep: int = 8) -> None:
        self._keep = keep
        self._tables: OrderedDict[tuple[uuid.UUID, str], TokenBytes] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, session: Session, model: Model) -> TokenBytes:
        """The table of ``model``; one statement when it is not in memory."""
        key = (model.id, str(model.info.get("fingerprint")))
        with self._lock:
            table = self._tables.get(key)
            if table is not None:
                self._tables.move_to_end(key)
                return table
        table = TokenBytes.unpack(token_bytes(session, model.id))
        with self._lock:
            self._tables[key] = table
            while len(self._tables) > self._keep:
                self._tables.popitem(last=False)
        return table
