"""A benchmark run of the service: SAEs of the database are measured, and results become rows."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from monosemy.benchmarking.run import Benchmarking
from monosemy.run_hosts import HostLoader
from monosemy.sae_folder import NamedFolder
from monosemy.specs import BenchmarkRun
from monosemy.specs.rest.benchmarks import BenchmarkResult
from monosemy.workspace import Workspace
from service.benchmarks.repository import keep_result, kept_result
from service.database.session import transaction
from workers.folders import folder_of
from workers.reporter import RunReporter
from workers.saes import named_sae


def benchmark_run(
    engine: Engine,
    workspace: Workspace,
    run_id: uuid.UUID,
    spec: BenchmarkRun,
    load_host: HostLoader,
    reporter: RunReporter,
) -> dict[str, Any]:
    """Executes a benchmark run; its result is the summary.  ``NotFound`` for an SAE that is gone,
    and ``DataError`` as ``Benchmarking.run``."""
    rows = [named_sae(engine, reference) for reference in spec.saes]
    saes = [NamedFolder(sae.name, str(sae.id), folder_of(workspace, sae)) for sae in rows]
    results = _Rows(engine, run_id, reporter)
    done = Benchmarking(load_host, workspace, results, reporter).run(spec, saes)
    return done.model_dump(mode="json")


@dataclass(frozen=True)
class _Rows:
    """Results in the database."""

    engine: Engine
    run_id: uuid.UUID
    reporter: RunReporter

    def find(self, protocol: str, sae: NamedFolder) -> BenchmarkResult | None:
        with transaction(self.engine) as session:
            return kept_result(session, uuid.UUID(sae.reference), protocol, sae.folder.digest)

    def keep(self, sae: NamedFolder, result: BenchmarkResult) -> None:
        sae_id = uuid.UUID(sae.reference)
        # Of the run, the protocol and the SAE: equal in every attempt.
        id = uuid.uuid5(self.run_id, f"{result.about.protocol} {sae_id}")
        self.reporter.commit(lambda session: keep_result(session, id, self.run_id, sae_id, result))
