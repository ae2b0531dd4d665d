"""A person's detection test: a judge's texts, the truth at the end, the library's interval."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from monosemy.client import Client
from monosemy.data.store import TokenStore
from monosemy.index.reader import IndexReader
from monosemy.interp.scorers.balanced_accuracy import balanced_accuracy
from monosemy.interp.scorers.base import judgement_of
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.interp.scorers.result import Judgement
from monosemy.interp.texts import FeatureTexts
from monosemy.interp.tiers import ACTIVATING, RANDOM
from monosemy.specs.scorers import DetectionScoring
from service.app import create_app
from service.cli.main import app
from service.database.session import transaction
from service.database.tables import Explanation, Sae, Score
from service.keys.service import create_key
from service.settings import Settings
from tests.support.library_rows import Library, add_explanation
from tests.support.planted_index import random_text
from tests.support.served import served

pytestmark = pytest.mark.integration

API = "/api/v1"
FEATURE = 7


@pytest.fixture
def texts(settings: Settings, engine: Engine, library: Library) -> FeatureTexts:
    """The index of the SAE ``demo`` lies where the service looks for it."""
    path = random_text(n_documents=120).write(settings.artifacts)
    with transaction(engine) as session:
        sae = session.get_one(Sae, library.sae)
        sae.index = {**(sae.index or {}), "path": path}
    reader = IndexReader(settings.artifacts / path)
    return FeatureTexts(reader, TokenStore.open(settings.artifacts / "text" / reader.text_id))


@pytest.fixture
def explanation(engine: Engine, library: Library, texts: FeatureTexts) -> Iterator[str]:
    with transaction(engine) as session:
        made = add_explanation(
            session, library, FEATURE, "kings", "Words for kings.", key=uuid.uuid4().hex
        )
    yield str(made)
    with transaction(engine) as session:
        session.execute(text("DELETE FROM explanations"))


def begin(client: TestClient, explanation: str, status: int = 201, **body: Any) -> Any:
    answer = client.post(f"{API}/explanations/{explanation}/sittings", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def say(client: TestClient, sitting: str, number: int, answer: bool | None) -> Any:
    put = client.put(f"{API}/sittings/{sitting}/answers/{number}", json={"answer": answer})
    assert put.status_code == 200, put.text
    return put.json()


def end(client: TestClient, sitting: str, status: int = 201) -> Any:
    answer = client.post(f"{API}/sittings/{sitting}/score")
    assert answer.status_code == status, answer.text
    return answer.json()


def drawn(texts: FeatureTexts, seed: int, positives: int = 10, negatives: int = 10) -> Any:
    spec = DetectionScoring(positives=positives, negatives=negatives, seed=seed)
    return texts.to_score(FEATURE, spec, (RANDOM,)).with_tiers()


def judged(engine: Engine, library: Library, texts: FeatureTexts, explanation: str) -> str:
    """A judge's score under the defaults, as workers store it."""
    judgements = [judgement_of(tier, each, answer=True) for tier, each in drawn(texts, 0)]
    with transaction(engine) as session:
        score = Score(
            sae_id=library.sae,
            explanation_id=uuid.UUID(explanation),
            scorer="detection",
            key=uuid.uuid4().hex,
            metric="balanced_accuracy",
            value=0.5,
            low=0.3,
            high=0.7,
            n=20,
            n_failed=0,
            baseline=0.5,
            details={
                "judgements": [each.as_dict() for each in judgements],
                "parameters": {"texts_per_call": 5, "seed": 0, "radius": 16},
            },
            judge="judge",
        )
        session.add(score)
        session.flush()
        return str(score.id)


def test_the_texts_are_those_of_the_scorer_and_the_truth_comes_last(
    client: TestClient, explanation: str, texts: FeatureTexts
) -> None:
    sitting = begin(client, explanation)
    shown = [each["text"] for each in sitting["texts"]]
    examples = drawn(texts, 1000)
    assert sorted(shown) == sorted(each.cropped(16).text for _, each in examples)
    assert shown != [each.cropped(16).text for _, each in examples]  # their order says nothing
    assert sitting["explanation"] == "Words for kings."
    assert {each["truth"] for each in sitting["texts"]} == {None}
    assert {each["stratum"] for each in sitting["texts"]} == {None}
    assert {each["judged"] for each in sitting["texts"]} == {None}
    for number in range(len(shown)):
        say(client, sitting["id"], number, number % 2 == 0)
        kept = client.get(f"{API}/sittings/{sitting['id']}").json()
        assert {each["truth"] for each in kept["texts"]} == {None}
        assert kept["answered"] == number + 1
    end(client, sitting["id"])
    shown_texts = client.get(f"{API}/sittings/{sitting['id']}").json()["texts"]
    activating = {each.cropped(16).text for tier, each in examples if tier == ACTIVATING}
    assert [each["truth"] for each in shown_texts] == [text in activating for text in shown]
    assert all((each["stratum"] is not None) == each["truth"] for each in shown_texts)


