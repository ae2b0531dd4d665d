"""Layouts of other tools: round trips, known answers, and what is refused."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monosemy.errors import DataError
from monosemy.interchange import files
from monosemy.interchange.delphi import export_delphi, import_delphi
from monosemy.interchange.neuronpedia import export_neuronpedia, import_neuronpedia
from monosemy.interchange.records import (
    ExampleRecord,
    ExplanationRecord,
    FeatureRecord,
    JudgedRecord,
    ScoreRecord,
)

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def record(feature: int, text: str = "Names of kings") -> FeatureRecord:
    judged = (
        JudgedRecord(True, True, 1),
        JudgedRecord(True, False, 10),
        JudgedRecord(True, None, 5),
        JudgedRecord(False, False, -1),
        JudgedRecord(False, False, -1),
    )
    return FeatureRecord(
        feature,
        density=0.125,
        max_activation=9.5,
        promoted=((" king", 2.5), (" qu\u00e9", 1.0)),
        suppressed=((" dog", -1.5),),
        explanations=(
            ExplanationRecord(text, "judge", "default", (ScoreRecord("fuzzing", judged),)),
        ),
        examples=(
            ExampleRecord((" the", " king"), (0.0, 9.5), 1),
            ExampleRecord((" a", " queen"), (0.0, 1.5), 1, quantile=0),
        ),
    )


# -------------------------------------------------------------------- delphi
def test_delphi_gets_what_it_reads(tmp_path: Path) -> None:
    assert export_delphi(tmp_path, [record(3), FeatureRecord(4)], "layers.9/mlp") == 1
    text_file = tmp_path / "explanations" / "layers.9--mlp_latent3.txt"
    assert json.loads(text_file.read_text()) == "Names of kings"
    rows = json.loads((tmp_path / "scores/fuzz/layers.9--mlp_latent3.txt").read_text())
    assert [row["correct"] for row in rows] == [True, False, None, True, True]
    assert [row["distance"] for row in rows] == [1, 10, 5, -1, -1]
    assert set(rows[0]) == {
        "str_tokens",
        "activations",
        "distance",
        "activating",
        "prediction",
        "probability",
        "correct",
    }
    assert not list(tmp_path.rglob("*.part"))


def test_a_delphi_folder_is_read(tmp_path: Path) -> None:
    """Written by hand, as delphi 0.1 does."""
    (tmp_path / "explanations").mkdir()
    (tmp_path / "scores/detection").mkdir(parents=True)
    for latent, text in ((7, "Dates"), (12, "Kings \u2014 \u00e9")):
        name = f"layers.9_latent{latent}.txt"
        (tmp_path / "explanations" / name).write_text(json.dumps(text))
    example = {"str_tokens": ["a", "b"], "activations": [0, 1], "distance": 3, "probability": 0.9}
    rows = [
        {**example, "activating": True, "prediction": True, "correct": True},
        {**example, "activating": True, "prediction": 0, "correct": False},
        {**example, "activating": False, "prediction": False, "correct": True, "distance": -1},
        {**example, "activating": False, "prediction": None, "correct": None, "distance": 0.25},
    ]
    (tmp_path / "scores/detection/layers.9_latent7.txt").write_text(json.dumps(rows))
    first, second = import_delphi(tmp_path)
    assert (first.feature, second.feature) == (7, 12)
    assert second.explanations[0] == ExplanationRecord("Kings \u2014 \u00e9", method="delphi")
    [score] = first.explanations[0].scores
    assert score.scorer == "detection"
    assert [each.answer for each in score.judged] == [True, False, False, None]
    assert [each.stratum for each in score.judged] == [3, 3, -1, -1]
    assert score.judged[0].tokens == ("a", "b")
    assert score.balanced_accuracy == pytest.approx(0.75)  # (1/2 + 1/1) / 2


def test_a_round_trip_by_delphi_keeps_texts_and_judgements(tmp_path: Path) -> None:
    records = [record(i, f"text {i}") for i in (2, 0, 10)]
    export_delphi(tmp_path, records, "layers.9")
    imported = list(import_delphi(tmp_path))
    assert [each.feature for each in imported] == [0, 2, 10]
    by_feature = {each.feature: each.explanations[0] for each in records}
    for each in imported:
        explanation, wanted = each.explanations[0], by_feature[each.feature]
        assert (explanation.text, explanation.scores) == (wanted.text, wanted.scores)


def test_several_hookpoints_have_to_be_told_apart(tmp_path: Path) -> None:
    export_delphi(tmp_path, [record(1)], "layers.1")
    export_delphi(tmp_path, [record(2)], "layers.2")
    with pytest.raises(DataError, match=r"2 hookpoints.*layers\.1, layers\.2"):
        list(import_delphi(tmp_path))
    assert [each.feature for each in import_delphi(tmp_path, "layers.2")] == [2]


@pytest.mark.parametrize("name", ["", "..", "../../x", ".hidden", "a b", "x" * 101, "nul\0"])
def test_a_hookpoint_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no name of a hookpoint"):
        export_delphi(tmp_path, [record(1)], name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("what", "content", "words"),
    [
        ("explanations/m_latent1.txt", "{", "is not JSON"),
        ("explanations/m_latent1.txt", "5", "is no text"),
        ("explanations/m_latent999999999.txt", '"x"', "no feature's index"),
        ("scores/detection/m_latent1.txt", "{}", "is no list"),
        ("scores/detection/m_latent1.txt", "[5]", "does not say whether"),
        ("scores/detection/m_latent1.txt", '[{"activating": 1}]', "does not say whether"),
        (
            "scores/detection/m_latent1.txt",
            '[{"activating": true, "prediction": "yes"}]',
            "neither true nor false",
        ),
        ("scores/detection/m_latent1.txt", '[{"activating": true, "x": NaN}]', "NaN is no number"),
        ("scores/detection/m_latent1.txt", "[" * 100_000, "is not JSON"),
    ],
)
def test_delphi_files_of_another_form_are_refused(
    tmp_path: Path, what: str, content: str, words: str
) -> None:
    (tmp_path / "explanations").mkdir()
    (tmp_path / "scores/detection").mkdir(parents=True)
    (tmp_path / "explanations/m_latent1.txt").write_text('"fine"')
    (tmp_path / what).write_text(content)
    with pytest.raises(DataError, match=words):
        list(import_delphi(tmp_path))


def test_scorers_with_other_rows_are_left_alone(tmp_path: Path) -> None:
    export_delphi(tmp_path, [record(1)], "layers.1")
    (tmp_path / "scores/simulation").mkdir()
    (tmp_path / "scores/simulation/layers.1_latent1.txt").write_text('[{"ev_correlation": 0.5}]')
    [records] = import_delphi(tmp_path)
    assert [score.scorer for score in records.explanations[0].scores] == ["fuzzing"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text('"secret"')
    export_delphi(tmp_path / "in", [record(1)], "m")
    (tmp_path / "in/explanations/m_latent2.txt").symlink_to(outside)
    (tmp_path / "in/scores/fuzz/m_latent1.txt").unlink()
    (tmp_path / "in/scores/fuzz/m_latent1.txt").symlink_to(outside)
    [records] = import_delphi(tmp_path / "in")
    assert (records.feature, records.explanations[0].scores) == (1, ())


def test_a_scorers_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    bad = ExplanationRecord("x", scores=(ScoreRecord("../../x", ()),))
    with pytest.raises(DataError, match="no name of a scorer"):
        export_delphi(tmp_path / "in", [FeatureRecord(1, explanations=(bad,))], "m")


def test_what_is_no_number_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finite number"):
        export_neuronpedia(tmp_path, [FeatureRecord(1, density=float("nan"))], "m", "s")


def test_an_empty_folder_is_no_results(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no explanations of delphi's"):
        list(import_delphi(tmp_path))
    with pytest.raises(DataError, match="no batches"):
        list(import_neuronpedia(tmp_path))


# -------------------------------------------------------------------- Neuronpedia
def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_neuronpedia_gets_its_fields(tmp_path: Path) -> None:
    export_neuronpedia(tmp_path, [record(3)], "gpt2-small", "9-res-jb", "someone", NOW)
    [feature] = lines(tmp_path / "features/batch-0.jsonl.gz")
    assert (feature["modelId"], feature["layer"], feature["index"]) == (
        "gpt2-small",
        "9-res-jb",
        "3",
    )
    assert (feature["frac_nonzero"], feature["maxActApprox"]) == (0.125, 9.5)
    assert (feature["pos_str"], feature["neg_values"]) == ([" king", " qu\u00e9"], [-1.5])
    top, weak = lines(tmp_path / "activations/batch-0.jsonl.gz")
    assert (top["maxValue"], top["maxValueTokenIndex"], top["binContains"]) == (9.5, 1, -1)
    assert (weak["binMin"], weak["binContains"]) == (0, 0)
    [explanation] = lines(tmp_path / "explanations/batch-0.jsonl.gz")
    assert (explanation["description"], explanation["explanationModelName"]) == (
        "Names of kings",
        "judge",
    )
    assert len({top["id"], weak["id"], explanation["id"]}) == 3


def test_a_round_trip_by_neuronpedia_keeps_all_but_scores(tmp_path: Path) -> None:
    records = [record(i, f"text {i}") for i in range(300)]
    assert export_neuronpedia(tmp_path, records, "m", "s", now=NOW) == 300
    assert len(list((tmp_path / "features").iterdir())) == 3
    bare = [
        FeatureRecord(
            **{
                **vars(each),
                "explanations": tuple(
                    ExplanationRecord(explanation.text, explanation.author, explanation.method)
                    for explanation in each.explanations
                ),
            }
        )
        for each in records
    ]
    assert list(import_neuronpedia(tmp_path)) == bare


def test_the_same_records_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        export_neuronpedia(tmp_path / name, [record(i) for i in range(5)], "m", "s", now=NOW)
    for path in (tmp_path / "one").rglob("*.gz"):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == other.read_bytes()


WORDS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["\0", "nul\0l", "\ud800", "half\udfff", "\U0001f451\r\n", "\u2028", "\x7f"]),
)
"""Any text that JSON has: NUL, halves of surrogate pairs, emoji, line ends."""
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(WORDS, min_size=1, max_size=4),
    windows=st.lists(
        st.tuples(st.lists(st.tuples(WORDS, NUMBERS), min_size=1, max_size=6), st.booleans()),
        max_size=3,
    ),
    feature=st.integers(0, 10**7),
)
def test_whatever_is_written_is_read(
    tmp_path: Path, texts: list[str], windows: list[Any], feature: int
) -> None:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    examples = tuple(
        ExampleRecord(tuple(w for w, _ in part), tuple(v for _, v in part), 0, 2 if low else None)
        for part, low in windows
    )
    explanations = tuple(ExplanationRecord(text) for text in texts)
    made = FeatureRecord(feature, explanations=explanations, examples=examples)
    export_neuronpedia(folder / "np", [made], "m", "s")
    assert list(import_neuronpedia(folder / "np")) == [made]
    export_delphi(folder / "delphi", [made], "layers.0")
    [again] = import_delphi(folder / "delphi")
    assert (again.feature, again.explanations[0].text) == (feature, texts[0])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.booleans(), st.none() | st.booleans(), st.lists(WORDS, max_size=3)),
        min_size=1,
        max_size=5,
    )
)
def test_delphis_judgements_are_read_as_they_were(tmp_path: Path, rows: list[Any]) -> None:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    judged = tuple(
        JudgedRecord(truth, answer, 1 + number % 10 if truth else -1, tuple(tokens))
        for number, (truth, answer, tokens) in enumerate(rows)
    )
    explanation = ExplanationRecord(
        "Kings", method="delphi", scores=(ScoreRecord("fuzzing", judged),)
    )
    export_delphi(folder, [FeatureRecord(1, explanations=(explanation,))], "layers.0")
    [again] = import_delphi(folder)
    assert again.explanations == (explanation,)


def test_numbers_as_other_tools_write_them(tmp_path: Path) -> None:
    (tmp_path / "explanations").mkdir()
    (tmp_path / "scores/detection").mkdir(parents=True)
    (tmp_path / "explanations/m_latent1.txt").write_text('"Kings"')
    row = {"activating": True, "prediction": 1.0, "distance": 3.0, "extra": None}
    (tmp_path / "scores/detection/m_latent1.txt").write_text(json.dumps([row]))
    [records] = import_delphi(tmp_path)
    assert records.explanations[0].scores[0].judged == (JudgedRecord(True, True, 3),)
    (tmp_path / "features").mkdir()
    line = b'{"index": 7.0, "frac_nonzero": null, "maxActApprox": 3, "pos_str": null, "x": [1]}'
    (tmp_path / "features/batch-0.jsonl").write_bytes(line)
    [feature] = import_neuronpedia(tmp_path)
    assert (feature.feature, feature.max_activation) == (7, 3.0)


def test_a_hookpoint_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    export_delphi(tmp_path, [record(3)], "layers.9")
    assert len(list(import_delphi(tmp_path, "layers.9"))) == 1
    with pytest.raises(DataError, match=r"no explanations of the hookpoint 'layers\.8'.*layers\.9"):
        list(import_delphi(tmp_path, "layers.8"))


@pytest.mark.parametrize(
    ("kind", "line", "words"),
    [
        ("features", b"{", "line 1 is not JSON"),
        ("features", b"[]", "line 1 is no object"),
        ("features", b'{"index": -1}', "no feature's index"),
        ("features", b'{"index": "1000000000"}', "no feature's index"),
        ("features", b'{"index": true}', "no feature's index"),
        ("features", b'{"index": "../1"}', "no feature's index"),
        ("features", b'{"index": 1, "frac_nonzero": "x"}', "frac_nonzero is no number"),
        ("features", b'{"index": 1, "frac_nonzero": Infinity}', "Infinity is no number"),
        ("features", b'{"index": 1, "frac_nonzero": ' + b"9" * 400 + b"}", "no number"),
        ("features", b'{"index": 1, "pos_str": ["a"], "pos_values": []}', "differ in length"),
        ("explanations", b'{"index": 1}', "description is no text"),
        ("activations", b'{"index": 1, "tokens": ["a"], "values": [1, 2]}', "differ in length"),
        ("activations", b'{"index": 1, "tokens": "a", "values": [1]}', "tokens is no list"),
        ("activations", b"\xff\xfe", "is not JSON"),
    ],
)
def test_rows_of_another_form_are_refused(
    tmp_path: Path, kind: str, line: bytes, words: str
) -> None:
    (tmp_path / kind).mkdir()
    (tmp_path / kind / "batch-0.jsonl.gz").write_bytes(gzip.compress(line + b"\n"))
    with pytest.raises(DataError, match=words):
        list(import_neuronpedia(tmp_path))


def test_a_file_that_is_cut_off_or_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_neuronpedia(tmp_path, [record(i) for i in range(50)], "m", "s")
    path = tmp_path / "features/batch-0.jsonl.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match="damaged or cut off"):
        list(import_neuronpedia(tmp_path))
    path.write_bytes(b"no gzip at all")
    with pytest.raises(DataError, match="damaged or cut off"):
        list(import_neuronpedia(tmp_path))
    monkeypatch.setattr(files, "MOST_BYTES", 10_000)
    path.write_bytes(gzip.compress((b'{"index": 1}' + b" " * 900 + b"\n") * 50))
    with pytest.raises(DataError, match="unpacks to more"):
        list(import_neuronpedia(tmp_path))
    monkeypatch.setattr(files, "LONGEST_LINE", 100)
    path.write_bytes(gzip.compress(b'{"index": 1}' + b" " * 900 + b"\n"))
    with pytest.raises(DataError, match="line 1 is longer"):
        list(import_neuronpedia(tmp_path))


def test_many_features_are_never_held_at_once(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        made = (record(i, f"text {i}") for i in range(5_000))
        assert export_neuronpedia(tmp_path, made, "m", "s", now=NOW) == 5_000
        assert sum(1 for _ in import_neuronpedia(tmp_path)) == 5_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * 2**20, f"{peak / 2**20:.0f} MB"


def test_delphis_own_loader_reads_it(tmp_path: Path) -> None:
    """Where delphi is installed."""
    loader = pytest.importorskip("delphi.log.result_analysis", exc_type=ImportError)
    export_delphi(tmp_path, [record(3)], "layers.9")
    latents, _ = loader.load_data(tmp_path / "scores", ["layers.9"])
    assert sorted(latents.correct.dropna().tolist()) == [False, True, True, True]
