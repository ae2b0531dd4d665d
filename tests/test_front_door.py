"""The library's front door: each kind of run from a notebook and from ``python -m monosemy``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml

import monosemy
from monosemy.__main__ import main
from monosemy.errors import DataError, MonosemyError, SpecError, UnknownSite
from monosemy.home import Home
from monosemy.interp.texts import FeatureTexts
from monosemy.local_runs import LocalRuns
from monosemy.progress import SILENT, Reporter
from monosemy.sae_folder import SaeFolder
from monosemy.specs import KINDS, TextSpec, parse_spec
from monosemy.specs.run import NO_QUEUE
from tests.reference.stubs import judge
from tests.support.outside_kind import registered
from tests.support.scored_rows import detection
from tests.support.stub_server import StubServer
from tests.support.task_prompts import task_prompts

EXPLANATION = {"features": {"count": 3, "min_postings": 5, "max_density": 1.0}}
SCORING = {"positives": 3, "negatives": 3, "texts_per_call": 3}


@pytest.fixture(scope="module")
def spec(host_folder: Path, tiny_text: TextSpec) -> dict[str, Any]:
    return {
        "model": {"name": str(host_folder), "dtype": "float32", "device": "cpu"},
        "text": tiny_text.model_dump(),
        "site": "blocks.2.hook_resid_post",
        "sae": {"d_sae": 48, "k": 4, "dead_after_tokens": 2000},
        "training": {"tokens": 4000, "batch_tokens": 128, "buffer_tokens": 1024},
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def sae(spec: dict[str, Any], home: Path) -> SaeFolder:
    return monosemy.train({**spec, "name": "first"}, home, reporter=SILENT)


@pytest.fixture(scope="module")
def other(spec: dict[str, Any], home: Path) -> SaeFolder:
    training = {**spec["training"], "seed": 1}
    return monosemy.train({**spec, "training": training}, home, reporter=SILENT)


@pytest.fixture(scope="module")
def texts(sae: SaeFolder) -> FeatureTexts:
    return monosemy.build_index(sae, reporter=SILENT, top_examples=4, quantile_examples=2, window=6)


@pytest.fixture(scope="module")
def judge_url() -> Iterator[str]:
    with StubServer(respond=judge) as server:
        yield server.url


@pytest.fixture(autouse=True)
def no_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONOSEMY_JUDGE_URL", raising=False)


def test_trained_evaluated_indexed_and_compared(
    spec: dict[str, Any], home: Path, sae: SaeFolder, other: SaeFolder, texts: FeatureTexts
) -> None:
    written = (sae.path / "cfg.json").stat().st_mtime_ns
    again = monosemy.train({**spec, "name": "first"}, home, reporter=SILENT)
    assert (again.path / "cfg.json").stat().st_mtime_ns == written, "it is there already"
    metrics = monosemy.evaluate(sae, reporter=SILENT, tokens=300, reconstruction_tokens=600)
    by_name = monosemy.evaluate(
        "first", home, reporter=SILENT, tokens=300, reconstruction_tokens=600
    )
    assert metrics == by_name and 0 < metrics["fvu"] < 1.5
    assert texts.reader.n_features == 48 and texts.store.text_id == texts.reader.text_id
    assert monosemy.open_index(texts.reader.folder).reader.text_id == texts.reader.text_id
    assert list(home.glob(f"indexes/{sae.path.name}-*")) == [texts.reader.folder]
    alike = monosemy.compare(sae, other, reporter=SILENT, method="hungarian", neighbours=1)
    partners = [link for link in alike.links if link[3]]
    assert len(partners) == 48 and len({b for _, b, _, _ in partners}) == 48
    copy = monosemy.build_index(other, reporter=SILENT, top_examples=4)
    assert copy.store.text_id == texts.store.text_id
    by_tokens = monosemy.compare(sae, other, reporter=SILENT, by="tokens")
    assert by_tokens.links and all(0 < value <= 1 for _, _, value, _ in by_tokens.links)


def test_laid_out(home: Path, sae: SaeFolder, texts: FeatureTexts) -> None:
    layout = monosemy.layout(sae, reporter=SILENT, iterations=50, perplexity=5)
    silent = int((texts.reader.counts == 0).sum())
    assert layout.places.shape == (48, 2) and layout.summary.weights == sae.digest
    assert (layout.summary.left_out, layout.faithfulness.n) == (silent, 48 - silent)
    spec = {"kind": "layout", "sae": "first", "iterations": 50, "perplexity": 5}
    ran = monosemy.run(spec, home, reporter=SILENT)
    assert ran["faithfulness"] == layout.faithfulness.model_dump()
    assert [each is None for each in ran["places"]] == np.isnan(layout.places[:, 0]).tolist()
    assert ran["places"][-1] in (None, layout.places[-1].tolist())


def test_its_heads_are_surveyed(
    spec: dict[str, Any], home: Path, sae: SaeFolder, texts: FeatureTexts
) -> None:
    site = "blocks.2.attn.hook_z"
    heads = monosemy.train({**spec, "site": site, "name": "heads"}, home, reporter=SILENT)
    with pytest.raises(DataError, match="no index"):
        monosemy.survey_attention(heads, reporter=SILENT)
    indexed = monosemy.build_index(heads, reporter=SILENT, top_examples=4, window=6)
    options = {"rows": 10, "examples": 3, "top": 3, "draws": 19}
    survey = monosemy.survey_attention(heads, reporter=SILENT, **options)
    alive = np.flatnonzero(indexed.reader.counts > 0).tolist()
    assert [each.index for each in survey.features] == alive
    assert survey.summary.weights == heads.digest and len(survey.summary.heads) == 4
    ran = monosemy.run({"kind": "attention", "sae": "heads", **options}, home, reporter=SILENT)
    assert ran["heads"] == survey.summary.model_dump(mode="json")["heads"]
    assert [each["index"] for each in ran["feature_attention"]] == alive
    with pytest.raises(DataError, match="no heads"):
        monosemy.survey_attention(sae, reporter=SILENT, **options)


def test_a_concept_is_found(home: Path, sae: SaeFolder) -> None:
    words = ("clock", "bridge", "river", "garden", "letter", "market", "winter", "captain")
    pairs = list(combinations(words, 2))
    options = {
        "targets": [f"Grey whales near the {a} and the {b}" for a, b in pairs],
        "retain": [f"She repaired a {b} before some {a}" for a, b in pairs],
        "top_k": 4,
        "false_alarms": 0.2,
    }
    found = monosemy.concept(sae, reporter=SILENT, **options)
    assert found.weights == sae.digest and found.concept.features
    assert found.texts.fit_targets + found.texts.test_targets == len(pairs)
    spec = {"kind": "concept", "name": "concept", "sae": "first", **options}
    ran = monosemy.run(spec, home, reporter=SILENT)
    assert ran["concept"] == found.concept.model_dump()
    with pytest.raises(SpecError, match="retain"):
        monosemy.concept(sae, reporter=SILENT, targets=["x"])


def test_measured_by_benchmarks(spec: dict[str, Any], home: Path, sae: SaeFolder) -> None:
    core = {"benchmark": "core", "text": spec["text"], "tokens": 1000}
    measured = monosemy.benchmark([sae], [core], home=home, reporter=SILENT)
    assert not measured.not_measured
    (result,) = measured.results("core").values()
    board = measured.leaderboard(metric="kl")
    assert board.rows[0].figure.value is not None and board.against is None and board.pairs == 0
    again = monosemy.benchmark([sae], [core], home=home, reporter=SILENT)
    assert again.summary.results[0].kept and again.results() == {"first": result}
    ran = monosemy.run(
        {"kind": "benchmark", "saes": ["first"], "benchmarks": [core]}, home, reporter=SILENT
    )
    assert ran["results"][0]["kept"] and ran["not_measured"] == []
    for asked, says in (
        ({"metric": "f1"}, "There are: explained_variance"),
        ({"benchmark": "probing"}, "measured nothing here"),
    ):
        with pytest.raises(MonosemyError, match=says):
            measured.leaderboard(**asked)
    with pytest.raises(SpecError, match="saes"):
        monosemy.benchmark([], home=home, reporter=SILENT)
    with pytest.raises(SpecError, match="nothing"):
        monosemy.benchmark([sae], ["nothing"], reporter=SILENT)
    with pytest.raises(SpecError, match="benchmarks: it takes a list"):
        monosemy.benchmark([sae], "core", reporter=SILENT)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="named twice"):
        monosemy.benchmark([sae, sae], [core], reporter=SILENT)


def test_tried_at_a_task(spec: dict[str, Any], home: Path, sae: SaeFolder) -> None:
    options = {
        "prompts": {"task": "given", "items": task_prompts()},
        "features": [1, 4],
        "test_share": 0.3,
        "resamples": 100,
    }
    found = monosemy.task([sae], reporter=SILENT, **options)
    methods = found.sections[0].methods
    assert [each.name for each in methods[:4]] == [
        "supervised",
        "supervised, least squares",
        "first",
        "first, frozen decoder",
    ]
    assert found.sections[0].sites == ["blocks.2.hook_resid_post"] and found.fit + found.test == 60
    ran = monosemy.run({"kind": "task", "saes": ["first"], **options}, home, reporter=SILENT)
    assert ran["sections"] == found.model_dump(mode="json")["sections"]
    alone = {"model": spec["model"], "sites": [spec["site"]], "positions": ["end"]}
    (section,) = monosemy.task(home=home, reporter=SILENT, **options, **alone).sections
    assert {each.kind for each in section.methods} == {"supervised", "pca", "random"}
    with pytest.raises(SpecError, match="model and sites are needed"):
        monosemy.task(home=home, reporter=SILENT)
    with pytest.raises(SpecError, match="named twice"):
        monosemy.task([sae, sae], reporter=SILENT, **options)


def test_bases_stand_beside_an_sae(home: Path, sae: SaeFolder, texts: FeatureTexts) -> None:
    """As sparse as the SAE, on its text; evaluated, indexed and compared as it is."""
    made = monosemy.basis(sae, reporter=SILENT, basis="pca", tokens=2000)
    assert made.spec.site == sae.spec.site and made.spec.text == sae.spec.text
    assert made.sae.d_sae == 64 and made.readings == [] and made.baseline is None
    metrics = made.provenance["metrics"]
    assert metrics["l0"] == pytest.approx(made.provenance["basis"]["l0"], abs=0.01)
    assert metrics["max_norm"] == sae.max_norm and "tokens" not in metrics
    written = (made.path / "cfg.json").stat().st_mtime_ns
    again = monosemy.basis(sae, reporter=SILENT, basis="pca", tokens=2000)
    assert (again.path / "cfg.json").stat().st_mtime_ns == written, "it is there already"
    # Its own spec, which names no SAE any more, makes it again.
    alone = monosemy.run({**made.provenance["spec"], "name": "alone"}, home, reporter=SILENT)
    same = Home(home).sae("alone").sae
    assert alone["metrics"]["l0"] == pytest.approx(metrics["l0"], abs=0.02)
    assert same.d_sae == 64 and torch.allclose(same.W_dec, made.sae.W_dec, atol=1e-3)
    evaluated = monosemy.evaluate(made, reporter=SILENT, tokens=300, reconstruction_tokens=600)
    assert 0 < evaluated["fvu"] < 1 and "frozen_decoder_baseline" not in evaluated
    index = monosemy.build_index(made, reporter=SILENT, top_examples=4)
    assert index.store.text_id == texts.store.text_id and (index.reader.counts > 0).sum() > 10
    alike = monosemy.compare(sae, made, reporter=SILENT, neighbours=1)
    assert len(alike.links) > 0
    spec = {"kind": "basis", "basis": "random_directions", "beside": "first", "name": "random",
            "tokens": 500}  # fmt: skip
    random = monosemy.run(spec, home, reporter=SILENT)
    assert monosemy.load_sae(random["folder"]).d_sae == 48
    assert Home(home).sae("random").spec.model == sae.spec.model


def test_neurons_need_no_sae(spec: dict[str, Any], home: Path) -> None:
    shared = {name: spec[name] for name in ("model", "text")}
    site = "blocks.1.mlp.hook_post"
    made = monosemy.basis(home=home, reporter=SILENT, **shared, site=site, l0=6, tokens=1000)
    assert made.sae.d_sae == 2 * made.sae.d_in == 128
    assert made.provenance["metrics"]["l0"] == pytest.approx(6, abs=0.01)
    assert made.max_norm > 0, "as a training does, it leaves out tokens that are far too long"
    # A neuron is kept by what it writes: thresholds are one value over the length of its row.
    host = Home(home).host(made.spec.model)
    weight = host.output_directions(site, torch.eye(64)).norm(dim=1).repeat(2)
    limits = made.sae.threshold * weight  # type: ignore[operator]
    torch.testing.assert_close(limits, limits.mean().expand_as(limits), rtol=1e-4, atol=0)
    index = monosemy.build_index(made, reporter=SILENT, top_examples=4)
    assert index.reader.n_features == 128


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"basis": "pca", "directions": 33}, "have 32 principal components"),
        ({"site": "blocks.1.hook_mlp_in"}, "site"),
        ({"site": "blocks.7.mlp.hook_post"}, "blocks.7"),
        ({"directions": 5}, "all coordinates"),
        ({"selection": "all", "l0": 3}, "leave l0 out"),
        ({"basis": "ica"}, "basis"),
    ],
)
def test_what_no_basis_can_be(
    spec: dict[str, Any], home: Path, options: dict[str, Any], words: str
) -> None:
    shared = {name: spec[name] for name in ("model", "text", "site")}
    with pytest.raises((DataError, SpecError, UnknownSite), match=words):
        monosemy.basis(home=home, reporter=SILENT, **{**shared, "tokens": 300, **options})


def test_a_circuit(spec: dict[str, Any], home: Path) -> None:
    asked = {
        "model": spec["model"],
        "prompts": {
            "task": "given",
            "items": [
                {"text": f"the {word} {end}", "positive": end == "one"}
                for word in ("king", "river", "house", "road")
                for end in ("one", "two")
            ],
        },
        "codes": {"latents": 8, "examples": 2, "epochs": 5, "seeds": 1},
        "permutations": 20,
    }
    found = monosemy.circuit(asked, home, reporter=SILENT)
    assert len(found.heads) == 16 and found.edges is not None and found.edges.pairs == 96
    ran = monosemy.run({"kind": "circuit", **asked}, home, reporter=SILENT)
    assert ran["heads"] == found.model_dump(mode="json")["heads"]
    with pytest.raises(SpecError, match="permutations"):
        monosemy.circuit({"permutations": 1}, home, reporter=SILENT)


def test_attention_is_taken_back_through_another_sae(
    spec: dict[str, Any], home: Path, sae: SaeFolder
) -> None:
    heads = monosemy.train(
        {**spec, "name": "outputs", "site": "blocks.3.attn.hook_z"}, home, reporter=SILENT
    )
    asked = {"top_k": 2, "depth": 1, "tokens": [4], "pair": {"head": 1, "source": -1}}
    found = monosemy.attention(
        heads, "Two grey whales swam.", through=[sae], reporter=SILENT, **asked
    )
    assert found.bos is not None and found.layer == 3 and found.pair is not None
    for each in found.features:
        whole = sum((*each.by_head, *each.bias_by_head, each.b_enc, each.b_dec, each.rounding))
        assert whole == pytest.approx(each.pre, rel=1e-5, abs=1e-6)
        behind = [part for source in each.parts or () for part in source.parts or ()]
        assert {part.sae for part in behind if part.kind == "feature"} == {1}
    with pytest.raises(SpecError, match="did you mean 'depth'"):
        monosemy.attention(heads, "Two grey whales.", dept=1)
    with pytest.raises(DataError, match="has no heads"):
        monosemy.attention(sae, "Two grey whales.", reporter=SILENT)
    ahead = {"head": 1, "token": 0, "source": 2}
    with pytest.raises(
        DataError, match="token 0 cannot look at 2"
    ):  # counted without BOS, as asked
        monosemy.attention(heads, "Two grey whales.", reporter=SILENT, pair=ahead)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda home: monosemy.evaluate(3, home=home), "an SAE, its name or its folder, not 3"),
        (lambda home: monosemy.survey_attention(None, home=home), "not None"),
        (lambda home: monosemy.concept({}, home=home, targets=["a"], retain=["b"]), "an SAE"),
        (lambda home: monosemy.attention(b"first", "a text", home=home), "an SAE"),
        (lambda home: monosemy.task([3], home=home), "not 3"),
        (lambda home: monosemy.task({"saes": ["first"]}, home=home), "saes: it takes a list"),
        (lambda home: monosemy.task("first", home=home), "saes: it takes a list of SAEs, not 'f"),
        (lambda home: monosemy.task(None, home=home), "saes: it takes a list"),
        (
            lambda home: monosemy.attention("first", "a text", home=home, through="first"),
            "through: it takes a list",
        ),
    ],
)
def test_what_is_no_sae(call: Callable[[Path], Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=words):
        call(tmp_path)


def test_readings_stay_beside_the_sae(spec: dict[str, Any], home: Path, sae: SaeFolder) -> None:
    readings = monosemy.readings(sae)
    assert [each.step for each in readings] == [1, 10, 20, 30, 32]
    assert readings[-1].fvu < readings[0].fvu and readings[-1].frozen_decoder_baseline is not None
    named = {**spec, "name": "first"}
    for reference in ("first", sae.path, named):
        assert monosemy.readings(reference, home) == readings
    (sae.path / "readings.jsonl").rename(sae.path / "aside")
    assert monosemy.readings("first", home) == readings, "as earlier versions left them"
    (sae.path / "aside").rename(sae.path / "readings.jsonl")
    run = home / "runs" / sae.path.name
    run.rename(home / "cleared")
    assert monosemy.readings(named, home) == monosemy.readings("first", home) == readings
    (home / "cleared").rename(run)
    assert monosemy.readings({**spec, "name": "not begun"}, home) == []
    with pytest.raises(SpecError, match="trains 1 SAEs"):
        monosemy.readings(named, home, place=1)
    with pytest.raises(DataError, match="No SAE is called 'nothing'"):
        monosemy.readings("nothing", home)


def test_what_is_asked_for_wrongly(home: Path, sae: SaeFolder) -> None:
    with pytest.raises(SpecError, match=r"tokenz.*did you mean 'tokens'"):
        monosemy.evaluate(sae, reporter=SILENT, tokenz=5)
    with pytest.raises(DataError, match=f"No SAE is called 'nothing'.*{sae.path.name}"):
        monosemy.evaluate("nothing", home, reporter=SILENT)
    with pytest.raises(SpecError, match="'train' is needed, not 'index'"):
        monosemy.train({"kind": "index", "sae": "x"}, home, reporter=SILENT)
    with pytest.raises(SpecError, match="same SAE"):
        monosemy.compare("first", sae.path, home, reporter=SILENT)
    with pytest.raises(DataError, match="embedded by a service"):
        monosemy.run({"kind": "compare", "sae": "first", "other": "x", "by": "explanations"}, home)


def test_every_kind_runs_here(home: Path) -> None:
    runs = LocalRuns(Home(home))
    assert set(runs._executors) == {n for n, k in KINDS.items() if k.queue != NO_QUEUE}


def test_explained_and_scored_by_specs(
    home: Path, sae: SaeFolder, texts: FeatureTexts, judge_url: str
) -> None:
    def run(**spec: Any) -> dict[str, Any]:
        return monosemy.run({"sae": "first", **spec}, home, judge_url, SILENT)

    with pytest.raises(DataError, match="no explanations to score"):
        run(kind="score", scoring=SCORING)
    with pytest.raises(DataError, match=r"needs a judge.*MONOSEMY_JUDGE_URL"):
        monosemy.run({"kind": "explain", "sae": "first", "explanation": EXPLANATION}, home)
    forecast = run(kind="explain", explanation=EXPLANATION, dry_run=True)["forecast"]
    assert forecast["features"] == 3
    explained = run(kind="explain", explanation=EXPLANATION)
    assert len(explained["explanations"]) == 3
    first = next(iter(explained["explanations"]))
    scored = run(kind="score", scoring=SCORING, features=[int(first)])
    assert set(scored["scores"]) == {first} and scored["scores"][first]["n"] == 6
    labels = json.loads(Path(scored["labels"]).read_text())
    assert labels["explanations"].keys() == explained["explanations"].keys()
    assert labels["scores"]["detection"] == scored["scores"]
    surprisal = {**SCORING, "scorer": "surprisal"}
    without = monosemy.run({"kind": "score", "sae": "first", "scoring": surprisal}, home)
    assert set(without["scores"]) == set(explained["explanations"]), "this scorer asks no judge"
    run(kind="explain", explanation={"features": {"indices": [int(first)]}})
    kept = json.loads(Path(scored["labels"]).read_text())["scores"]
    assert not kept["detection"] and first not in kept["surprisal"], "they were of the text before"
    Path(scored["labels"]).write_text('{"explanations": [], "scores": {}}')
    with pytest.raises(DataError, match="cannot be read"):
        run(kind="score", scoring=SCORING)


def test_a_sweep_and_an_import(spec: dict[str, Any], home: Path, sae: SaeFolder) -> None:
    shared = {name: spec[name] for name in ("model", "text", "training")}
    sweep = {"kind": "sweep", "name": "wide", "sites": [spec["site"]], "saes": [spec["sae"]] * 2}
    made = monosemy.run({**sweep, **shared, "seeds": [3]}, home, reporter=SILENT)["saes"]
    assert [each["name"] for each in made] == ["wide-0", "wide-1"]
    assert len({each["folder"] for each in made}) == 2
    taken = {"kind": "import", "source": str(sae.path), "model": spec["model"], "name": "taken"}
    imported = monosemy.run({**taken, "text": spec["text"]}, home, reporter=SILENT)
    assert imported["name"] == "taken"
    with pytest.raises(SpecError, match="uploads are of a service"):
        monosemy.run({"kind": "import", "source": "upload:x"}, home, reporter=SILENT)
    measured = {"tokens": 200, "reconstruction_tokens": 400}
    fvu = [
        monosemy.evaluate(n, home, reporter=SILENT, **measured)["fvu"] for n in ("first", "taken")
    ]
    assert fvu[0] == fvu[1]


def test_a_pipeline_as_a_spec_goes_as_far_as_it_can(
    spec: dict[str, Any], home: Path, sae: SaeFolder
) -> None:
    lean = {
        "kind": "pipeline",
        **spec,
        "name": "first",
        "evaluation": None,
        "indexing": {"top_examples": 2, "quantile_examples": 1, "window": 4},
        # The second asks no judge, but there is nothing for it to score without one.
        "scoring": [{}, {"scorer": "surprisal"}],
    }
    result = monosemy.run(lean, home, reporter=SILENT)
    assert result["sae"] == sae.path.name, "the very SAE that train makes of this spec"
    assert set(result) == {"sae", "train", "index"}


def test_scores_of_two_saes_beside_each_other(
    home: Path, sae: SaeFolder, other: SaeFolder, texts: FeatureTexts, tmp_path: Path
) -> None:
    monosemy.build_index(other, reporter=SILENT, top_examples=2, quantile_examples=1, window=4)
    good = {n: detection(18 + n % 3, 20).with_baseline(detection(10, 20)) for n in range(6)}
    poor = {n: [detection(9 + n % 3, 20).with_baseline(detection(10, 20))] for n in range(8)}
    drawn = tmp_path / "beside.html"
    report = monosemy.report_beside([(sae, good), (other.path.name, poor)], home, to=drawn)
    first, second = report["sides"]
    assert (first["name"], first["scored"], second["scored"]) == ("first", 6, 8)
    assert second["name"] == other.path.name and report["one_text"]
    assert first["latents"] == 48 and 0 < first["l0"] <= 4.5 and 0 <= first["silent"] < 1
    section = report["scorers"]["detection"]
    (difference,) = section["differences"]
    assert difference["value"] > 0 and "better" in difference["says"]
    assert "first" in drawn.read_text() and "<script" not in drawn.read_text()
    with pytest.raises(DataError, match="2 to 4 different SAEs"):
        monosemy.report_beside([(sae, good), (sae, poor)])
    wrong: Any
    for wrong in ("first", [sae], [(sae, [0.5])], [(sae, {3: 0.5})], [(sae, {"3": good[3]})]):
        with pytest.raises(SpecError, match="sides"):
            monosemy.report_beside(wrong, home)
    with pytest.raises(DataError, match="No SAE is called"):
        monosemy.report_beside([(sae, good), ("nobody", poor)])


def test_the_former_name_of_hosted(
    home: Path, sae: SaeFolder, texts: FeatureTexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monosemy.models.host import HostModel
    from monosemy.notebook import PipelineResult
    from monosemy.workspace import Workspace

    host = HostModel.load(sae.spec.model, Workspace(home))
    hosted = sae.hosted(host)
    options = {"scorer": "surprisal", **SCORING}
    explanations = {3: "a remark", 5: "another"}
    with pytest.warns(DeprecationWarning, match="hosted"):
        former = monosemy.score(texts, explanations, lab=hosted, reporter=SILENT, **options)
    now = monosemy.score(texts, explanations, hosted=hosted, reporter=SILENT, **options)
    assert {k: v.value for k, v in former.items()} == {k: v.value for k, v in now.items()}
    result = PipelineResult(
        parse_spec({"kind": "pipeline", "site": sae.spec.site}),  # type: ignore[arg-type]
        sae.path,
        sae.sae,
        host,
        texts.store,
        {},
        None,
        texts.reader,
        {},
        {},
    )
    with pytest.warns(DeprecationWarning, match="hosted"):
        assert result.lab.host is host


def test_a_kind_from_outside_runs_here(home: Path) -> None:
    with registered():
        done = monosemy.run({"kind": "distil", "teacher": "first", "length": 7}, home, None, SILENT)
    assert done == {"teacher": "first", "root": str(home.resolve()), "length": 7}


# ------------------------------------------------------------------ python -m monosemy
def test_the_command_prints_the_result(
    home: Path, sae: SaeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump({"kind": "evaluate", "sae": "first"}))
    measured = ["--set", "evaluation.tokens=200", "--set", "evaluation.reconstruction_tokens=300"]
    assert main([str(file), "--home", str(home), *measured]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["metrics"]["fvu"] > 0
    assert "evaluate" in err, "progress is shown"


def test_the_command_prints_what_a_failed_pipeline_had_made(
    spec: dict[str, Any],
    home: Path,
    sae: SaeFolder,
    judge_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "spec.yaml"
    choice = {"features": {"count": 3, "min_postings": 10**6}}
    lean = {"evaluation": None, "explanation": choice, "scoring": None}
    lean["indexing"] = {"top_examples": 2, "quantile_examples": 1, "window": 4}
    file.write_text(yaml.safe_dump({"kind": "pipeline", **spec, "name": "first", **lean}))
    assert main([str(file), "--home", str(home), "--judge-url", judge_url]) == 1
    out, err = capsys.readouterr()
    assert "Lower features.min_postings" in err
    assert set(json.loads(out)) == {"sae", "train", "index"}
    assert json.loads(out)["sae"] == sae.path.name


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--kind", "evaluate", "--set", "sae=nothing"], 1, "No SAE is called 'nothing'"),
        (["--kind", "train", "--set", "trainig.tokens=5"], 2, "trainig: unknown key"),
        (["--kind", "tain"], 2, "did you mean 'train'"),
        (["nowhere.yaml"], 2, "cannot read nowhere.yaml"),
        ([], 2, "kind"),
        (["--kind", "import", "--set", "source=./nowhere"], 1, "is no folder"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    assert main([*arguments, "--home", str(tmp_path)]) == code
    out, err = capsys.readouterr()
    assert not out and words in err
    assert len([line for line in err.splitlines() if not line.startswith("import: 0/1")]) == 1


def test_the_command_in_a_process_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monosemy", "--kind", "tain"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'train'" in done.stderr and "Traceback" not in done.stderr


class _Known(FeatureTexts):
    """An index that is never looked into."""

    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: monosemy.train("x"), "spec"),
        (lambda: monosemy.train([1]), "spec"),
        (lambda: monosemy.pipeline("x"), "spec"),
        (lambda: monosemy.explain(_Known(), "x", judge="http://127.0.0.1:9/v1"), "features"),
        (lambda: monosemy.explain(_Known(), [1.5]), "features"),
        (lambda: monosemy.explain(3, [1]), "index"),
        (lambda: monosemy.explain(_Known(), [1], judge=3), "judge"),
        (lambda: monosemy.score(_Known(), [], judge="http://127.0.0.1:9/v1"), "explanations"),
        (lambda: monosemy.score(_Known(), {"3": "x"}), "explanations"),
        (lambda: monosemy.score(_Known(), {3: 4}), "explanations"),
        (lambda: monosemy.headings(_Known(), {3: "x"}, []), "scores"),
        (lambda: monosemy.check_judge(judge=3), "judge"),
    ],
)
def test_an_argument_of_another_type_is_named(call: Callable[[], Any], argument: str) -> None:
    with pytest.raises(SpecError, match="it takes ") as caught:
        call()
    assert [path for path, _ in caught.value.problems] == [argument]


@pytest.mark.parametrize("way", [monosemy.train, monosemy.pipeline])
@pytest.mark.parametrize("spec", [None, {}])
def test_a_training_that_nobody_sized_says_so(
    way: Callable[..., Any], spec: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told(Reporter):
        lines: ClassVar[list[str]] = []

        def log(self, message: str, **data: Any) -> None:
            self.lines.append(message)

    def ends(*_: Any) -> None:
        raise DataError("far enough")

    Told.lines.clear()
    monkeypatch.setattr(LocalRuns, "train", ends)
    with pytest.raises(DataError, match="far enough"):
        way(spec, home, reporter=Told())
    assert "no spec is given" in Told.lines[0] and "tokens" in Told.lines[0]
