"""What an imported SAE gets: the figures of its weights, and said what is not known of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import monosemy
from monosemy.home import Home
from monosemy.progress import SILENT
from monosemy.sae_folder import NamedFolder
from monosemy.specs import TextSpec
from tests.benchmarking.conftest import KeptResults, benchmarked


@pytest.fixture(scope="module")
def pair(
    benchmark_home: Path,
    benchmarked_saes: list[NamedFolder],
    host_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[NamedFolder, NamedFolder]:
    """An SAE that was trained here, and its SAELens files alone, taken in."""
    own = benchmarked_saes[0]
    files = tmp_path_factory.mktemp("elsewhere") / "sae"
    files.mkdir()
    for name in ("cfg.json", "sae_weights.safetensors"):
        shutil.copy(own.folder.path / name, files / name)
    model = {"name": str(host_folder), "dtype": "float32", "device": "cpu"}
    spec = {"kind": "import", "source": str(files), "model": model, "name": "taken"}
    made = monosemy.run(spec, benchmark_home, reporter=SILENT)
    folder = Home(benchmark_home).sae(Path(made["folder"]))
    return own, NamedFolder("taken", folder.path.name, folder)


def test_its_figures_are_those_of_the_same_weights(
    pair: tuple[NamedFolder, NamedFolder], benchmark_home: Path, tiny_text: TextSpec
) -> None:
    own, taken = pair
    kept = KeptResults()
    asked = {"benchmark": "core", "text": tiny_text.model_dump(), "tokens": 2000}
    done = benchmarked(benchmark_home, [own, taken], kept, asked)
    assert not done.not_measured
    by_name = {reference: result for (_, reference), result in kept.items()}
    first, second = by_name[own.reference], by_name[taken.reference]
    assert first.about.protocol == second.about.protocol, "they are beside each other"
    ours = {each.metric: each for each in first.metrics if each.subject == "sae"}
    theirs = {each.metric: each for each in second.metrics if each.subject == "sae"}
    assert list(ours) == list(theirs) and len(ours) > 8
    for metric, one in ours.items():
        wanted = None if one.value is None else pytest.approx(one.value, rel=1e-5, abs=1e-6)
        assert theirs[metric].value == wanted, metric
    assert sum(one.value is not None for one in ours.values()) > 6
    # What is not known of it is not made up.
    assert {each.subject for each in first.metrics} == {"sae", "frozen"}
    assert {each.subject for each in second.metrics} == {"sae"}
    assert second.about.seed is None and first.about.seed is not None
    assert second.about.recipe != first.about.recipe
