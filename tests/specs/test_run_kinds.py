"""What a run kind declares, what is refused of one, and what is read off a spec."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from monosemy.errors import DataError, SpecError
from monosemy.specs import KINDS, ScoreRun, TrainingSpec, parse_spec, queue_of, register_kind
from monosemy.specs.references import (
    ExplanationReference,
    Plain,
    SaeReference,
    Source,
    parts_of,
    references,
    replaced,
    token_counts,
    undeclared,
    undeclared_fields,
)
from monosemy.specs.run import GPU, INTERP, NO_QUEUE, RunSpec
from service.kit.errors import InvalidRequest
from service.runs.ceilings import check_ceilings
from service.runs.sources import check_paths, check_sources
from service.settings import Settings
from tests.support.outside_kind import CurriculumRun, DistilRun, registered

RUN = uuid.UUID(int=5)


def test_every_kind_says_what_it_names() -> None:
    for name, kind in KINDS.items():
        assert undeclared_fields(kind) == [], name
        assert kind.queue in (GPU, INTERP, NO_QUEUE)


def test_what_a_pipeline_names() -> None:
    spec = parse_spec(
        {
            "kind": "pipeline",
            "name": "n",
            "explanation": {"judge": {"url": "https://a.example/v1"}},
            "scoring": [{}, {"judge": {"url": "https://b.example/v1", "model": "m"}}],
        }
    )
    named = [(each.where, mark.kind, each.value) for each, mark in references(spec, Source)]
    assert {each for each in named if each[1] != "artifact"} == {
        ("model.name", "model", "smollm2-135m-instruct"),
        ("text.source", "text", "wikipedia-sample"),
        ("explanation.judge.url", "judge", "https://a.example/v1"),
        ("scoring.1.judge.url", "judge", "https://b.example/v1"),
    }
    assert not undeclared(spec)
    assert dict(token_counts(spec)).keys() == {
        "training.tokens",
        "evaluation.tokens",
        "evaluation.reconstruction_tokens",
    }


def test_what_a_run_of_an_sae_names() -> None:
    id_ = uuid.uuid4()
    spec = parse_spec({"kind": "score", "sae": "s", "explanation": str(id_)})
    assert [(e.path, e.value) for e, _ in references(spec, SaeReference)] == [(("sae",), "s")]
    assert [e.value for e, _ in references(spec, ExplanationReference)] == [id_]
    compared = parse_spec({"kind": "compare", "sae": "a", "other": "b"})
    marks = [(e.value, m.distinct, m.changed) for e, m in references(compared, SaeReference)]
    assert marks == [("a", False, False), ("b", True, False)]
    for kind in ("evaluate", "index"):
        ((_, mark),) = references(parse_spec({"kind": kind, "sae": "a"}), SaeReference)
        assert mark.changed


def test_the_ids_of_what_runs_make() -> None:
    """Literals: files and rows of unfinished runs stand under these."""
    assert parse_spec({"kind": "train"}).sae_ids(RUN) == [RUN]
    assert parse_spec({"kind": "import", "source": "x"}).sae_ids(RUN) == [RUN]
    assert parse_spec({"kind": "basis"}).sae_ids(RUN) == [RUN]
    assert parse_spec({"kind": "evaluate", "sae": "x"}).sae_ids(RUN) == ()
    sweep = parse_spec({"kind": "sweep", "seeds": [1, 2], "learning_rates": [1e-3]})
    assert [str(each) for each in sweep.sae_ids(RUN)] == [
        "0d63dfbf-37f7-570d-b600-bfc35f0ea018",
        "4ebe56a1-576c-5a8c-9ea9-a8e40cc45dfb",
    ]
    assert len(sweep.trainings()) == 2
    assert parse_spec({"kind": "pipeline"}).sae_ids(RUN) == ()
    assert len(parse_spec({"kind": "pipeline"}).trainings()) == 1


def test_features_are_indexed_before_anything_that_takes_its_time() -> None:
    spec = parse_spec({"kind": "pipeline", "scoring": [{}, {"scorer": "surprisal"}]})
    steps = spec.steps()
    kinds = ["train", "index", "evaluate", "explain", "score", "score"]
    assert [step.spec.kind for step in steps] == kinds
    assert [step.after for step in steps] == [None, 0, 1, 1, 3, 3]
    assert [queue_of(step.spec) for step in steps] == ["gpu"] * 3 + ["interp"] * 2 + ["gpu"]
    unevaluated = spec.model_copy(update={"evaluation": None}).steps()
    assert [step.after for step in unevaluated] == [None, 0, 1, 2, 2]


def declared(annotation: Any, **attributes: Any) -> type[RunSpec]:
    """A kind with one field ``odd`` of this type."""
    types = {"kind": Literal["odd"], "odd": annotation}
    return type("OddRun", (RunSpec,), {"__annotations__": types, "kind": "odd", **attributes})


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (str, "mark what this str names"),
        (str | None, "mark what this str names"),
        (list[str], "mark what this str names"),
        (Annotated[str, Field(max_length=3)], "mark what this str names"),
        (Annotated[str, Plain(), Source("text")], "mark what this str names"),
        (uuid.UUID, "mark what this UUID names"),
        (Path, "could hold a string"),
        (bytes, "could hold a string"),
        (Any, "could hold a string"),
        (object, "could hold a string"),
        (dict[str, int], "could hold a string"),
        (dict[Annotated[str, Plain()], int], "could hold a string"),
    ],
)
def test_a_field_that_does_not_say_what_it_names_is_refused(annotation: Any, words: str) -> None:
    with pytest.raises(ValueError, match=rf"OddRun.odd: .*{words}"):
        register_kind(declared(annotation))
    assert "odd" not in KINDS


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"queue": "elsewhere"}, "has no workers"),
        ({"queue": NO_QUEUE}, "no queue and no steps"),
        ({}, "needs an implementation"),
    ],
)
def test_a_kind_that_runs_nowhere_is_refused(attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        register_kind(declared(int, **attributes))


def test_a_training_that_no_ceiling_would_see_is_refused() -> None:
    with pytest.raises(ValueError, match="trainings"):
        register_kind(declared(list[TrainingSpec]))


def test_a_kind_is_declared_once_under_one_literal() -> None:
    class TrainRun(RunSpec):
        kind: Literal["train"] = "train"

    class TwoRun(RunSpec):
        kind: Literal["a", "b"] = "a"

    with pytest.raises(ValueError, match="there is a kind 'train' already"):
        register_kind(TrainRun)
    with pytest.raises(ValueError, match="one literal"):
        register_kind(TwoRun)
    assert register_kind(ScoreRun) is ScoreRun, "a module may be imported again"


def test_a_value_that_nothing_speaks_for_is_refused(tmp_path: Path) -> None:
    """As a class has it that was never registered, such as a part's subclass."""

    class LooseText(TrainingSpec):
        beside: str = "/etc/passwd"

    spec = parse_spec({"kind": "train"}).model_copy(update={"training": LooseText()})
    assert undeclared(spec) == ["training.beside"]
    settings = Settings(home=tmp_path)
    with pytest.raises(InvalidRequest, match="nothing says what this names"):
        check_sources(settings, spec)
    with pytest.raises(DataError, match=r"training\.beside"):
        check_paths(settings, spec)


