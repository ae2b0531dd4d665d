"""A run of benchmarks: every SAE of a spec by every benchmark, one after the other.

Results are kept one by one under a key of all that they belong to, so that a run that is taken up
again, or another run, measures only what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from monosemy.benchmarking.base import Bench, Benchmark, BenchmarkSae
from monosemy.benchmarking.units import metric_of
from monosemy.errors import DataError, MonosemyError
from monosemy.models.host import HostModel
from monosemy.progress import SILENT, Reporter, Stage
from monosemy.sae_folder import NamedFolder, SaeFolder
from monosemy.specs import ModelSpec, implementation_of
from monosemy.specs.benchmarks import BenchmarkRun, BenchmarkSpec
from monosemy.specs.rest.benchmarks import (
    BenchmarkAbout,
    BenchmarkFailure,
    BenchmarkHeadline,
    BenchmarkResult,
    BenchmarkSummary,
)
from monosemy.versions import versions
from monosemy.workspace import Workspace, fingerprint


class Results(Protocol):
    """Where results are kept."""

    def find(self, protocol: str, sae: NamedFolder) -> BenchmarkResult | None:
        """What was kept of the SAE by the protocol, if its weights are those of then."""

    def keep(self, sae: NamedFolder, result: BenchmarkResult) -> None:
        """Keeps a result, in place of one of other weights; at once, so that it outlives this
        process."""


@dataclass(frozen=True)
class Benchmarking:
    """What a run of benchmarks works with."""

    load_host: Callable[[ModelSpec], HostModel]
    workspace: Workspace
    results: Results
    reporter: Reporter = SILENT

    def run(self, spec: BenchmarkRun, saes: Sequence[NamedFolder]) -> BenchmarkSummary:
        """``DataError`` for an SAE that is named twice, and where not one could be measured by any
        benchmark."""
        if len({named.folder.path for named in saes}) < len(saes):
            raise DataError("The run names an SAE twice.")
        made: list[BenchmarkHeadline] = []
        failed: list[BenchmarkFailure] = []
        total = len(saes) * len(spec.benchmarks)
        with self.reporter.stage("benchmarks", total, "results") as stage:
            for group in self._groups(saes, spec, failed, stage):
                for each in spec.benchmarks:
                    self._measure_all(each, group, made, failed, stage)
        if not made:
            reasons = dict.fromkeys(f"{each.benchmark}: {each.reason}" for each in failed)
            raise DataError(f"Nothing could be measured: {' '.join(reasons)}", failed[0].advice)
        return BenchmarkSummary(results=made, not_measured=failed)

    def _groups(
        self,
        saes: Sequence[NamedFolder],
        spec: BenchmarkRun,
        failed: list[BenchmarkFailure],
        stage: Stage,
    ) -> list[list[BenchmarkSae]]:
        """SAEs of one host model and one choice of places; those that cannot be opened fail."""
        groups: dict[str, list[BenchmarkSae]] = {}
        for named in saes:
            try:
                model = named.folder.spec.model
                host = self.load_host(model)
                named.folder.check(host)
                hosted = named.folder.hosted(host)
            except MonosemyError as error:
                for each in spec.benchmarks:
                    failed.append(_failure(named, each, error))
                stage.advance(len(spec.benchmarks))
                continue
            key = fingerprint([host.fingerprint, str(host.dtype), hosted.hooks.as_dict()])
            groups.setdefault(key, []).append(BenchmarkSae(named, hosted))
        return list(groups.values())

    def _measure_all(
        self,
        spec: BenchmarkSpec,
        group: Sequence[BenchmarkSae],
        made: list[BenchmarkHeadline],
        failed: list[BenchmarkFailure],
        stage: Stage,
    ) -> None:
        hosted = group[0].hosted
        bench = Bench(hosted.host, hosted.hooks, self.workspace, self.reporter)
        prepared: _Prepared | None = None
        for sae in group:
            self.reporter.check()
            try:
                prepared = prepared or _Prepared(spec, bench)
                headline = self._measure(prepared, sae)
            except MonosemyError as error:
                failed.append(_failure(sae.named, spec, error))
                self.reporter.log(
                    "not measured", sae=sae.name, benchmark=spec.benchmark, reason=str(error)
                )
            else:
                made.append(headline)
            stage.advance()

    def _measure(self, prepared: _Prepared, sae: BenchmarkSae) -> BenchmarkHeadline:
        kept = self.results.find(prepared.protocol, sae.named)
        result = kept or prepared.result(sae)
        if kept is None:
            self.results.keep(sae.named, result)
        return headline_of(sae.named, result, kept is not None)


class _Prepared:
    """A benchmark at a bench, prepared at the first SAE that is not measured yet."""

    def __init__(self, spec: BenchmarkSpec, bench: Bench) -> None:
        self.spec, self.bench = spec, bench
        self.benchmark: Benchmark[BenchmarkSpec] = implementation_of(spec)(spec, bench)
        self.data = self.benchmark.data_digest()
        self.protocol = fingerprint(
            {
                "benchmark": spec.benchmark,
                "version": spec.metrics_version,
                "options": spec.options(),
                "plugins": spec.plugins(),
                "data": self.data,
                "host": bench.host.fingerprint,
                "dtype": str(bench.host.dtype),
                "hooks": bench.hooks.as_dict(),
            }
        )
        self._fault: MonosemyError | None = None
        self._ready = False

    def result(self, sae: BenchmarkSae) -> BenchmarkResult:
        self.benchmark.check(sae)
        self._prepare()
        started = time.monotonic()
        measured = self.benchmark.measure(sae)
        spec, bench = self.spec, self.bench
        return BenchmarkResult(
            benchmark=spec.benchmark,
            version=spec.metrics_version,
            options=spec.model_dump(mode="json"),
            about=BenchmarkAbout(
                model=bench.host.name,
                host_fingerprint=bench.host.fingerprint,
                dtype=str(bench.host.dtype).removeprefix("torch."),
                site=",".join(str(hook) for hook in bench.hooks.reads),
                sae_digest=sae.folder.digest,
                **_origin(sae.folder),
                data=self.data,
                protocol=self.protocol,
                code=versions()["monosemy"],
            ),
            seeds=spec.seeds,
            unit=self.benchmark.unit,
            units=list(measured.units),
            headline=self.benchmark.headline,
            metrics=[metric_of(each, measured.units) for each in measured.columns],
            ranks=self.benchmark.ranks,
            notes=list(measured.notes),
            details=measured.details,
            seconds=time.monotonic() - started,
        )

    def _prepare(self) -> None:
        """Once: what failed for one SAE fails for all, without being tried again."""
        if self._fault is not None:
            raise self._fault
        if not self._ready:
            try:
                self.benchmark.prepare()
            except MonosemyError as error:
                self._fault = error
                raise
            self._ready = True


def headline_of(sae: NamedFolder, result: BenchmarkResult, kept: bool) -> BenchmarkHeadline:
    """A result in short."""
    (metric,) = (
        each for each in result.metrics if (each.metric, each.subject) == (result.headline, "sae")
    )
    return BenchmarkHeadline(
        sae=sae.name,
        reference=sae.reference,
        benchmark=result.benchmark,
        metric=metric.metric,
        value=metric.value,
        low=metric.low,
        high=metric.high,
        n=metric.n,
        protocol=result.about.protocol,
        kept=kept,
    )


def _origin(folder: SaeFolder) -> dict[str, Any]:
    """By what an SAE is grouped with others; what was not trained here is its own recipe."""
    spec = folder.spec
    trained = not {"imported", "basis"} & {*folder.provenance}
    training = spec.training.model_dump(mode="json", exclude={"seed"})
    places = {"reads": spec.reads, "writes": spec.writes, "site": spec.site}
    made = [spec.sae.model_dump(mode="json"), training, spec.text.model_dump(mode="json"), places]
    return {
        "architecture": spec.sae.architecture,
        "latents": spec.sae.d_sae,
        "recipe": fingerprint(made) if trained else folder.digest,
        "seed": spec.training.seed if trained else None,
    }


def _failure(named: NamedFolder, spec: BenchmarkSpec, error: MonosemyError) -> BenchmarkFailure:
    return BenchmarkFailure(
        sae=named.name,
        benchmark=spec.benchmark,
        reason=error.message,
        advice=error.advice,
    )
