"""Asking a judge the planted questions, through the very prompts that its work goes through.

Explaining: each of the forty concepts is one question, five marked texts, asked by the default
explainer.  An explanation is right if it names the concept by one of the concept's words; no other
judge is asked.  None of these is among the marked words, but where the concept is one word.

What needs no understanding is the larger of two: the same rule over all other pairs of an
explanation and a concept (but those whose words overlap), so that neither one answer to everything
nor a list of everything gains anything; and explanations that only repeat the marked words.

Detecting: for every second concept two texts of it and two of others of its family, asked by the
detection scorer with the concept's true description.  One answer to everything gives 0.5.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from monosemy.index.evidence import FeatureEvidence, TokenShare
from monosemy.interp.explainers.base import ExplainingExamples
from monosemy.interp.explainers.default import DefaultExplainer
from monosemy.interp.judge_test.concepts import TEXTS, Concept, concepts, material_digest
from monosemy.interp.judge_test.result import Role, RoleTest
from monosemy.interp.judging.failures import AnswerError
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.ledger import about
from monosemy.interp.judging.usage import Usage
from monosemy.interp.local_judge import PACKAGED_NAME
from monosemy.interp.prompts.loader import load_prompt
from monosemy.interp.scorers.balanced_accuracy import balanced_accuracy
from monosemy.interp.scorers.base import ScoringExamples
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.interp.scorers.result import Judgement
from monosemy.interp.shown import ShownExample
from monosemy.interp.statistics.rates import newcombe_difference, rate_of
from monosemy.interp.tiers import RANDOM
from monosemy.workspace import fingerprint

T = TypeVar("T")

PURPOSE = "judge_test"
"""What its calls are entered for in the ledger."""

SHOWN = 5
"""Texts of a concept shown to the explainer."""
TRIES = 2
"""Answers asked for before a question counts as answered wrong; a feature is given more."""
FITTING = OTHERS = 2
"""Texts of a concept, and of others, put to the detector in one call."""

_PROMPTS: dict[Role, str] = {"explaining": "explain_default", "detecting": "detection"}


def key_of_test(judge: Judge, role: Role) -> str:
    """Equal for a judge that need not be tested again: endpoint, model, sampling, prompt, planted
    texts.  The judge's model must be known (``Judge.answer_format`` finds it out)."""
    asked = judge.provenance()
    return fingerprint(
        {
            "role": role,
            "endpoint": endpoint_of(asked["address"], asked["model"]),
            "model": asked["model"],
            "sampling": [asked["temperature"], asked["max_output_tokens"]],
            "prompt": load_prompt(_PROMPTS[role]).provenance(),
            "material": [material_digest(), SHOWN, TRIES, FITTING, OTHERS],
        }
    )


def endpoint_of(address: str, model: str) -> str:
    """The address, or ``packaged`` for the judge that comes with monosemy: it is the same behind
    whatever port this machine had free."""
    local = address.startswith(("http://127.0.0.1:", "http://localhost:"))
    return "packaged" if local and model == PACKAGED_NAME else address


def prompt_of(role: Role) -> str:
    """Name and version of the prompt that the role is tested through."""
    prompt = load_prompt(_PROMPTS[role])
    return f"{prompt.name} v{prompt.version}"


def calls_of(role: Role) -> int:
    """How many calls the test makes, where every first answer is of use."""
    return len(concepts() if role == "explaining" else _detected())


async def ask_role(
    judge: Judge, role: Role, on_call: Callable[[], None] = lambda: None
) -> RoleTest:
    """The judge's test in one role; ``on_call`` is called as each of ``calls_of`` has ended.

    Raises ``EndpointError`` where the judge cannot be had, ``BudgetSpent`` where the budget allows
    no further question: a test that is not whole is none.
    """
    with about(PURPOSE, None):
        return await (_explaining if role == "explaining" else _detecting)(judge, on_call)


# -------------------------------------------------------------------- explaining
async def _explaining(judge: Judge, on_call: Callable[[], None]) -> RoleTest:
    planted = concepts()
    explainer = DefaultExplainer(judge, SHOWN)
    explainer.tries = TRIES
    places = asyncio.Semaphore(judge.spec.features_at_once)
    usage = Usage()

    async def explained(number: int, concept: Concept) -> str | None:
        shown = tuple(concept.shown(i, number) for i in range(SHOWN))
        async with places:
            try:
                explanation = await explainer.explain(
                    _evidence(number, shown), ExplainingExamples(shown)
                )
            except AnswerError as error:
                usage.add(error.usage)
                return None
            finally:
                on_call()
        usage.add(explanation.usage)
        return f"{explanation.label}. {explanation.text}"

    answers = await _all([explained(i, each) for i, each in enumerate(planted)])
    return grade_explanations(planted, answers, usage)


