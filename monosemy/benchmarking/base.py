"""What a benchmark is: prepared once for the SAEs of a site, then asked of each.

To add one: a subclass of ``BenchmarkSpec`` (``monosemy/specs/benchmarks.py``) and, in this folder,
a subclass of ``Benchmark`` that its ``implementation`` names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from monosemy.benchmarking.units import Column
from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.models.host import HostModel
from monosemy.progress import Reporter
from monosemy.sae_folder import NamedFolder, SaeFolder
from monosemy.saes.base import SAE
from monosemy.specs.benchmarks import BenchmarkSpec
from monosemy.specs.hooks import Hooks
from monosemy.specs.rest.benchmarks import BenchmarkUnit
from monosemy.workspace import Workspace

P = TypeVar("P", bound=BenchmarkSpec)


@dataclass(frozen=True)
class BenchmarkSae:
    """An SAE that is measured."""

    named: NamedFolder
    hosted: HostedSAE

    @property
    def name(self) -> str:
        return self.named.name

    @property
    def folder(self) -> SaeFolder:
        return self.named.folder

    @property
    def sae(self) -> SAE:
        return self.hosted.sae

    @property
    def baseline(self) -> SAE | None:
        """Its frozen-decoder baseline, if it was trained with one."""
        return self.folder.baseline

    def check_one_site(self) -> None:
        """``DataError`` unless it reconstructs what it reads, at one site of one host model."""
        hooks = self.hosted.hooks
        if self.sae.transcodes or hooks.other_hosts or len(hooks.reads) > 1:
            raise DataError(
                "It does not reconstruct what it reads at one site of one host model, and its "
                "directions are looked at there.",
                "Name SAEs that read and write the same site.",
            )


@dataclass(frozen=True)
class Bench:
    """Where SAEs are measured: one host model, one choice of places."""

    host: HostModel
    hooks: Hooks
    workspace: Workspace
    reporter: Reporter


@dataclass(frozen=True)
class Measured:
    """What was found of one SAE."""

    units: Sequence[BenchmarkUnit]
    columns: Sequence[Column]
    """Metrics of the SAE and of what stands beside it."""
    notes: Sequence[str] = ()
    details: dict[str, Any] = field(default_factory=dict)


class Benchmark(ABC, Generic[P]):
    """A benchmark with its options, at one bench."""

    unit: ClassVar[str]
    """What its units are, in one word."""
    ranks: ClassVar[bool] = True
    """Whether SAEs may be ranked by it."""

    def __init__(self, spec: P, bench: Bench) -> None:
        self.spec, self.bench = spec, bench

    @property
    @abstractmethod
    def headline(self) -> str:
        """The metric that results are listed by."""

    @abstractmethod
    def data_digest(self) -> str:
        """Of everything that is measured on; cheap, and known before ``prepare``.  ``DataError``
        where there is nothing to measure on."""

    def check(self, sae: BenchmarkSae) -> None:
        """``DataError`` for an SAE that it cannot measure, with what to do; nothing has been
        prepared then."""
        del sae

    def prepare(self) -> None:
        """What all SAEs of the bench share; called once, before the first ``measure``.  Reports
        stages of its own; ``DataError`` where the host model cannot be measured on."""

    @abstractmethod
    def measure(self, sae: BenchmarkSae) -> Measured:
        """Of one SAE; reports stages of its own.  The same bits each time."""
