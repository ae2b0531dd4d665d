"""Explaining and scoring features from a notebook or a script: an index and a judge, no service.

texts = monosemy.open_index("my-work/indexes/...")
explanations = monosemy.explain(texts, [3, 17], judge="http://localhost:8000/v1")
scores = monosemy.score(texts, explanations, judge="http://localhost:8000/v1", scorer="fuzzing")
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from monosemy import arguments
from monosemy.console import reporting
from monosemy.data.store import TokenStore
from monosemy.errors import DataError, JudgeError
from monosemy.index.evidence import evidence_label
from monosemy.index.reader import IndexReader
from monosemy.interp.discrimination import tell_nearest
from monosemy.interp.explainers.base import Explanation
from monosemy.interp.heading import Candidate, Heading, heading, leading
from monosemy.interp.judge_test.asking import ask_role, calls_of, key_of_test
from monosemy.interp.judge_test.result import ROLES, Role, RoleTest
from monosemy.interp.judging.judge import Judge
from monosemy.interp.labelling import explain_features, score_explanations
from monosemy.interp.registry import create_explainer, create_scorer
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.texts import FeatureTexts
from monosemy.interp.tiers import NEAREST_EXPLANATIONS
from monosemy.interp.tools import Tools
from monosemy.progress import Reporter
from monosemy.specs import (
    ExplanationSpec,
    JudgeSpec,
    Need,
    ScoringSpec,
    parse_part,
)
from monosemy.workspace import Kind, Workspace

if TYPE_CHECKING:
    from monosemy.hosted_sae import HostedSAE

T = TypeVar("T")


@dataclass(frozen=True)
class JudgeAddress:
    """An OpenAI-compatible endpoint."""

    url: str
    api_key: str | None = None
    model: str | None = None
    """None takes the only model that the endpoint lists."""

    @classmethod
    def from_environment(cls, url: str | None = None) -> JudgeAddress | None:
        """``url``, else ``MONOSEMY_JUDGE_URL``, with ``_API_KEY`` and ``_MODEL``; None without."""
        url = url or os.environ.get("MONOSEMY_JUDGE_URL")
        if not url:
            return None
        environment = os.environ.get
        return cls(
            url,
            environment("MONOSEMY_JUDGE_API_KEY"),
            environment("MONOSEMY_JUDGE_MODEL"),
        )

    def open(self, spec: JudgeSpec) -> Judge:
        if spec.url is not None and spec.url != self.url:
            return Judge(spec.url, None, None, spec)  # the key is for the other endpoint
        return Judge(self.url, self.api_key, self.model, spec)


def open_index(folder: str | Path, store: str | Path | None = None) -> FeatureTexts:
    """The index in ``folder`` with its text, by default ``text/<text_id>`` of the same home.

    Raises ``DataError`` where either is missing or damaged.
    """
    reader = IndexReader(folder)
    workspace = Workspace(Path(folder).resolve().parents[1])
    place = Path(store) if store else workspace.find(Kind.TEXT, reader.text_id)
    if not place.is_dir():
        raise DataError(
            f"The index's text is not in {place}.", "Give its folder as 'store', or index again."
        )
    return FeatureTexts(reader, TokenStore.open(place))


def explain(
    index: FeatureTexts | str | Path,
    features: Sequence[int],
    judge: str | JudgeAddress | None = None,
    hosted: HostedSAE | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> dict[int, Explanation]:
    """An explanation of each feature that got one, by feature; the others are named in the log.

    ``judge`` is an endpoint's address, by default that of the environment
    (``MONOSEMY_JUDGE_URL``); ``options`` are fields of ``ExplanationSpec``, such as
    ``explainer="contrastive"``; ``token_change`` needs ``hosted``.  Raises ``SpecError`` for
    options that do not exist, ``DataError`` and ``JudgeError`` where nothing at all could be done.
    """
    hosted = _former_name(hosted, options)
    texts = opened(index)
    wanted = arguments.features("features", features)
    if not wanted:
        raise DataError("There is nothing to explain: no feature is named.")
    spec = parse_part(ExplanationSpec, {**options, "features": {"indices": wanted}})
    address = address_of(judge)
    if address is None and Need.JUDGE in spec.required:
        raise DataError("Explaining needs a judge.", "Give its address, or set MONOSEMY_JUDGE_URL.")
    with reporting(reporter) as progress:
        return run_async(
            explain_with(texts, list(dict.fromkeys(wanted)), spec, address, progress, hosted)
        )


def score(
    index: FeatureTexts | str | Path,
    explanations: Mapping[int, str | Explanation],
    judge: str | JudgeAddress | None = None,
    hosted: HostedSAE | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> dict[int, ScoreResult]:
    """The score of each explanation that got one, by feature, beside a shuffled one's.

    ``options`` are fields of ``ScoringSpec``, such as ``scorer="fuzzing"``; scorers that run the
    host model (``surprisal``, ``intervention``) need ``hosted``.  Raises as ``explain`` does.
    """
    hosted = _former_name(hosted, options)
    texts = opened(index)
    spec = parse_part(ScoringSpec, options)
    explanation_texts = {
        arguments.whole("explanations", feature): _sentence(each)
        for feature, each in arguments.a_mapping("explanations", explanations, _TEXTS).items()
    }
    if not explanation_texts:
        raise DataError("There is nothing to score: no explanation is given.")
    with reporting(reporter) as progress:
        address = address_of(judge)
        return run_async(score_with(texts, explanation_texts, spec, address, progress, hosted))


_TEXTS = "texts or explanations by feature, as explain gives them"


def _sentence(explanation: Any) -> str:
    if not isinstance(explanation, str | Explanation):
        raise arguments.refused("explanations", _TEXTS, explanation)
    return explanation if isinstance(explanation, str) else explanation.text


def _former_name(hosted: HostedSAE | None, options: dict[str, Any]) -> HostedSAE | None:
    """``hosted``, also where it is given by its former name, ``lab``, among the options."""
    if "lab" not in options:
        return hosted
    warnings.warn("the argument lab is now called hosted", DeprecationWarning, stacklevel=3)
    former: HostedSAE | None = options.pop("lab")
    return former if hosted is None else hosted


def check_judge(
    judge: str | JudgeAddress | None = None, reporter: Reporter | None = None, **options: Any
) -> dict[Role, RoleTest]:
    """How good a judge is, by planted questions whose answers are known: 40 to explain, 80 to
    detect.  ``explain`` and ``score`` ask them too, of a judge that this process has not tested.

    ``options`` are fields of ``JudgeSpec``.  Raises ``DataError`` without a judge, ``JudgeError``
    where it cannot be had or ``budget`` is spent.
    """
    address = address_of(judge)
    if address is None:
        raise DataError("There is no judge.", "Give its address, or set MONOSEMY_JUDGE_URL.")
    spec = parse_part(JudgeSpec, {**options, "test": "warn"})

    async def both() -> dict[Role, RoleTest]:
        async with address.open(spec) as asked:
            return {role: await _known(asked, role, progress) for role in ROLES}

    with reporting(reporter) as progress:
        return run_async(both())


def headings(
    index: FeatureTexts | str | Path,
    explanations: Mapping[int, str | Explanation],
    scores: Mapping[int, ScoreResult | Sequence[ScoreResult]],
) -> dict[int, Heading]:
    """What each explained feature is called, and why: its explanation where one of its scores
    clears its shuffled baseline, else the evidence label."""
    texts = opened(index)
    results: dict[int, Heading] = {}
    arguments.a_mapping("scores", scores, "scores by feature, as score gives them")
    for feature, explanation in arguments.a_mapping("explanations", explanations, _TEXTS).items():
        given = scores.get(feature, ())
        label = explanation if isinstance(explanation, str) else explanation.label
        candidates = [Candidate(label)] + [
            Candidate(
                label,
                each.scorer,
                each.value,
                each.low,
                each.high,
                each.baseline.value if each.baseline else None,
            )
            for each in ([given] if isinstance(given, ScoreResult) else given)
        ]
        evidence = texts.reader.evidence(feature)
        results[feature] = heading(evidence_label(evidence), leading(candidates))
    return results


def opened(index: FeatureTexts | str | Path) -> FeatureTexts:
    """What ``open_index`` opens, unless it is open already."""
    if not isinstance(index, FeatureTexts | str | Path):
        raise arguments.refused("index", "an index, or its folder", index)
    return index if isinstance(index, FeatureTexts) else open_index(index)


def address_of(judge: str | JudgeAddress | None) -> JudgeAddress | None:
    """The endpoint named, or that of the environment; None without either."""
    if judge is not None and not isinstance(judge, JudgeAddress | str):
        raise arguments.refused("judge", "the address of an endpoint", judge)
    return judge if isinstance(judge, JudgeAddress) else JudgeAddress.from_environment(judge)


# -------------------------------------------------------------------- within an event loop
async def explain_with(
    texts: FeatureTexts,
    features: Sequence[int],
    spec: ExplanationSpec,
    judge: JudgeAddress | None,
    reporter: Reporter,
    hosted: HostedSAE | None = None,
) -> dict[int, Explanation]:
    """Explanations by feature."""
    from monosemy.interp.embedder import embed_here  # needs torch

    explanations: dict[int, Explanation] = {}
    async with AsyncExitStack() as stack:
        asked = await _opened_judge(stack, judge, spec, reporter)
        test = await _tested(asked, "explaining", spec.judge, reporter) if asked else None
        tools = Tools(judge=asked, embed=embed_here(), hosted=hosted)
        explainer = create_explainer(spec, tools)
        store = explanations.__setitem__
        await explain_features(texts, features, spec, explainer, store, reporter)
    return {feature: each.with_judge_test(test) for feature, each in explanations.items()}


async def score_with(
    texts: FeatureTexts,
    explanations: Mapping[int, str],
    spec: ScoringSpec,
    judge: JudgeAddress | None,
    reporter: Reporter,
    hosted: HostedSAE | None = None,
) -> dict[int, ScoreResult]:
    """Scores by feature."""
    from monosemy.interp.embedder import embed_here  # needs torch

    results: dict[int, ScoreResult] = {}
    async with AsyncExitStack() as stack:
        asked = await _opened_judge(stack, judge, spec, reporter)
        test = await _tested(asked, "detecting", spec.judge, reporter) if asked else None
        tools = Tools(judge=asked, embed=embed_here(), hosted=hosted)
        scorer = create_scorer(spec, tools)
        await texts.prepare(scorer.tiers(spec.tiers), tools, reporter)
        if NEAREST_EXPLANATIONS in scorer.tiers(spec.tiers):
            await tell_nearest(texts, explanations, tools.need_embed())
        await score_explanations(
            texts, explanations, list(explanations), spec, scorer, results.__setitem__, reporter
        )
    return {feature: each.with_judge_test(test) for feature, each in results.items()}


_TESTED: dict[str, RoleTest] = {}
"""Tests of judges that this process has made."""


async def _tested(judge: Judge, role: Role, spec: JudgeSpec, reporter: Reporter) -> RoleTest | None:
    """The judge's test, as ``judge.test`` or ``MONOSEMY_JUDGE_TEST`` asks for it.

    Raises ``JudgeError`` for a judge at chance where a good one is required.
    """
    testing = spec.test or os.environ.get("MONOSEMY_JUDGE_TEST", "warn")
    if testing == "skip":
        return None
    test = await _known(judge, role, reporter)
    if testing == "require" and test.verdict == "chance":
        raise JudgeError(f"The judge '{judge.model}' is not to be used. {test}", test.advice)
    return test


async def _known(judge: Judge, role: Role, reporter: Reporter) -> RoleTest:
    await judge.answer_format()  # sets the model's name where the endpoint chooses it
    key = key_of_test(judge, role)
    if key not in _TESTED:
        with reporter.stage("judge test", calls_of(role), "calls") as stage:
            _TESTED[key] = await ask_role(judge, role, stage.advance)
        reporter.log(f"judge {judge.model}: {_TESTED[key].warning() or _TESTED[key]}")
    return _TESTED[key]


async def _opened_judge(
    stack: AsyncExitStack,
    judge: JudgeAddress | None,
    spec: ExplanationSpec | ScoringSpec,
    reporter: Reporter,
) -> Judge | None:
    """The judge, open until ``stack`` ends; None where none is named or needed."""
    if judge is None or Need.JUDGE not in spec.required:
        return None
    asked = await stack.enter_async_context(judge.open(spec.judge))
    asked.report_to(reporter.log)
    return asked


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Runs ``work`` to its end, also where an event loop runs already, as in a notebook."""
    run: Callable[[Coroutine[Any, Any, T]], T] = asyncio.run
    with ThreadPoolExecutor(1) as pool:  # the caller's thread may run an event loop
        return pool.submit(run, work).result()
