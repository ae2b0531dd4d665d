"""The judge's test tells judges of known skill apart, and costs what it says."""

from __future__ import annotations

import asyncio

import pytest

import monosemy
from monosemy import labels
from monosemy.errors import JudgeError
from monosemy.interp.judge_test.asking import ask_role, grade_explanations, key_of_test
from monosemy.interp.judge_test.concepts import TEXTS, concepts, material_digest
from monosemy.interp.judge_test.result import ROLES, Role, RoleTest
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.ledger import BudgetSpent, MemoryLedger
from monosemy.progress import SILENT
from monosemy.specs import JudgeSpec
from monosemy.specs.parts import PriceSpec
from tests.support.planted_judge import PlantedJudge
from tests.support.stub_server import Answer, Request, StubServer, good


def ask(stub: StubServer, spec: JudgeSpec | None = None) -> dict[Role, RoleTest]:
    async def both() -> dict[Role, RoleTest]:
        async with Judge(stub.url, None, "stub", spec or JudgeSpec(concurrency=8)) as judge:
            return {role: await ask_role(judge, role) for role in ROLES}

    return asyncio.run(both())


@pytest.mark.parametrize(
    ("mind", "explaining", "detecting"),
    [
        (PlantedJudge(), "good", "good"),
        (PlantedJudge(explains=0.45, detects=0.68), "weak", "weak"),
        (PlantedJudge(explains=0.0, detects=0.5), "chance", "chance"),
        (PlantedJudge(constant=True), "chance", "chance"),
        (PlantedJudge(explains=0.95, detects=0.5), "good", "chance"),
    ],
)
def test_judges_of_known_skill_are_told_apart(
    mind: PlantedJudge, explaining: str, detecting: str
) -> None:
    with StubServer(respond=mind) as stub:
        results = ask(stub)
        explained, detected = results["explaining"], results["detecting"]
    assert (explained.verdict, detected.verdict) == (explaining, detecting), results
    assert explained.n >= 40 and detected.n >= 40
    for test, skill in ((explained, mind.explains), (detected, mind.detects)):
        if not mind.constant:
            assert test.low <= skill <= test.high
        assert (test.warning() is None) == (test.verdict == "good")
        assert sum(each["n"] for each in test.families.values()) == test.n
        assert RoleTest.from_dict(test.as_dict()) == test
    assert explained.chance == 0.15 and detected.chance == 0.5
    assert len(stub.requests) == 60
    # And the one that finds out how the endpoint answers.
    assert explained.usage["calls"] + detected.usage["calls"] == 61


def test_one_answer_to_everything_gains_nothing() -> None:
    everything = " ".join(name.rstrip("*") for c in concepts() for name in c.names)
    listed = grade_explanations(concepts(), [everything] * len(concepts()))
    assert listed.accuracy == listed.chance == 1.0 and listed.verdict == "chance"
    assert listed.skill == 0.0
    one = grade_explanations(concepts(), [concepts()[3].description] * len(concepts()))
    assert one.verdict == "chance"
    repeated = [", ".join(c.marked()) for c in concepts()]
    parrot = grade_explanations(concepts(), repeated)
    assert parrot.accuracy == parrot.chance == 6 / 40 and parrot.verdict == "chance"
    silent = grade_explanations(concepts(), [None] * len(concepts()))
    assert silent.accuracy == 0.0 and silent.n_failed == 40 and silent.verdict == "chance"


def test_the_planted_texts_are_what_they_say() -> None:
    planted = concepts()
    assert len(planted) == 40 and len({c.name for c in planted}) == 40
    texts = [text for c in planted for text in c.texts]
    assert len(set(texts)) == len(texts) == 40 * TEXTS
    for concept in planted:
        assert concept.is_named(concept.description)
        assert concept.is_named(concept.names[0].rstrip("*").upper())
        assert not concept.is_named("Words that are of one particular kind.")
        if concept.family != "word":
            assert not concept.is_named(", ".join(concept.marked())), concept.name
        strangers = [c for c in planted if not set(c.names) & set(concept.names)]
        named = [c.name for c in strangers if concept.is_named(c.description)]
        assert len(named) <= 1, (concept.name, named)
    assert material_digest() == material_digest()


def test_a_judge_without_usable_answers_is_at_chance() -> None:
    with StubServer(respond=lambda request: Answer("I would rather not say.")) as stub:
        results = ask(stub)
    for test in results.values():
        assert test.n_failed == test.n and test.accuracy == 0.0 and test.verdict == "chance"
        assert f"{test.n} without a usable answer" in str(test)


def test_a_test_that_the_budget_ends_is_none_and_goes_on_where_it_was() -> None:
    """Answers paid for are kept by the ledger, so that a larger budget pays for the rest alone."""
    price = PriceSpec(input=1000.0, output=1000.0)
    ledger = MemoryLedger(price, budget=3.0)

    async def run() -> RoleTest:
        async with Judge(stub.url, None, "stub", JudgeSpec(), ledger=ledger) as judge:
            return await ask_role(judge, "detecting")

    with StubServer(respond=PlantedJudge()) as stub:
        with pytest.raises(BudgetSpent):
            asyncio.run(run())
        first = len(stub.requests)
        assert 0 < first < 20 and ledger.cost <= 3.0
        ledger.budget = None
        test = asyncio.run(run())
        assert len(stub.requests) == 20
    assert test.verdict == "good" and test.usage["reused"] == first
    assert ledger.cost == pytest.approx(20 * 0.11 + 2 * 0.11)


def test_what_a_test_goes_by() -> None:
    async def key(url: str, role: Role = "explaining", model: str = "stub", **spec: float) -> str:
        async with Judge(url, None, model, JudgeSpec.model_validate(spec)) as judge:
            await judge.answer_format()
            return key_of_test(judge, role)

    def answers(request: Request) -> Answer:
        return good(colour="blue")

    with StubServer(on_probe=answers) as one, StubServer(on_probe=answers) as other:
        first = asyncio.run(key(one.url))
        assert first == asyncio.run(key(one.url, concurrency=9))
        others = [
            asyncio.run(key(other.url)),
            asyncio.run(key(one.url, "detecting")),
            asyncio.run(key(one.url, model="another")),
            asyncio.run(key(one.url, temperature=0.5)),
        ]
        assert len({first, *others}) == 5
        packaged = [
            asyncio.run(key(server.url, model="smollm2-135m-instruct")) for server in (one, other)
        ]
        assert packaged[0] == packaged[1]


def test_a_notebook_tests_a_judge_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "_TESTED", {})
    with StubServer(respond=PlantedJudge(detects=0.5)) as stub:
        first = monosemy.check_judge(stub.url, SILENT, model="stub", concurrency=8)
        assert (first["explaining"].verdict, first["detecting"].verdict) == ("good", "chance")
        assert monosemy.check_judge(stub.url, SILENT, model="stub") == first
        assert len(stub.requests) == 60

        async def tested(**spec: str) -> RoleTest | None:
            wanted = JudgeSpec.model_validate({**spec, "model": "stub"})
            async with Judge(stub.url, None, None, wanted) as judge:
                return await labels._tested(judge, "detecting", wanted, SILENT)

        assert asyncio.run(tested(test="warn")) == first["detecting"]
        assert asyncio.run(tested(test="skip")) is None
        with pytest.raises(JudgeError, match=r"at chance.*embedding"):
            asyncio.run(tested(test="require"))
        assert len(stub.requests) == 60
