"""Run specs: what is accepted, what is refused, and how the refusal reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from monosemy.errors import SpecError
from monosemy.specs import (
    KINDS,
    PENDING_SAE,
    Part,
    PipelineRun,
    SweepRun,
    TopKSpec,
    TrainRun,
    apply_overrides,
    load_spec,
    parse_spec,
    parse_stored_spec,
    pipeline_children,
)
from monosemy.specs.architectures import ARCHITECTURES
from monosemy.specs.described import descriptions


def problems(data: object) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(data)
    return dict(caught.value.problems)


def test_defaults_are_a_whole_pipeline() -> None:
    spec = parse_spec({"kind": "pipeline"})
    assert isinstance(spec, PipelineRun)
    assert spec.site == "blocks.9.hook_resid_post"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_survives_json_and_yaml(kind: str) -> None:
    data: dict[str, object] = {"kind": kind}
    if "sae" in KINDS[kind].model_fields and kind not in ("train", "pipeline"):
        data["sae"] = "some-sae"
    if "source" in KINDS[kind].model_fields:
        data["source"] = "a/folder"
    if "other" in KINDS[kind].model_fields:
        data["other"] = "another-sae"
    if kind in ("task", "benchmark", "evaluate_set", "feature_circuit"):
        data["saes"] = ["some-sae"]
    if kind == "graph":
        data |= {"prompt": "the king", "set": "tc"}
    if kind == "concept":
        data |= {"name": "whales", "targets": ["a whale"], "retain": ["a clock"]}
    spec = parse_spec(data)
    dumped = spec.model_dump(mode="json")
    assert parse_spec(json.loads(json.dumps(dumped))) == spec
    assert parse_spec(yaml.safe_load(yaml.safe_dump(dumped))) == spec


@pytest.mark.parametrize(
    ("data", "path", "words"),
    [
        ({"kind": "pipline"}, "kind", "did you mean 'pipeline'"),
        ({"kind": "train", "trainig": {}}, "trainig", "did you mean 'training'"),
        ({"kind": "train", "training": {"tokenz": 1}}, "training.tokenz", "'tokens'"),
        (
            {"kind": "pipeline", "explanation": {"features": {"cont": 2}}},
            "explanation.features.cont",
            "'count'",
        ),
        ({"kind": "train", "zzzz": 1}, "zzzz", "unknown key"),
        ({"kind": "train", "sae": {"k": 9, "d_sae": 4}}, "sae", "larger than d_sae"),
        ({"kind": "train", "training": {"tokens": 0}}, "training.tokens", "greater than"),
        ({"kind": "train", "site": "layer 9"}, "site", "a site as blocks"),
        ({"kind": "index"}, "sae", "required"),
        ([1, 2], "", "mapping"),
        ({}, "kind", "is not a kind"),
    ],
)
def test_faults_name_their_place_and_the_way_out(data: object, path: str, words: str) -> None:
    assert words in problems(data)[path]


def test_all_faults_are_told_at_once() -> None:
    faults = problems({"kind": "train", "training": {"tokens": -1, "seeed": 2}, "nam": "x"})
    assert set(faults) == {"training.tokens", "training.seeed", "nam"}


def test_overrides_are_yaml_and_leave_the_base_alone() -> None:
    base = {"kind": "pipeline", "training": {"tokens": 5}}
    result = apply_overrides(
        base, ["training.tokens=7", "explanation=null", "explanation=null", "sae.d_sae=64"]
    )
    assert result["training"]["tokens"] == 7
    assert result["explanation"] is None
    assert base == {"kind": "pipeline", "training": {"tokens": 5}}
    assert parse_spec(result).sae.d_sae == 64  # type: ignore[attr-defined]


@pytest.mark.parametrize("item", ["novalue", "=3", "kind.sub=1", "a=[1"])
def test_bad_overrides_are_refused(item: str) -> None:
    with pytest.raises(SpecError):
        apply_overrides({"kind": "train"}, [item])


def test_spec_files(tmp_path) -> None:
    good = tmp_path / "run.yaml"
    good.write_text("kind: train\ntraining: {tokens: 10}\n")
    assert isinstance(parse_spec(load_spec(good)), TrainRun)
    for name, content in {
        "list.yaml": b"- 1",
        "bad.yaml": b"a: [",
        "latin.yaml": b"a: \xff",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SpecError):
            load_spec(tmp_path / name)
    with pytest.raises(SpecError, match="cannot read"):
        load_spec(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        (b"kind: train\nsae:\n  k: 3: 4\n", "line 3, column 7", "mapping values are not allowed"),
        (b"kind: train\nsae: [1, 2\nname: x\n", "line 3, column 5", "expected"),
        (b"kind: train\n\tname: x\n", "line 2, column 1", "cannot start any token"),
        (b"kind: 'train\n", "line 2, column 1", "end of stream"),
        (b'{"kind": "train", "sae": {"k": }', "line 1, column", ""),
        (b"a: &x 1\nb: *y\n", "line 2, column 4", "undefined alias"),
        (b"a: !!python/object:os.system {}\n", "line 1, column 4", "constructor"),
        (b"kind: train\nname: caf\xe9\n", "line 2, column 10", "byte 0xe9 is not UTF-8"),
        (b"kind: train\nname: a\x07b\n", "line 2, column 8", "U+0007"),
        (b"kind: 2026-99-99\n", "", "month must be in 1..12"),
        pytest.param(b"a: " + b"9" * 5000, "", "digits", id="5,000 digits"),
        pytest.param(b"[" * 4000, "", "nested too deeply", id="deep"),
    ],
)
def test_a_file_that_is_not_yaml_is_told_in_a_line_with_its_place(
    content: bytes, place: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    with pytest.raises(SpecError) as refused:
        load_spec(file)
    ((path, text),) = refused.value.problems
    assert path == "" and "\n" not in text
    assert text.startswith(f"{file}, {place}" if place else f"{file}: ")
    assert words in text and "neither YAML nor JSON: " in text


def test_an_override_that_is_not_yaml_is_told_in_a_line() -> None:
    for value in ("[1", "a: b: c", "'", "2026-99-99", "9" * 5000, "\x07"):
        with pytest.raises(SpecError) as refused:
            apply_overrides({"kind": "train"}, [f"sae.k={value}"])
        ((path, text),) = refused.value.problems
        assert path == "sae.k" and "is not YAML: " in text and "\n" not in text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1e308, "the number 1e+308 is too large"),
        ("1e308", "the number '1e308' is too large"),
        (2**31, "less than or equal to 2147483647"),
        pytest.param(10**5000, "less than or equal to 2147483647", id="5,000 digits"),
        pytest.param("9" * 5000, "too large", id="text of 5,000 digits"),
        (3.5, "a whole number is expected, not 3.5"),
        ("many", "a whole number is expected, not 'many'"),
        ("x" * 500, "a whole number is expected, not 'xxx"),
        ([3], "a whole number is expected, not a list"),
        ({"a": 1}, "a whole number is expected, not an object"),
        (None, "a whole number is expected, not None"),
    ],
)
def test_what_is_no_whole_number_is_told_in_plain_words(value: object, words: str) -> None:
    faults = problems({"kind": "train", "sae": {"k": value}})
    assert words in faults["sae.k"]
    assert len(faults["sae.k"]) < 100


@pytest.mark.parametrize("value", ["fast", [1.0], {"a": 1}, None])
def test_what_is_no_number_is_told_in_plain_words(value: object) -> None:
    faults = problems({"kind": "train", "training": {"learning_rate": value}})
    assert faults["training.learning_rate"].startswith("a number is expected, not ")


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"kind": "train", "model": {"name": ""}}, "model.name"),
        ({"kind": "train", "text": {"source": ""}}, "text.source"),
        ({"kind": "import", "source": ""}, "source"),
        ({"kind": "index", "sae": ""}, "sae"),
        ({"kind": "compare", "sae": "a", "other": ""}, "other"),
    ],
)
def test_a_name_that_is_empty_is_refused_as_that(data: dict[str, Any], path: str) -> None:
    assert "at least 1 character" in problems(data)[path]


def test_pipeline_children_follow_each_other() -> None:
    kinds = [child.kind for child in pipeline_children(PipelineRun())]  # type: ignore[attr-defined]
    assert kinds == ["train", "index", "evaluate", "explain", "score"]
    short = pipeline_children(PipelineRun(explanation=None, evaluation=None))
    assert [child.kind for child in short] == ["train", "index"]  # type: ignore[attr-defined]
    assert short[1].sae == PENDING_SAE  # type: ignore[attr-defined]


def test_every_field_is_described() -> None:
    for kind in KINDS.values():
        annotations = [field.annotation for field in kind.model_fields.values()]
        parts = [each for each in annotations if isinstance(each, type) and issubclass(each, Part)]
        for model in (kind, *parts):
            unsaid = model.model_fields.keys() - descriptions(model).keys() - {"kind", "name"}
            assert not unsaid, model


@pytest.mark.parametrize(
    ("spec", "where", "words"),
    [
        ({"kind": "train", "sae": {"architecture": "jumprelou"}}, "sae.architecture", "'jumprelu'"),
        ({"kind": "train", "sae": {"architecture": "relu", "k": 3}}, "sae.k", "unknown key"),
        ({"kind": "train", "sae": {"d_saes": 3}}, "sae.d_saes", "'d_sae'"),
        ({"kind": "train", "sae": {"k": 9, "d_sae": 4}}, "sae", "larger than d_sae"),
        ({"kind": "train", "sae": {"architecture": "transcoder"}}, "", "give writes"),
        (
            {"kind": "train", "sae": {"architecture": "matryoshka", "prefixes": [8, 4]}},
            "sae",
            "prefixes must rise",
        ),
        ({"kind": "sweep", "saes": [{}, {"d_saes": 3}]}, "saes.1.d_saes", "'d_sae'"),
        ({"kind": "sweep", "saes": [{"architecture": "x"}]}, "saes.0.architecture", "known: topk"),
        ({"kind": "sweep", "seeds": [1] * 9, "learning_rates": [1.0] * 9}, "", "at most 64"),
    ],
)
def test_faults_in_an_sae_name_the_key_and_not_the_union(
    spec: dict[str, Any], where: str, words: str
) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(spec)
    ((path, text),) = caught.value.problems
    assert path == where and words in text


def test_every_architecture_has_its_own_options() -> None:
    for name, kind in ARCHITECTURES.items():
        target = {"target_site": "blocks.10.hook_mlp_out"} if name == "transcoder" else {}
        run = parse_spec({"kind": "train", "sae": {"architecture": name, **target}})
        assert isinstance(run, TrainRun) and type(run.sae) is kind
        assert parse_spec(run.model_dump(mode="json")) == run
    run = parse_spec({"kind": "train", "sae": {"k": 7}})
    assert isinstance(run, TrainRun) and run.sae == TopKSpec(k=7)


@pytest.mark.parametrize(
    ("site", "target"),
    [
        ("blocks.2.hook_resid_post", "blocks.1.hook_mlp_out"),
        ("blocks.2.hook_resid_post", "blocks.2.hook_mlp_out"),
        ("blocks.10.hook_resid_pre", "blocks.9.hook_resid_post"),
    ],
)
def test_a_transcoder_does_not_write_before_it_reads(site: str, target: str) -> None:
    sae = {"architecture": "transcoder", "target_site": target}
    for spec in (
        {"kind": "train", "site": site, "sae": sae},
        {"kind": "pipeline", "site": site, "sae": sae},
        {"kind": "sweep", "sites": [site], "saes": [sae]},
    ):
        with pytest.raises(SpecError, match=f"{target}.* comes before the site {site}"):
            parse_spec(spec)
    turned = {"kind": "train", "site": target, "sae": {**sae, "target_site": site}}
    assert isinstance(parse_spec(turned), TrainRun)
    assert parse_stored_spec({"kind": "train", "site": site, "sae": sae}), "what is stored is read"


def test_a_sweep_is_the_product_of_its_lists() -> None:
    run = parse_spec(
        {
            "kind": "sweep",
            "sites": ["blocks.1.hook_mlp_out", "blocks.2.attn.hook_z"],
            "saes": [{"k": 4}, {"architecture": "relu"}],
            "learning_rates": [0.1, 0.2],
            "seeds": [5, 6, 7],
            "training": {"tokens": 99, "seed": 3},
        }
    )
    assert isinstance(run, SweepRun)
    members = run.members()
    assert len(members) == 24 and len({member.model_dump_json() for member in members}) == 24
    assert {member.training.tokens for member in members} == {99}
    assert [m.training.seed for m in members[:3]] == [5, 6, 7]
    assert parse_spec(members[-1].model_dump(mode="json")) == members[-1]


@pytest.mark.parametrize("kind", ["task", "circuit"])
def test_prompts_that_do_not_say_what_they_are(kind: str) -> None:
    assert problems({"kind": kind, "saes": ["demo"], "prompts": {}})["prompts"] == (
        "the key 'task' is missing, which says what this is"
    )


def test_a_text_belongs_into_one_set_of_a_concept() -> None:
    texts = {"targets": ["a whale", "a seal"], "retain": ["a clock", "a seal"]}
    (message,) = problems({"kind": "concept", "name": "c", "sae": "demo", **texts}).values()
    assert "1 text is both" in message and "'a seal'" in message
