"""What dictionaries are worth at tasks whose attributes are known."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from monosemy.client.library import SaeReference, sae_name
from monosemy.client.listing import listed
from monosemy.client.transport import Transport, segment
from monosemy.specs.rest.tasks import TaskRow, TaskView

TaskReference = uuid.UUID | str | TaskRow | TaskView
"""Id of a task, which is that of its run, or `latest`; or one that was answered before."""


class Tasks:
    """``client.tasks``; every method raises ``ApiError``.  A run of kind ``task`` makes one."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def list(
        self, *, sae: SaeReference | None = None, limit: int | None = None
    ) -> Iterator[TaskRow]:
        """Newest first, in short; ``sae``: those that it was tried in."""
        asked = None if sae is None else sae_name(sae)
        return listed(self._http, TaskRow, "/tasks", limit, sae=asked)

    def get(self, task: TaskReference) -> TaskView:
        """With all three tests of every dictionary."""
        return self._http.call(TaskView, "GET", _path(task))

    def delete(self, task: TaskReference) -> None:
        """Its run and the SAEs stay."""
        self._http.delete(_path(task))


def _path(task: TaskReference) -> str:
    identity = task.id if isinstance(task, TaskRow | TaskView) else task
    return f"/tasks/{segment(identity)}"
