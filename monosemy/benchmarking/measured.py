"""What a run of benchmarks found, for whoever reads it in a notebook."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from monosemy.benchmarking.kept import FolderResults
from monosemy.benchmarking.leaderboard import Entry, leaderboard
from monosemy.errors import DataError
from monosemy.sae_folder import NamedFolder
from monosemy.specs.rest.benchmarks import (
    BenchmarkFailure,
    BenchmarkResult,
    BenchmarkSummary,
    Leaderboard,
    header_of,
)


@dataclass(frozen=True)
class MeasuredSAEs:
    """SAEs with what benchmarks found of them."""

    summary: BenchmarkSummary
    saes: Sequence[NamedFolder]
    kept: FolderResults

    @property
    def not_measured(self) -> list[BenchmarkFailure]:
        """What could not be measured, with the reason."""
        return self.summary.not_measured

    def results(self, benchmark: str | None = None) -> dict[str, BenchmarkResult]:
        """By the SAE's name, or by its folder's where several have it: of ``benchmark``, which may
        be left out where there is one.

        ``DataError`` where ``benchmark`` measured nothing here, or with several sets of options.
        """
        return dict(self._found(benchmark))

    def leaderboard(
        self,
        benchmark: str | None = None,
        metric: str | None = None,
        against: str | None = None,
    ) -> Leaderboard:
        """The SAEs beside each other by one metric, the headline by default; ``against`` is the one
        that all are held against.

        ``DataError`` for SAEs of several places or host models, which are not beside each other,
        and for a metric that there is not.
        """
        found = self._found(benchmark)
        protocols = {result.about.protocol for _, result in found}
        if len(protocols) > 1:
            raise DataError(
                "These SAEs were measured at several places or on several host models.",
                "Make a leaderboard of SAEs of one place.",
            )
        first = found[0][1]
        metrics = [each.metric for each in first.metrics if each.subject == "sae"]
        asked = metric or first.headline
        if asked not in metrics:
            raise DataError(f"There is no metric '{asked}'.", f"There are: {', '.join(metrics)}.")
        entries = [
            Entry(
                id=uuid.uuid5(uuid.NAMESPACE_OID, name),
                sae=name,
                about=result.about,
                units=result.units,
                metrics=[each for each in result.metrics if each.metric == asked],
                notes=result.notes,
            )
            for name, result in found
        ]
        return leaderboard(
            header_of(first, len(entries), dt.datetime.now(dt.UTC)),
            entries,
            asked,
            metrics,
            first.unit,
            against,
        )

    def _found(self, benchmark: str | None) -> list[tuple[str, BenchmarkResult]]:
        chosen = [each for each in self.summary.results if benchmark in (None, each.benchmark)]
        there = sorted({each.benchmark for each in self.summary.results})
        if not chosen or len({each.benchmark for each in chosen}) > 1:
            raise DataError(
                f"'{benchmark}' measured nothing here." if benchmark else "There are several.",
                f"Name one of: {', '.join(there)}.",
            )
        if len({each.reference for each in chosen}) < len(chosen):
            raise DataError(f"'{benchmark}' was run with several options.", "Run them one by one.")
        folders = {each.reference: each for each in self.saes}
        names = [each.sae for each in chosen]
        found = []
        for each in chosen:
            result = self.kept.find(each.protocol, folders[each.reference])
            if result is not None:
                found.append((each.sae if names.count(each.sae) == 1 else each.reference, result))
        return found
