"""How far those who answered the same things agree."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from monosemy.interp.statistics.kappa import cohen_kappa
from service.database.labelling_tables import Sitting
from service.database.session import transaction
from service.database.tables import Score, Vote
from tests.support.gathered_rows import add_list
from tests.support.library_rows import Library, add_explanation

pytestmark = pytest.mark.integration

URL = "/api/v1/agreement"
FIRST, SECOND, THIRD = (str(uuid.UUID(int=number)) for number in (1, 2, 3))


@pytest.fixture
def explanations(engine: Engine, library: Library) -> Iterator[list[uuid.UUID]]:
    """Of the features 10 to 19."""
    with transaction(engine) as session:
        made = [
            add_explanation(session, library, feature, "a", f"about {feature}")
            for feature in range(10, 20)
        ]
    yield made
    with transaction(engine) as session:
        session.execute(text("DELETE FROM explanations"))
        session.execute(text("DELETE FROM feature_lists"))


def vote(engine: Engine, library: Library, voter: str, values: dict[uuid.UUID, int]) -> None:
    with transaction(engine) as session:
        session.add_all(
            Vote(sae_id=library.sae, explanation_id=explanation, voter=voter, value=value)
            for explanation, value in values.items()
        )


def asked(client: TestClient, **query: Any) -> Any:
    answer = client.get(URL, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_votes_of_two_keys(
    client: TestClient, engine: Engine, library: Library, explanations: list[uuid.UUID]
) -> None:
    ours = dict(zip(explanations, [1, 1, 1, -1, -1, 1, -1, 1, -1, 1], strict=True))
    theirs = {each: ours[each] * (-1 if number in (2, 5) else 1)
              for number, each in enumerate(explanations[:8])}  # fmt: skip
    vote(engine, library, FIRST, ours)
    vote(engine, library, SECOND, theirs)
    table = asked(client)
    assert [(each["name"], each["items"]) for each in table["raters"]] == [(FIRST, 10), (SECOND, 8)]
    (pair,) = table["pairs"]
    wanted = cohen_kappa([(ours[each] > 0, theirs[each] > 0) for each in theirs])
    assert (pair["kappa"], pair["low"], pair["high"]) == (wanted.value, wanted.low, wanted.high)
    assert pair["n"] == 8 and pair["observed"] == 0.75
    assert [pair[name] for name in ("both_yes", "first_only", "second_only", "neither")] == [
        3,
        2,
        0,
        3,
    ]


def test_only_of_an_sae_or_a_list(
    client: TestClient, engine: Engine, library: Library, explanations: list[uuid.UUID]
) -> None:
    for voter in (FIRST, SECOND):
        vote(engine, library, voter, dict.fromkeys(explanations, 1))
    with transaction(engine) as session:
        add_list(session, library, "four", [10, 11, 12, 13])
    assert asked(client, sae="demo")["pairs"][0]["n"] == 10
    (pair,) = asked(client, list="four")["pairs"]
    assert pair["n"] == 4 and pair["kappa"] is None  # both said one thing only
    assert client.get(URL, params={"list": "none"}).status_code == 404
    assert client.get(URL, params={"of": "tastes"}).status_code == 422


def test_nobody_and_too_many(
    client: TestClient, engine: Engine, library: Library, explanations: list[uuid.UUID]
) -> None:
    assert asked(client)["pairs"] == []
    for number in range(12):
        vote(engine, library, f"key {number:02}", {explanations[0]: 1})
    table = asked(client)
    assert len(table["raters"]) == 10 and table["left_out"] == 2
    assert len(table["pairs"]) == 45


def test_sittings_of_people_and_the_judge_whose_texts_they_had(
    client: TestClient, engine: Engine, library: Library, explanations: list[uuid.UUID]
) -> None:
    """What was skipped, and what has not ended, does not count."""
    questions = [
        {
            "text": f"text {number}",
            "row": number,
            "position": number,
            "document": number,
            "tier": "activating" if number < 4 else "random",
            "group": 0 if number < 4 else "random",
            "truth": number < 4,
            "answer": None,
        }
        for number in range(8)
    ]
    judged = [True, True, False, False, True, False, False, None]
    with transaction(engine) as session:
        score = Score(
            sae_id=library.sae,
            explanation_id=explanations[0],
            scorer="detection",
            key="j",
            metric="balanced_accuracy",
            value=0.5,
            low=0.2,
            high=0.8,
            n=7,
            n_failed=1,
            baseline=None,
            details={
                "judgements": [
                    {**each, "answer": answer}
                    for each, answer in zip(questions, judged, strict=True)
                ]
            },
            judge="llama",
        )
        session.add(score)
        session.flush()
        for taker, answers, ended in (
            (FIRST, [True, True, True, True, False, False, False, False], True),
            (SECOND, [True, None, True, False, False, False, True, False], True),
            (THIRD, [True] * 8, False),
        ):
            session.add(
                Sitting(
                    sae_id=library.sae,
                    explanation_id=explanations[0],
                    feature=10,
                    taker=taker,
                    parameters={"like": str(score.id)},
                    questions=questions,
                    answers={str(number): answer for number, answer in enumerate(answers)},
                    context_density=None,
                    score_id=uuid.uuid4() if ended else None,
                )
            )
    table = asked(client, of="sittings")
    raters = {(each["name"], each["judge"], each["items"]) for each in table["raters"]}
    assert raters == {(FIRST, False, 8), (SECOND, False, 7), ("llama", True, 7)}
    pairs = {(p["first"]["name"], p["second"]["name"]): p for p in table["pairs"]}
    assert pairs[FIRST, SECOND]["n"] == 7 and pairs[FIRST, "llama"]["n"] == 7
    both = [pairs[FIRST, SECOND][name] for name in ("both_yes", "first_only", "second_only")]
    assert both == [2, 1, 1]
