"""Explaining and scoring features from a notebook or a script: an index and a judge, no service.

texts = monosemy.open_index("my-work/indexes/...")
said = monosemy.explain(texts, [3, 17], judge="http://localhost:8000/v1")
scores = monosemy.score(texts, said, judge="http://localhost:8000/v1", scorer="fuzzing")
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

from monosemy.console import reporting
from monosemy.data.store import TokenStore
from monosemy.errors import DataError
from monosemy.index.reader import IndexReader
from monosemy.interp.discrimination import tell_nearest
from monosemy.interp.explainers.base import Explanation
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
    place = Path(store) if store else Path(folder).resolve().parents[1] / "text" / reader.text_id
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
    wanted = [int(feature) for feature in features]
    if not wanted:
        raise DataError("There is nothing to explain: no feature is named.")
    spec = parse_part(ExplanationSpec, {**options, "features": {"indices": wanted}})
    address = address_of(judge)
    if address is None and Need.JUDGE in spec.required:
        raise DataError("Explaining needs a judge.", "Give its address, or set MONOSEMY_JUDGE_URL.")
    with reporting(reporter) as shown:
        return run_async(
            explain_with(texts, list(dict.fromkeys(wanted)), spec, address, shown, hosted)
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
    said = {
        int(feature): each if isinstance(each, str) else each.text
        for feature, each in explanations.items()
    }
    if not said:
        raise DataError("There is nothing to score: no explanation is given.")
    with reporting(reporter) as shown:
        address = address_of(judge)
        return run_async(score_with(texts, said, spec, address, shown, hosted))


def _former_name(hosted: HostedSAE | None, options: dict[str, Any]) -> HostedSAE | None:
    """``hosted``, also where it is given by its former name, ``lab``, among the options."""
    if "lab" not in options:
        return hosted
    warnings.warn("the argument lab is now called hosted", DeprecationWarning, stacklevel=3)
    former: HostedSAE | None = options.pop("lab")
    return former if hosted is None else hosted


def opened(index: FeatureTexts | str | Path) -> FeatureTexts:
    """What ``open_index`` opens, unless it is open already."""
    return index if isinstance(index, FeatureTexts) else open_index(index)


def address_of(judge: str | JudgeAddress | None) -> JudgeAddress | None:
    """The endpoint named, or that of the environment; None without either."""
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
        tools = Tools(judge=asked, embed=embed_here(), hosted=hosted)
        explainer = create_explainer(spec, tools)
        store = explanations.__setitem__
        await explain_features(texts, features, spec, explainer, store, reporter)
    return explanations


async def score_with(
    texts: FeatureTexts,
    said: Mapping[int, str],
    spec: ScoringSpec,
    judge: JudgeAddress | None,
    reporter: Reporter,
    hosted: HostedSAE | None = None,
) -> dict[int, ScoreResult]:
    """Scores by feature."""
    from monosemy.interp.embedder import embed_here  # needs torch

    found: dict[int, ScoreResult] = {}
    async with AsyncExitStack() as stack:
        asked = await _opened_judge(stack, judge, spec, reporter)
        tools = Tools(judge=asked, embed=embed_here(), hosted=hosted)
        scorer = create_scorer(spec, tools)
        await texts.prepare(scorer.tiers(spec.tiers), tools, reporter)
        if NEAREST_EXPLANATIONS in scorer.tiers(spec.tiers):
            await tell_nearest(texts, said, tools.need_embed())
        await score_explanations(texts, said, list(said), spec, scorer, found.__setitem__, reporter)
    return found


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
    with ThreadPoolExecutor(1) as pool:  # whoever calls may have an event loop of their own
        return pool.submit(run, work).result()
