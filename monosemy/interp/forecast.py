"""What explaining or scoring will cost, before any of it is done.

The real explainers and scorers work on a sample of the features with a judge that only takes
their questions down.  Tokens per byte depend on the endpoint's tokenizer: a few of the
questions are sent to it with room for one token, which tells what it counts for a prompt of known
length.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from monosemy.errors import DataError, JudgeError
from monosemy.interp.judge_test.asking import ask_role
from monosemy.interp.judge_test.result import Role
from monosemy.interp.judging.failures import AnswerError
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.ledger import about, cost_of
from monosemy.interp.judging.rehearsal import Question, RehearsalJudge
from monosemy.interp.labelling import explain_one, score_one
from monosemy.interp.registry import create_explainer, create_scorer
from monosemy.interp.shuffled_baseline import shuffled_partner
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.statistics.student import student_critical
from monosemy.interp.texts import FeatureTexts
from monosemy.interp.tools import NONE, Tools
from monosemy.specs import ExplanationSpec, JudgeSpec, Need, PriceSpec, ScoringSpec

SAMPLE = 20
"""Features that a forecast looks at."""
WEIGHED = 3
"""Questions sent to learn how the endpoint counts."""
BYTES_PER_TOKEN = 3.8
"""Of English with some JSON, where no endpoint gives a count."""


@dataclass(frozen=True)
class Forecast:
    """Expected calls, tokens and cost of all features; ``low`` and ``high`` bound the cost (95 %,
    for what the sample leaves open).

    Tokens that the endpoint finds in its cache are not taken off, retries not added.  With
    ``at_most`` set the run may stop earlier: sequential scoring, or answers that are there already.
    """

    features: int
    sampled: int
    calls: float
    prompt_tokens: float
    completion_tokens: float
    cost: float
    low: float
    high: float
    calibrated: bool
    """Whether the endpoint itself gave its counts."""
    at_most: bool
    judge_test_calls: int = 0
    """Of the calls, those that test the judge first."""

    def with_test(self, tested: TestCost | None) -> Forecast:
        """With the judge's test on top, whose questions are known to the letter; None: there is
        none to make."""
        if tested is None:
            return self
        return replace(
            self,
            calls=self.calls + tested.calls,
            prompt_tokens=self.prompt_tokens + tested.prompt_tokens,
            completion_tokens=self.completion_tokens + tested.completion_tokens,
            cost=self.cost + tested.cost,
            low=self.low + tested.cost,
            high=self.high + tested.cost,
            judge_test_calls=tested.calls,
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        most = "at most " if self.at_most else ""
        counted = "" if self.calibrated else " (tokens guessed from bytes)"
        tests = (
            f" ({self.judge_test_calls} of them test the judge)" if self.judge_test_calls else ""
        )
        return (
            f"{self.features:,} features: {most}{self.calls:,.0f} calls{tests}, "
            f"{self.prompt_tokens:,.0f} tokens in, {self.completion_tokens:,.0f} out{counted}, "
            f"cost {self.cost:,.4f} ({self.low:,.4f} to {self.high:,.4f})"
        )


async def forecast_explanations(
    texts: FeatureTexts,
    features: Sequence[int],
    spec: ExplanationSpec,
    price: PriceSpec | None = None,
    tools: Tools = NONE,
    total: int | None = None,
) -> Forecast:
    """Of explaining ``total`` features of which ``features`` are some (None: all).

    The judge of ``tools`` is only asked for token counts; the other tools do their work.  Raises
    ``DataError`` when not one of the sample can be explained.
    """
    if Need.JUDGE not in spec.required:
        return _nothing(features, total)
    rehearsal = RehearsalJudge(spec.judge)
    explainer = create_explainer(spec, replace(tools, judge=rehearsal.as_judge()))

    async def one(feature: int) -> None:
        await explain_one(texts, feature, spec, explainer)

    price = price or spec.judge.price
    return await _forecast(features, total, one, rehearsal, price, tools.judge, False)


async def forecast_scores(
    texts: FeatureTexts,
    explanations: Mapping[int, str],
    spec: ScoringSpec,
    price: PriceSpec | None = None,
    tools: Tools = NONE,
    total: int | None = None,
) -> Forecast:
    """Of scoring ``explanations``, by feature, or ``total`` of which these are some.

    Raises ``DataError`` as above.
    """
    if Need.JUDGE not in spec.required:
        return _nothing(explanations, total)
    rehearsal = RehearsalJudge(spec.judge)
    scorer = create_scorer(spec, replace(tools, judge=rehearsal.as_judge()))
    await texts.prepare(scorer.tiers(spec.tiers), tools)
    partner: dict[int, int] = {}
    if spec.shuffled_baseline and scorer.needs_explanation and len(explanations) > 1:
        partner = shuffled_partner(list(explanations), spec.seed)

    async def one(feature: int) -> None:
        borrowed = explanations[partner[feature]] if feature in partner else None
        await score_one(texts, feature, spec, scorer, explanations[feature], borrowed)

    early = spec.half_width is not None
    price = price or spec.judge.price
    judge = tools.judge
    return await _forecast(list(explanations), total, one, rehearsal, price, judge, early)


def _nothing(features: Collection[int], total: int | None) -> Forecast:
    """Of what asks no judge."""
    return Forecast(total or len(features), 0, 0, 0, 0, 0, 0, 0, True, False)


@dataclass(frozen=True)
class TestCost:
    """The cost of a judge's test."""

    calls: int
    prompt_tokens: float
    completion_tokens: float
    cost: float


