"""The work on one feature of an explain or score run, and the key of equal work."""

from __future__ import annotations

import asyncio
import uuid

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from monosemy.errors import DataError
from monosemy.interp.discrimination import K
from monosemy.interp.judge_test.result import RoleTest
from monosemy.interp.labelling import explain_one, explanation_key, score_key, score_one
from monosemy.interp.registry import create_explainer, create_scorer
from monosemy.interp.texts import FeatureTexts
from monosemy.interp.tiers import NEAREST_EXPLANATIONS
from monosemy.interp.tools import Tools
from monosemy.progress import Reporter
from monosemy.specs import ExplanationSpec, ScoringSpec
from service.database.session import transaction
from service.database.tables import Explanation, Run
from workers import interp_rows as rows
from workers.shared_run import Store
from workers.work_items import Item


class FeatureWork:
    """What is done with one feature; ``key`` is equal for equal work."""

    key: str
    judge_test: RoleTest | None = None
    """Of the judge that does it, where it was tested."""

    async def prepare(self, reporter: Reporter) -> None:
        """What all features need, made once."""

    async def one(self, item: Item) -> Store:
        raise NotImplementedError


class ExplainWork(FeatureWork):
    def __init__(
        self,
        run_id: uuid.UUID,
        sae_id: uuid.UUID,
        texts: FeatureTexts,
        spec: ExplanationSpec,
        tools: Tools,
        judge: str,
    ) -> None:
        self.run_id, self.sae_id, self.texts, self.spec = run_id, sae_id, texts, spec
        self.explainer = create_explainer(self.spec, tools)
        self.key = explanation_key(self.spec, self.explainer, texts.store.text_id, judge)

    async def one(self, item: Item) -> Store:
        explained = await explain_one(self.texts, item.feature, self.spec, self.explainer)
        explained = explained.with_judge_test(self.judge_test)

        def store(session: Session) -> None:
            rows.publish_explanation(
                session, self.sae_id, self.run_id, item.feature, self.key, explained, None
            )
            shown = explained.provenance.get("examples", [])
            rows.keep_texts(session, self.texts.store, (each["row"] for each in shown))

        return store


class ScoreWork(FeatureWork):
    def __init__(
        self,
        engine: Engine,
        run_id: uuid.UUID,
        sae_id: uuid.UUID,
        texts: FeatureTexts,
        spec: ScoringSpec,
        tools: Tools,
        judge: str,
    ) -> None:
        self.engine, self.run_id, self.sae_id = engine, run_id, sae_id
        self.texts, self.spec = texts, spec
        self.tools = tools
        self.scorer = create_scorer(self.spec, tools)
        self._tiers = self.scorer.tiers(self.spec.tiers)
        among = ""
        if NEAREST_EXPLANATIONS in self._tiers:
            # Of the run's own time, the same for all who take part in it.
            with transaction(engine) as session:
                self._before = session.get_one(Run, run_id).created_at
                among = rows.explanations_digest(session, sae_id, self._before)
        self.key = score_key(self.spec, self.scorer, texts.store.text_id, judge, among)
        self._nearest: dict[int, list[tuple[int, float]]] = {}
        """Of the features at work, where the scorer asks for neighbours by explanation."""

    async def prepare(self, reporter: Reporter) -> None:
        await self.texts.prepare(self._tiers, self.tools, reporter)
        if NEAREST_EXPLANATIONS in self._tiers:
            self.texts.know_nearest(self._nearest)

    async def one(self, item: Item) -> Store:
        assert item.explanation_id is not None
        own, borrowed = await asyncio.to_thread(self._explanations, item)
        try:
            result = await score_one(
                self.texts, item.feature, self.spec, self.scorer, own, borrowed
            )
        finally:
            self._nearest.pop(item.feature, None)

        result = result.with_judge_test(self.judge_test)

        def store(session: Session) -> None:
            assert item.explanation_id is not None
            rows.publish_score(
                session, self.sae_id, item.explanation_id, self.run_id, self.key, result
            )
            judged = (each.row for each in result.judgements)
            rows.keep_texts(session, self.texts.store, judged)

        return store

    def _explanations(self, item: Item) -> tuple[str, str | None]:
        """Its own, and the one it borrows."""
        with transaction(self.engine) as session:
            own = session.get(Explanation, (self.sae_id, item.explanation_id))
            if own is None:
                raise DataError("Its explanation has been deleted.")
            if NEAREST_EXPLANATIONS in self._tiers:
                if own.embedding is None:
                    raise DataError(
                        "Its explanation has no embedding to find the nearest by.",
                        "Start the inference server (MONOSEMY_INFERENCE_URL) and run again.",
                    )
                self._nearest[item.feature] = rows.nearest_features(session, own, K, self._before)
            borrowed = None
            if self.spec.shuffled_baseline and item.borrowed_id is not None:
                borrowed = session.get(Explanation, (self.sae_id, item.borrowed_id))
            return own.text, borrowed.text if borrowed is not None else None
