"""A small SAE that benchmarks are tried on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import monosemy
from monosemy.benchmarking.run import Benchmarking
from monosemy.home import Home
from monosemy.progress import SILENT
from monosemy.sae_folder import NamedFolder
from monosemy.specs import TextSpec
from monosemy.specs.benchmarks import BenchmarkRun
from monosemy.specs.parse import parse_part
from monosemy.specs.rest.benchmarks import BenchmarkResult, BenchmarkSummary


class KeptResults(dict[tuple[str, str], BenchmarkResult]):
    """Results by protocol and SAE, in memory."""

    def find(self, protocol: str, sae: NamedFolder) -> BenchmarkResult | None:
        return self.get((protocol, sae.reference))

    def keep(self, sae: NamedFolder, result: BenchmarkResult) -> None:
        self[result.about.protocol, sae.reference] = result


@pytest.fixture(scope="session")
def benchmark_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="session")
def benchmarked_saes(
    benchmark_home: Path, host_folder: Path, tiny_text: TextSpec
) -> list[NamedFolder]:
    """Three of the tiny host: widths 40 and 48 at one site, 40 at another; 48 has no baseline."""

    def train(d_sae: int, site: str) -> NamedFolder:
        folder = monosemy.train(
            {
                "name": f"{site[7]}-{d_sae}",
                "model": {"name": str(host_folder), "dtype": "float32", "device": "cpu"},
                "text": tiny_text.model_dump(),
                "site": site,
                "sae": {"d_sae": d_sae, "k": 4},
                "training": {
                    "tokens": 1024,
                    "batch_tokens": 128,
                    "buffer_tokens": 512,
                    "frozen_decoder_baseline": d_sae == 40,
                },
            },
            benchmark_home,
            reporter=SILENT,
        )
        return NamedFolder(folder.name, folder.path.name, folder)

    post, mid = "blocks.1.hook_resid_post", "blocks.2.hook_resid_mid"
    return [train(40, post), train(48, post), train(40, mid)]


def benchmarked(
    home: Path, saes: list[NamedFolder], kept: KeptResults, *benchmarks: dict[str, Any]
) -> BenchmarkSummary:
    """A run of benchmarks, in this process."""
    spec = parse_part(
        BenchmarkRun,
        {"saes": [each.reference for each in saes], "benchmarks": list(benchmarks)},
    )
    here = Home(home)
    return Benchmarking(here.host, here.workspace, kept).run(spec, saes)
