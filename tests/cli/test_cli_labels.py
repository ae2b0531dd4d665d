"""Explanations given, listed and exchanged with other tools, against the served API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from typer.testing import CliRunner

from monosemy.data.token_bytes import TokenBytes
from monosemy.interchange.delphi import export_delphi, import_delphi
from monosemy.interchange.neuronpedia import export_neuronpedia, import_neuronpedia
from monosemy.interchange.records import ExplanationRecord, FeatureRecord
from service.cli.main import app
from service.database.judge_tables import JudgeCall
from service.database.session import transaction
from service.database.tables import Explanation, Model, Score
from tests.support.library_rows import Library, add_explanation, add_library

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    return ended.stdout if code == 0 else ended.stderr


@pytest.fixture
def explained(module_engine: Engine, library: Library) -> Library:
    with transaction(module_engine) as session:
        session.query(Explanation).delete()
        for feature in (1, 2, 5):
            add_explanation(session, library, feature, "kings", f"Names of kings {feature}.", 0.8)
    return library


def test_an_explanation_is_given_listed_voted_on_and_deleted(explained: Library) -> None:
    identity = call("explanation", "add", "demo", "7", "Words for horses", "--label", "horses")
    shown = call("explanation", "list", "demo", "7")
    assert "horses" in shown and "Words for horses" in shown and "human" in shown
    assert call("explanation", "vote", identity.strip(), "--", "-1").strip() == "+0 -1"
    call("explanation", "delete", identity.strip())
    assert call("explanation", "list", "demo", "7") == ""
    assert "no explanation" in call("explanation", "delete", identity.strip(), code=4)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (
            ("explain", "demo", "3", "17", "--explainer", "contrastive", "--budget", "2.5"),
            {
                "kind": "explain",
                "explanation.explainer": "contrastive",
                "explanation.features.indices": [3, 17],
                "explanation.judge.budget": 2.5,
            },
        ),
        (("explain", "demo", "--count", "9"), {"explanation.features.count": 9}),
        (("explain", "demo", "--dry-run"), {"dry_run": True}),
        (
            ("score", "demo", "4", "--scorer", "fuzzing", "--half-width", "0.1"),
            {
                "kind": "score",
                "features": [4],
                "scoring.scorer": "fuzzing",
                "scoring.half_width": 0.1,
            },
        ),
        (("score", "demo", "--set", "scoring.positives=7"), {"scoring.positives": 7}),
    ],
)
def test_runs_are_what_was_asked_for(
    explained: Library, arguments: tuple[str, ...], wanted: dict[str, object]
) -> None:
    run = json.loads(call(*arguments, "--no-watch", "--json"))
    for path, value in wanted.items():
        option = run["spec"]
        for part in path.split("."):
            option = option[part]
        assert option == value, path


def test_bad_requests_are_one_line(explained: Library) -> None:
    assert "scoring.scorer" in call("score", "demo", "--scorer", "magic", code=2)
    assert "no SAE 'nobody'" in call("explain", "nobody", "--no-watch", code=2)


def test_the_ledger_is_shown(explained: Library, module_engine: Engine) -> None:
    with transaction(module_engine) as session:
        session.add(JudgeCall(purpose="detection", model="m", state="answered", cost=0.25))
    shown = call("spend", "--by", "purpose")
    assert "detection" in shown and "0.2500" in shown and "all" in shown


def test_a_report_is_written(explained: Library, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    call("report", "demo", "--to", str(page))
    assert "Names of kings" in page.read_text()


@pytest.mark.parametrize("layout", ["delphi", "neuronpedia"])
def test_explanations_leave_and_arrive(
    explained: Library, module_engine: Engine, tmp_path: Path, layout: str
) -> None:
    out = tmp_path / "out"
    call("labels", "export", "demo", "--format", layout, "--to", str(out))
    read = import_delphi if layout == "delphi" else import_neuronpedia
    records = list(read(out))
    assert [each.feature for each in records] == [1, 2, 5]
    assert [each.explanations[0].text for each in records] == [
        f"Names of kings {feature}." for feature in (1, 2, 5)
    ]
    if layout == "neuronpedia":
        assert records[0].examples[0].activations[1] > 0
    with transaction(module_engine) as session:
        session.query(Explanation).delete()
    for _ in range(2):  # the second time nothing is added
        call("labels", "import", "demo", "--format", layout, "--from", str(out))
        with transaction(module_engine) as session:
            rows = session.scalars(select(Explanation).order_by(Explanation.feature)).all()
            assert [(row.feature, row.explainer) for row in rows] == [
                (1, "human"),
                (2, "human"),
                (5, "human"),
            ]
    full = call("labels", "export", "demo", "--format", layout, "--to", str(out), code=1)
    assert "holds files already" in full


def test_delphis_judgements_come_with_its_explanations(
    explained: Library, module_engine: Engine, tmp_path: Path
) -> None:
    name = "layers.2_latent2.txt"
    judged = [
        {"activating": i < 10, "prediction": (i < 8) if i < 10 else i < 13, "distance": 1 + i % 10}
        for i in range(20)
    ]
    for folder, rows in (
        ("explanations", "Kings of old."),
        ("scores/detection", judged),
        ("scores/fuzz", judged[:15]),
    ):
        path = tmp_path / "in" / folder / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(rows))
    for _ in range(2):
        call("labels", "import", "demo", "--format", "delphi", "--from", str(tmp_path / "in"))
    with transaction(module_engine) as session:
        query = select(Score).join(Explanation).where(Explanation.text == "Kings of old.")
        scores = {score.scorer: (score.value, score.n) for score in session.scalars(query)}
        session.query(Explanation).filter(Explanation.text != "Kings of old.").delete()
    assert scores == {
        "detection:delphi": (pytest.approx((0.8 + 0.7) / 2), 20),
        "fuzzing:delphi": (pytest.approx((0.8 + 0.4) / 2), 15),
    }
    call("labels", "export", "demo", "--format", "delphi", "--to", str(tmp_path / "out"))
    (again,) = import_delphi(tmp_path / "out")
    (before,) = import_delphi(tmp_path / "in")
    assert again.explanations[0].text == "Kings of old."
    for one, other in zip(again.explanations[0].scores, before.explanations[0].scores, strict=True):
        assert one.balanced_accuracy == other.balanced_accuracy
        assert sorted(each.stratum for each in one.judged) == sorted(
            each.stratum for each in other.judged
        )


def test_what_is_no_export_is_refused(explained: Library, tmp_path: Path) -> None:
    output = call("labels", "import", "demo", "--format", "delphi", "--from", str(tmp_path), code=1)
    assert "holds no explanations of delphi's" in output


def said(feature: int, text: str) -> FeatureRecord:
    return FeatureRecord(feature, explanations=(ExplanationRecord(text),))


def texts_of(engine: Engine) -> dict[int, str]:
    with transaction(engine) as session:
        return {row.feature: row.text for row in session.scalars(select(Explanation))}


def written(tmp_path: Path, layout: str, *records: FeatureRecord) -> tuple[str, ...]:
    folder = tmp_path / "in"
    if layout == "delphi":
        export_delphi(folder, records, "layers.2")
    else:
        export_neuronpedia(folder, records, "m", "s")
    return ("labels", "import", "demo", "--format", layout, "--from", str(folder))


@pytest.mark.parametrize("layout", ["delphi", "neuronpedia"])
def test_an_import_that_does_not_fit_stores_nothing(
    explained: Library, module_engine: Engine, tmp_path: Path, layout: str
) -> None:
    before = texts_of(module_engine)
    records = [said(feature, f"New {feature}") for feature in (3, 4, 60, 61)]
    output = call(*written(tmp_path, layout, *records), code=1)
    assert "60 features, so none is 60, 61: 2 of the folder's 4" in output
    assert texts_of(module_engine) == before


@pytest.mark.parametrize("layout", ["delphi", "neuronpedia"])
def test_a_damaged_row_at_the_end_stores_nothing(
    explained: Library, module_engine: Engine, tmp_path: Path, layout: str
) -> None:
    before = texts_of(module_engine)
    command = written(tmp_path, layout, *(said(feature, "New") for feature in (3, 4)))
    broken = {"delphi": "layers.2_latent5.txt", "neuronpedia": "batch-9.jsonl"}[layout]
    (tmp_path / "in/explanations" / broken).write_text('{"index": 5}')
    assert "is no text" in call(*command, code=1)
    assert texts_of(module_engine) == before


@pytest.mark.parametrize("layout", ["delphi", "neuronpedia"])
def test_what_a_database_does_not_store_is_replaced(
    explained: Library, module_engine: Engine, tmp_path: Path, layout: str
) -> None:
    odd = "Kings\0 and half\ud800 queens \U0001f451\nof old"
    call(*written(tmp_path, layout, said(3, odd)))
    assert texts_of(module_engine)[3] == "Kings\ufffd and half\ufffd queens \U0001f451 of old"


def test_an_import_of_nothing_is_no_success(explained: Library, tmp_path: Path) -> None:
    output = call(*written(tmp_path, "neuronpedia", FeatureRecord(3), said(4, " \n")), code=1)
    assert "holds no explanation, but 1 empty ones" in output


@pytest.mark.parametrize("layout", ["delphi", "neuronpedia"])
def test_an_export_of_nothing_leaves_nothing(
    explained: Library, module_engine: Engine, tmp_path: Path, layout: str
) -> None:
    with transaction(module_engine) as session:
        session.query(Explanation).delete()
    command = ("labels", "export", "demo", "--format", layout, "--to", str(tmp_path / "out"))
    assert "explain its features first" in call(*command, code=1)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_leaves_nothing(explained: Library, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()  # empty: it may be there
    command = ("labels", "export", "demo", "--format", "delphi", "--to", str(out))
    call(*command, "--source", "../../x", code=1)
    assert list(tmp_path.iterdir()) == [out] and list(out.iterdir()) == []
    call(*command)
    assert len(list(import_delphi(out))) == 3


def test_tokens_with_nul_leave_and_arrive(
    explained: Library, module_engine: Engine, tmp_path: Path
) -> None:
    with transaction(module_engine) as session:
        made = add_library(session, "nul")
        model = session.get_one(Model, made.model)
        model.token_bytes = TokenBytes([b"a\0", *[b"\0"] * 8]).pack()
        add_explanation(session, made, 1, "kings", "Names of kings.", 0.8)
    out = tmp_path / "out"
    call("labels", "export", "nul", "--format", "neuronpedia", "--to", str(out))
    records = list(import_neuronpedia(out))
    assert any("\0" in token for each in records[0].examples for token in each.tokens)
    call("labels", "import", "nul", "--format", "neuronpedia", "--from", str(out))
