"""From a run to what executes it, by the kind that its spec declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monosemy.errors import MonosemyError
from monosemy.outside_runs import execute_outside
from monosemy.specs import parse_stored_spec
from monosemy.workspace import Workspace
from service.database.tables import Run
from service.runs.ceilings import check_ceilings_here
from service.runs.sources import check_paths
from service.settings import Settings
from workers.reporter import RunReporter

Executor = Callable[[Run, Any, RunReporter], dict[str, Any]]
"""Executes a run of one kind, given its row, its spec and a reporter; returns its result."""


class Dispatch:
    """Executes the runs of one queue.

    A spec may be older than the settings, and links may have changed: what it names and asks for is
    looked at again first.
    """

    def __init__(
        self, settings: Settings, workspace: Workspace, executors: Mapping[str, Executor]
    ) -> None:
        self.settings, self.workspace, self.executors = settings, workspace, executors

    def __call__(self, run: Run, reporter: RunReporter) -> dict[str, Any]:
        spec = parse_stored_spec(run.spec)
        check_paths(self.settings, spec)
        check_ceilings_here(self.settings, spec)
        execute = self.executors.get(spec.kind)
        if execute is not None:
            return execute(run, spec, reporter)
        if spec.implementation is not None:
            return execute_outside(spec, self.workspace, reporter)
        raise MonosemyError(f"This worker does not execute runs of kind '{run.kind}'.")