def test_human_judge_score_has_the_librarys_interval(
    client: TestClient, explanation: str, texts: FeatureTexts
) -> None:
    """Documents are clusters and failed texts are counted, as for a judge."""
    sitting = begin(client, explanation)
    answers = [None if n % 7 == 3 else n % 3 != 0 for n in range(len(sitting["texts"]))]
    for number, answer in enumerate(answers):
        say(client, sitting["id"], number, answer)
    score = end(client, sitting["id"])
    by_text = {each.cropped(16).text: (tier, each) for tier, each in drawn(texts, 1000)}
    judgements: list[Judgement] = []
    for shown, answer in zip(sitting["texts"], answers, strict=True):
        tier, example = by_text[shown["text"]]
        judgements.append(judgement_of(tier, example, answer=answer))
    wanted = balanced_accuracy(judgements, DetectionScorer.headline)
    assert (score["value"], score["low"], score["high"]) == (wanted.value, wanted.low, wanted.high)
    assert score["n"] == sum(answer is not None for answer in answers)
    assert score["n_failed"] == answers.count(None)
    assert (score["scorer"], score["judge"]) == ("detection:human", "")
    details = score["details"]
    assert details["confusion"] == wanted.details["confusion"]
    assert details["recall_by_group"] == wanted.details["recall_by_group"]
    assert details["worst_case"] == wanted.worst_case
    assert details["imported"]["source"] == "human"
    assert 0 <= details["natural_precision"]["low"] <= details["natural_precision"]["high"] <= 1
    assert end(client, sitting["id"])["id"] == score["id"]
    listed = client.get(f"{API}/explanations/{explanation}").json()["scores"]
    assert [each["id"] for each in listed] == [score["id"]]


def test_a_judges_very_texts_are_asked_again_once(
    client: TestClient, engine: Engine, library: Library, explanation: str, texts: FeatureTexts
) -> None:
    like = judged(engine, library, texts, explanation)
    sitting = begin(client, explanation, like=like)
    assert sitting["like"] == like
    shown = sorted(each["text"] for each in sitting["texts"])
    assert shown == sorted(each.cropped(16).text for _, each in drawn(texts, 0))
    assert begin(client, explanation, 200)["id"] == sitting["id"]  # the open one goes on
    say(client, sitting["id"], 0, True)
    end(client, sitting["id"])
    told = client.get(f"{API}/sittings/{sitting['id']}").json()["texts"]
    assert {each["judged"] for each in told} == {True} != {each["answer"] for each in told}
    known = begin(client, explanation, 409, like=like)
    assert known["type"].endswith(":texts-known")
    others = begin(client, explanation)
    assert others["like"] is None and sorted(each["text"] for each in others["texts"]) != shown


def test_texts_of_a_score_that_are_gone_are_not_made_up(
    client: TestClient, engine: Engine, library: Library, explanation: str, texts: FeatureTexts
) -> None:
    like = judged(engine, library, texts, explanation)
    with transaction(engine) as session:
        score = session.query(Score).filter_by(id=uuid.UUID(like)).one()
        first, *rest = score.details["judgements"]
        score.details = {**score.details, "judgements": [{**first, "row": 10**6}, *rest]}
    gone = begin(client, explanation, 409, like=like)
    assert gone["type"].endswith(":texts-gone")
    assert begin(client, explanation, 422, like=str(uuid.uuid4()))["errors"][0]["path"] == "like"