def test_a_copy_with_one_value_replaced() -> None:
    data = {"a": [{"b": 1}, {"b": 2}], "c": 3}
    assert replaced(data, ("a", 1, "b"), 9) == {"a": [{"b": 1}, {"b": 9}], "c": 3}
    assert data["a"][1] == {"b": 2}  # type: ignore[index]


def test_parts_are_met_at_any_depth() -> None:
    spec = CurriculumRun()
    assert [path for path, _ in parts_of(spec, TrainingSpec)] == ["first.training"]


# ------------------------------------------------------------------ a kind from outside
SECRET = "s" * 32


@pytest.fixture
def closed(tmp_path: Path) -> Settings:
    from pydantic import SecretStr

    return Settings(home=tmp_path, require_keys=True, secret=SecretStr(SECRET), max_tokens=10**6)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"corpora": [{}, {"source": "/etc/passwd"}]}, "corpora.1.source", "FOLDERS"),
    ({"corpora": [{"source": "https://x.example/a"}]}, "corpora.0.source", "never fetched"),
    ({"student": {"name": "owner/name"}}, "student.name", "HUB"),
    ({"student": {"name": "upload:x"}}, "student.name", "never a model"),
    ({"weights": "owner/name"}, "weights", "HUB"),
    ({"weights": f"upload:{uuid.uuid4()}"}, "weights", "no upload"),
    ({"cache": "uploads/x"}, "cache", "uploaded"),
    ({"cache": "../../x"}, "cache", "outside"),
    ({"critic": {"url": "https://x.example/v1"}}, "critic.url", "OUTBOUND"),
]


