"""Host models kept loaded between runs."""

from __future__ import annotations

from collections.abc import Callable

from monosemy.models.host import HostModel
from monosemy.models.resolve import files_of
from monosemy.progress import SILENT, Reporter
from monosemy.specs import ModelSpec
from monosemy.workspace import Workspace
from workers.warm import Warm


class HostCache:
    """The ``size`` most recently used host models; loading another drops the oldest."""

    def __init__(
        self,
        workspace: Workspace,
        size: int = 1,
        allowed: int | None = None,
        check: Callable[[str], None] | None = None,
    ) -> None:
        """``allowed``: bytes that one host model may take.  ``check`` raises for the name of one
        that must not be read, whatever run or SAE names it."""
        self._workspace, self._allowed, self._check = workspace, allowed, check
        self._hosts: Warm[HostModel] = Warm(size)

    def load(self, spec: ModelSpec, reporter: Reporter = SILENT) -> HostModel:
        """The host model of ``spec``, loaded anew once somebody has written to its files;
        ``ModelError`` if it cannot be had; raises as ``check``."""
        if self._check is not None:
            self._check(spec.name)
        key = spec.model_dump_json(), files_of(spec)
        return self._hosts.get(
            key, lambda: HostModel.load(spec, self._workspace, reporter, self._allowed)
        )