def test_answers_can_be_taken_back_until_the_end(client: TestClient, explanation: str) -> None:
    sitting = begin(client, explanation, positives=3, negatives=3)["id"]
    assert end(client, sitting, 409)["type"].endswith(":nothing-answered")
    assert say(client, sitting, 2, True) == {"number": 2, "answered": 1, "total": 6}
    assert say(client, sitting, 2, False)["answered"] == 1
    assert client.delete(f"{API}/sittings/{sitting}/answers/2").json()["answered"] == 0
    assert say(client, sitting, 4, None)["answered"] == 1
    assert end(client, sitting, 409)["type"].endswith(":nothing-answered")
    say(client, sitting, 5, True)
    assert end(client, sitting)["n_failed"] == 5
    for how in ("put", "delete"):
        url = f"{API}/sittings/{sitting}/answers/1"
        late = client.request(how, url, json={"answer": True} if how == "put" else None)
        assert late.status_code == 409 and late.json()["type"].endswith(":sitting-ended")
    assert client.delete(f"{API}/sittings/{sitting}").status_code == 409


@pytest.mark.parametrize("body", [{}, {"answer": "yes"}, {"answer": 1}, {"answer": True, "x": 1}])
def test_answers_of_another_form_are_refused(
    client: TestClient, explanation: str, body: Any
) -> None:
    sitting = begin(client, explanation)["id"]
    assert client.put(f"{API}/sittings/{sitting}/answers/0", json=body).status_code == 422
    missing = client.put(f"{API}/sittings/{sitting}/answers/500", json={"answer": True})
    assert missing.status_code == 404
    assert client.get(f"{API}/sittings/{sitting}").json()["answered"] == 0


def test_a_feature_that_never_fires_and_files_that_are_away_say_so(
    client: TestClient, engine: Engine, library: Library, explanation: str
) -> None:
    with transaction(engine) as session:
        session.get_one(Explanation, (library.sae, uuid.UUID(explanation))).feature = 0
    few = begin(client, explanation, 409)
    assert few["type"].endswith(":too-few-texts") and "0" in few["detail"]
    with transaction(engine) as session:
        sae = session.get_one(Sae, library.sae)
        sae.index = {**(sae.index or {}), "path": "indexes/none"}
    away = begin(client, explanation, 404)
    assert "share their artifact folder" in away["detail"]


def test_each_key_sits_for_itself(
    settings: Settings, engine: Engine, explanation: str, texts: FeatureTexts
) -> None:
    from pydantic import SecretStr

    secret = "a-secret-of-thirty-two-characters"
    asked = settings.model_copy(update={"require_keys": True, "secret": SecretStr(secret)})
    with transaction(engine) as session:
        keys = [create_key(session, name, ["run"], secret) for name in ("first", "second")]
    with TestClient(create_app(asked), base_url="http://127.0.0.1:8420") as client:
        path = f"{API}/explanations/{explanation}/sittings"
        first, second = (
            client.post(path, json={}, headers={"X-API-Key": key}).json() for key in keys
        )
        assert first["id"] != second["id"] and first["taker"] != second["taker"]
        assert [each["text"] for each in first["texts"]] == [
            each["text"] for each in second["texts"]
        ]  # so that they can be compared
        theirs = client.put(
            f"{API}/sittings/{first['id']}/answers/0",
            json={"answer": True},
            headers={"X-API-Key": keys[1]},
        )
        assert theirs.status_code == 403


def test_by_client_and_by_command_line(
    settings: Settings, explanation: str, texts: FeatureTexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(create_app(settings)) as address:
        with Client(address) as caller:
            sitting = caller.sittings.begin(explanation, positives=2, negatives=2)
            assert len(sitting.texts) == 4
            assert caller.sittings.answer(sitting, 0, True).answered == 1
            caller.sittings.take_back(sitting, 0)
            assert caller.sittings.get(sitting).answered == 0
            assert caller.sittings.agreement("sittings").pairs == []
        monkeypatch.setenv("MONOSEMY_URL", address)
        command = ["explanation", "judge", explanation]
        stopped = CliRunner().invoke(app, command, input="y\nq\n")
        assert stopped.exit_code == 0 and "stored" in stopped.output, stopped.output
        # The second again after it was answered, one skipped; what is no key asks once more.
        ended = CliRunner().invoke(app, command, input="n\nu\ny\n?\ns\nn\n")
        assert ended.exit_code == 0 and "detection:human" in ended.output, ended.output
        with Client(address) as caller:
            kept = caller.sittings.get(sitting)
            assert [each.answer for each in kept.texts] == [True, True, None, False]
            assert kept.score_id is not None
            score = caller.sittings.end(kept)
            assert (score.n, score.n_failed) == (3, 1)
        none = CliRunner().invoke(app, ["explanation", "agreement", "--of", "sittings"])
        assert none.exit_code == 0 and "No question" in none.output
