"""Every explainer and scorer that asks a judge, over texts that try to be more than data."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monosemy.errors import MonosemyError
from monosemy.index.evidence import TokenEffect, TokenShare
from monosemy.interp.explainers.base import ExplainingExamples
from monosemy.interp.judging.rehearsal import RehearsalJudge
from monosemy.interp.registry import create_explainer, create_scorer
from monosemy.interp.scorers.base import ScoringExamples
from monosemy.interp.shown import ShownExample
from monosemy.interp.tiers import MIS_MARKED, NEAREST_EXPLANATIONS, RANDOM
from monosemy.interp.tools import Tools
from monosemy.specs import EXPLAINERS, ExplanationSpec, JudgeSpec, ScoringSpec
from tests.support.hostile import HOSTILE
from tests.support.interp_examples import evidence

SCORERS = {
    "detection": RANDOM,
    "fuzzing": MIS_MARKED,
    "intruder": RANDOM,
    "simulation": RANDOM,
    "discrimination": NEAREST_EXPLANATIONS,
}
FENCE = re.compile(r"^(DATA-[0-9a-f]{8}) (begins|ends)$", re.MULTILINE)
CONTROL = re.compile(
    r"<\||\|>|<｜|</?(?:s|think|tool_call|start_of_turn)>|\[/?(?:INST|SYS)\]|<<SYS"
)
HUGE = "all work and no play " * 5000


def shown(number: int, text: str, group: str | int) -> ShownExample:
    """``text`` in pieces of a few characters, every third of them active."""
    pieces = tuple(text[i : i + 5] for i in range(0, len(text), 5)) or ("x",)
    levels = tuple(9.0 if i % 3 == number % 3 else 0.0 for i in range(len(pieces)))
    levels = levels if any(levels) else (9.0, *levels[1:])
    return ShownExample(pieces, levels, number, number * 1000, number, group, levels.index(9.0))


def questions(kind: str, name: str, texts: list[str], claim: str) -> list[Any]:
    """What the judge is asked."""
    rehearsal = RehearsalJudge(JudgeSpec())
    tools = Tools(judge=rehearsal.as_judge())
    yes = tuple(shown(i, text, i % 10) for i, text in enumerate(texts))
    tier = SCORERS.get(name, RANDOM)
    no = tuple(shown(100 + i, text[::-1], tier) for i, text in enumerate(texts))
    if kind == "explainer":
        known = replace(
            evidence(),
            top_tokens=[TokenShare(i, text, 0.1, 10, 0.5) for i, text in enumerate(texts)],
            promoted=[TokenEffect(i, text, 1.0) for i, text in enumerate(texts)],
            suppressed=[TokenEffect(i, text, -1.0) for i, text in enumerate(texts)],
        )
        explainer = create_explainer(ExplanationSpec(explainer=name), tools)  # type: ignore[arg-type]
        validation = ScoringExamples(7, yes, {RANDOM: no})
        asyncio.run(explainer.explain(known, ExplainingExamples(yes, no, validation)))
    else:
        scorer = create_scorer(ScoringSpec(scorer=name), tools)  # type: ignore[arg-type]
        asyncio.run(scorer.judge(claim, ScoringExamples(7, yes, {tier: no})))
    return rehearsal.questions


def check(asked: list[Any]) -> None:
    """Nothing but our own lines speaks: one fence around the data, no control token anywhere."""
    assert asked
    for question in asked:
        content = question.messages[-1]["content"]
        assert question.messages[-1]["role"] == "user"
        fences = FENCE.findall(content)
        assert [word for _, word in fences] == ["begins", "ends"], content[-300:]
        assert fences[0][0] == fences[1][0]
        assert not CONTROL.search(content)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x85\u2028\u2029\ud800-\udfff]", content)
        content.encode()
        inside = content.split(f"{fences[0][0]} begins\n")[1].split(f"\n{fences[0][0]} ends")[0]
        for line in inside.splitlines():
            # A name, a colon and JSON; or JSON alone.  No line is the corpus's own.
            assert re.match(r'^$|^[\w ]+: ?["\[{\d]|^["\[\]{},\t\d]', line), line


EVERY = [("explainer", name) for name in sorted(EXPLAINERS)] + [
    ("scorer", name) for name in sorted(SCORERS)
]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_hostile_texts_stay_data(kind: str, name: str) -> None:
    for claim in HOSTILE:
        check(questions(kind, name, HOSTILE, claim))


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_so_does_a_very_long_one(kind: str, name: str) -> None:
    check(questions(kind, name, [HUGE[:20_000], *HOSTILE[:5]], HUGE))


@pytest.mark.parametrize(("kind", "name"), EVERY)
@settings(max_examples=15, deadline=None)
@given(
    texts=st.lists(st.text(min_size=1, max_size=60), min_size=6, max_size=8, unique=True),
    claim=st.text(min_size=1, max_size=80),
)
def test_and_any_other(kind: str, name: str, texts: list[str], claim: str) -> None:
    with suppress(MonosemyError):  # texts of which nothing can be asked
        check(questions(kind, name, texts, claim))