@pytest.mark.parametrize(("fields", "path", "words"), REFUSED)
def test_the_sources_of_a_kind_from_outside_are_checked(
    closed: Settings, fields: dict[str, Any], path: str, words: str
) -> None:
    with registered():
        spec = parse_spec({"kind": "distil", "teacher": "t", **fields})
        with pytest.raises(InvalidRequest) as caught:
            check_sources(closed, spec)
        faults = dict(caught.value.problems)
        assert set(faults) == {path} and words in faults[path]


def test_the_ceilings_hold_for_a_kind_from_outside(closed: Settings) -> None:
    with registered():
        long = parse_spec({"kind": "distil", "teacher": "t", "length": 10**7})
        with pytest.raises(InvalidRequest, match="10,000,000 tokens"):
            check_ceilings(closed, long)
        wide = {"sae": {"d_sae": 2**30}, "training": {"devices": 1000, "batch_tokens": 2000}}
        with pytest.raises(InvalidRequest) as caught:
            check_ceilings(closed, parse_spec({"kind": "curriculum", "first": wide}))
        assert set(dict(caught.value.problems)) == {
            "first.sae.d_sae",
            "first.training.devices",
            "first.training.tokens",
        }


def test_a_kind_is_known_while_it_is_registered() -> None:
    with registered(DistilRun):
        assert queue_of(parse_spec({"kind": "distil", "teacher": "t"})) == "gpu"
    with pytest.raises(SpecError, match="not a kind of run"):
        parse_spec({"kind": "distil", "teacher": "t"})


def test_the_cli_lists_the_kinds() -> None:
    from typer.testing import CliRunner

    from service.cli.main import app

    with registered():
        listed = CliRunner().invoke(app, ["run", "kinds"]).stdout
        assert "distil" in listed and "Make a smaller SAE out of a larger one" in listed
        rows = json.loads(CliRunner().invoke(app, ["run", "kinds", "--json"]).stdout)
    assert {row["kind"]: row["queue"] for row in rows}["curriculum"] == "none"
    assert all(row["schema"]["properties"]["kind"] for row in rows)


def test_the_steps_of_a_basis() -> None:
    spec = parse_spec({"kind": "basis_pipeline", "beside": "demo", "basis": "pca", "scoring": {}})
    steps = spec.steps()
    assert [step.spec.kind for step in steps] == ["basis", "index", "explain", "score"]
    assert [step.after for step in steps] == [None, 0, 1, 2]
    assert steps[0].spec.beside == "demo" and steps[0].spec.basis == "pca"
    bare = parse_spec({"kind": "basis_pipeline", "explanation": None})
    assert [step.spec.kind for step in bare.steps()] == ["basis", "index"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"beside": "demo", "site": "blocks.1.mlp.hook_post"}, "site is that of the SAE beside"),
        ({"beside": "demo", "model": {"name": "m"}}, "model is that of the SAE beside"),
        ({"beside": "demo", "text": {}}, "text is that of the SAE beside"),
        ({"directions": 3}, "leave directions out"),
        ({"selection": "all", "l0": 4}, "leave l0 out"),
        ({"basis": "ica"}, "pca"),
        ({"l0": 0.5}, "l0"),
    ],
)
@pytest.mark.parametrize("kind", ["basis", "basis_pipeline"])
def test_a_basis_says_things_once(kind: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parse_spec({"kind": kind, **fields})