def grade_explanations(
    planted: Sequence[Concept], explanations: Sequence[str | None], usage: Usage | None = None
) -> RoleTest:
    """The test in explaining out of one explanation (or None) of each concept."""
    pairs = list(zip(planted, explanations, strict=True))
    right = [text is not None and concept.is_named(text) for concept, text in pairs]
    guessed, guesser = [], []
    for i, (concept, text) in enumerate(pairs):
        for other in planted:
            if other is not concept and not set(other.names) & set(concept.names):
                guessed.append(text is not None and other.is_named(text))
                guesser.append(i)
    own, shuffled = rate_of(right), rate_of(guessed, guesser)
    repeated = sum(each.is_named(", ".join(each.marked())) for each in planted) / len(planted)
    return RoleTest(
        role="explaining",
        accuracy=own.value or 0.0,
        low=own.low,
        high=own.high,
        n=own.n,
        n_failed=sum(text is None for text in explanations),
        chance=max(shuffled.value or 0.0, repeated),
        advantage_low=min(newcombe_difference(own, shuffled)[0], own.low - repeated),
        families=_by_family([concept for concept, _ in pairs], right),
        usage=(usage or Usage()).as_dict(),
    )


def _evidence(number: int, shown: Sequence[ShownExample]) -> FeatureEvidence:
    """As of a feature that fires on what is marked, and of which nothing else is known."""
    marked = Counter(
        piece
        for example in shown
        for piece, level in zip(example.pieces, example.levels, strict=True)
        if level > 0
    )
    total = sum(marked.values())
    tokens = [
        TokenShare(i, piece, count / total, count, 1.0)
        for i, (piece, count) in enumerate(marked.most_common(8))
    ]
    return FeatureEvidence(number, total, 0.0, 10.0, 10.0, top_tokens=tokens)


# -------------------------------------------------------------------- detecting
async def _detecting(judge: Judge, on_call: Callable[[], None]) -> RoleTest:
    planted = _detected()
    scorer = DetectionScorer(judge, FITTING + OTHERS)
    places = asyncio.Semaphore(judge.spec.features_at_once)
    usage = Usage()

    async def judged(number: int, concept: Concept) -> tuple[Judgement, ...]:
        async with places:
            answers = await scorer.judge(concept.description, _put(number, concept))
            on_call()
        usage.add(answers.usage)
        return answers.judgements

    answers = await _all([judged(i, each) for i, each in enumerate(planted)])
    return grade_judgements(planted, answers, usage)


def grade_judgements(
    planted: Sequence[Concept],
    judgements: Sequence[Sequence[Judgement]],
    usage: Usage | None = None,
) -> RoleTest:
    """The test in detecting out of the judgements of each concept; a concept's are one cluster."""
    listed = [each for judged in judgements for each in judged]
    failed = sum(each.failed for each in listed)
    whole = [replace(j, answer=not j.truth) if j.failed else j for j in listed]
    summary = balanced_accuracy(whole, RANDOM)
    owners = [c for c, judged in zip(planted, judgements, strict=True) for _ in judged]
    return RoleTest(
        role="detecting",
        accuracy=summary.value or 0.0,
        low=summary.low,
        high=summary.high,
        n=len(whole),
        n_failed=failed,
        chance=0.5,
        advantage_low=summary.low - 0.5,
        families=_by_family(owners, [j.answer is j.truth for j in whole]),
        usage=(usage or Usage()).as_dict(),
    )


def _detected() -> list[Concept]:
    """Every second one of each family."""
    families: dict[str, list[Concept]] = {}
    for concept in concepts():
        families.setdefault(concept.family, []).append(concept)
    return [concept for family in families.values() for concept in family[::2]]


def _put(number: int, concept: Concept) -> ScoringExamples:
    """Texts for and against, all of one document: a concept's answers hang together."""
    family = [each for each in concepts() if each.family == concept.family]
    rng = np.random.default_rng(number)
    others = [each for each in family if not set(each.names) & set(concept.names)]
    # All kinds of numbers share words: their others are texts without any.
    others = others or [each for each in concepts() if each.family == "topic"]
    chosen = rng.choice(len(others), OTHERS, replace=False)
    fitting = tuple(concept.shown(TEXTS - 1 - i, number) for i in range(FITTING))
    silent = tuple(
        replace(others[int(i)].shown(TEXTS - 1, number), group="negative") for i in chosen
    )
    return ScoringExamples(number, fitting, {RANDOM: silent})


async def _all(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Results in order; the first error ends them all and is raised unchanged."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _by_family(owners: Sequence[Concept], right: Sequence[bool]) -> dict[str, dict[str, int]]:
    families: dict[str, dict[str, int]] = {}
    for concept, is_right in zip(owners, right, strict=True):
        family = families.setdefault(concept.family, {"right": 0, "n": 0})
        family["right"] += is_right
        family["n"] += 1
    return families
