"""Host models kept loaded between runs."""

from __future__ import annotations

import threading
from collections import OrderedDict

from monosemy.models.host import HostModel
from monosemy.specs import ModelSpec
from monosemy.workspace import Workspace


class HostCache:
    """The ``size`` most recently used host models; loading another drops the oldest."""

    def __init__(self, workspace: Workspace, size: int = 1) -> None:
        self._workspace, self._size = workspace, size
        self._hosts: OrderedDict[str, HostModel] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, spec: ModelSpec) -> HostModel:
        """The host model of ``spec``; ``ModelError`` if it cannot be had."""
        key = spec.model_dump_json()
        with self._lock:
            if key not in self._hosts:
                while len(self._hosts) >= self._size:
                    self._hosts.popitem(last=False)
                self._hosts[key] = HostModel.load(spec, self._workspace)
            self._hosts.move_to_end(key)
            return self._hosts[key]