async def cost_of_test(role: Role, spec: JudgeSpec, price: PriceSpec, judge: Judge) -> TestCost:
    """Of testing ``judge`` in one role, where no answer has to be asked for again."""
    rehearsal = RehearsalJudge(spec)
    await ask_role(rehearsal.as_judge(), role)
    per_byte, overhead, _ = await _weigh(rehearsal.questions, judge)
    calls, prompt, answer = _tokens(rehearsal.questions, per_byte, overhead)
    return TestCost(int(calls), prompt, answer, cost_of(price, int(prompt), 0, int(answer)))


async def _forecast(
    features: Sequence[int],
    total: int | None,
    one: Callable[[int], Awaitable[None]],
    rehearsal: RehearsalJudge,
    price: PriceSpec | None,
    judge: Judge | None,
    early: bool,
) -> Forecast:
    spread = np.linspace(0, len(features) - 1, min(SAMPLE, len(features))).round().astype(int)
    asked: list[list[Question]] = []
    reason = "there are no features"
    for place in np.unique(spread).tolist():
        begin = len(rehearsal.questions)
        try:
            await one(features[place])
        except (DataError, AnswerError) as error:
            reason = str(error)
        asked.append(rehearsal.questions[begin:])
    questions = [question for each in asked for question in each]
    if not questions:
        raise DataError(f"No question to the judge could be made: {reason}")
    per_byte, overhead, calibrated = await _weigh(questions, judge)
    sums = np.array([_tokens(each, per_byte, overhead) for each in asked])
    total = len(features) if total is None else total
    means = sums.mean(axis=0) * total
    price = price or PriceSpec()
    costs = np.array([cost_of(price, int(row[1]), 0, int(row[2])) for row in sums])
    cost = float(costs.mean()) * total
    half = 0.0
    if 1 < len(costs) < total:
        spread_of_mean = float(costs.std(ddof=1)) / len(costs) ** 0.5
        half = student_critical(Z95, len(costs) - 1) * spread_of_mean * total
    return Forecast(
        features=total,
        sampled=len(asked),
        calls=float(means[0]),
        prompt_tokens=float(means[1]),
        completion_tokens=float(means[2]),
        cost=cost,
        low=max(0.0, cost - half),
        high=cost + half,
        calibrated=calibrated,
        at_most=early,
    )


def _tokens(
    questions: Sequence[Question], per_byte: float, overhead: float
) -> tuple[float, float, float]:
    """(calls, prompt tokens, answer tokens)."""
    prompt = sum(question.prompt_bytes for question in questions) * per_byte
    answer = sum(len(question.answer.encode()) for question in questions) * per_byte
    return float(len(questions)), prompt + overhead * len(questions), answer


async def _weigh(questions: Sequence[Question], judge: Judge | None) -> tuple[float, float, bool]:
    """(tokens per byte, tokens that each call has besides, whether the endpoint gave counts)."""
    if judge is not None:
        ordered = sorted(questions, key=lambda question: question.prompt_bytes)
        spread = np.unique(np.linspace(0, len(ordered) - 1, WEIGHED).round().astype(int))
        chosen = [ordered[i] for i in spread]
        try:
            with about("forecast", 0):
                counts = await asyncio.gather(*(judge.weigh(q.messages, q.schema) for q in chosen))
        except JudgeError:
            counts = []
        sizes = [question.prompt_bytes for question in chosen]
        if counts and min(counts) > 0:
            if max(sizes) > 1.2 * min(sizes):
                slope, rest = np.polyfit(sizes, counts, 1)
                if slope > 0 and rest >= 0:
                    return float(slope), float(rest), True
            return sum(counts) / sum(sizes), 0.0, True
    return 1 / BYTES_PER_TOKEN, 0.0, False
