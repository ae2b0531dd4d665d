"""The interpretation worker (``python -m workers.interp``): explain, score.  No torch."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from monosemy.data.store import TokenStore
from monosemy.errors import MonosemyError
from monosemy.index.reader import IndexReader
from monosemy.interp.detection import ScoreResult
from monosemy.interp.explain import Explanation as Explained
from monosemy.interp.judge import Judge
from monosemy.interp.labelling import (
    FeatureTexts,
    choose_features,
    explain_features,
    explanation_key,
    score_explanations,
    score_key,
)
from monosemy.interp.registry import create_explainer, create_scorer
from monosemy.specs import ExplainRun, JudgeSpec, ScoreRun, parse_spec
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.database.tables import Explanation, Run, Sae, Score
from service.inference.client import InferenceAway, InferenceClient
from service.saes.repository import find_sae
from service.settings import Settings
from workers import publish
from workers.reporter import RunReporter
from workers.worker import Execute, main

logger = logging.getLogger(__name__)


class InterpRuns:
    """Executes the runs that need the judge.  Every result is stored as it arrives."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings, self.engine = settings, engine
        self.workspace = Workspace(settings.artifacts)
        self.inference = InferenceClient(settings.inference_url)

    def __call__(self, run: Run, reporter: RunReporter) -> dict[str, Any]:
        spec = parse_spec(run.spec)
        if isinstance(spec, ExplainRun):
            return asyncio.run(self._explain(run.id, spec, reporter))
        if isinstance(spec, ScoreRun):
            return asyncio.run(self._score(run.id, spec, reporter))
        raise MonosemyError(f"This worker does not execute runs of kind '{run.kind}'.")

    async def _explain(
        self, run_id: uuid.UUID, spec: ExplainRun, reporter: RunReporter
    ) -> dict[str, Any]:
        sae, texts = self._texts(spec.sae)
        features = choose_features(texts, spec.explanation.features)
        async with self._judge(spec.explanation.judge) as judge:
            explainer = create_explainer(spec.explanation, judge)
            text_id = texts.store.text_id
            key = explanation_key(spec.explanation, explainer, text_id, self._judge_name(spec))
            with transaction(self.engine) as session:
                done = set(_explained(session, sae.id, key))

            def store(feature: int, found: Explained) -> None:
                embedding = self._embed(f"{found.label}. {found.text}")
                with transaction(self.engine) as session:
                    publish.publish_explanation(
                        session, sae.id, run_id, feature, key, found, embedding
                    )

            left = [feature for feature in features if feature not in done]
            tally = await explain_features(
                texts,
                left,
                spec.explanation,
                explainer,
                store,
                reporter,
                skipped=len(features) - len(left),
            )
        return {"sae_id": str(sae.id), "features": features, **tally.as_dict()}

    async def _score(
        self, run_id: uuid.UUID, spec: ScoreRun, reporter: RunReporter
    ) -> dict[str, Any]:
        sae, texts = self._texts(spec.sae)
        async with self._judge(spec.scoring.judge) as judge:
            scorer = create_scorer(spec.scoring, judge)
            key = score_key(spec.scoring, scorer, texts.store.text_id, self._judge_name(spec))
            with transaction(self.engine) as session:
                newest = _newest_explanations(session, sae.id)
                scored = _scored(session, [e.id for e in newest.values()], key)
            if not newest:
                raise MonosemyError("There are no explanations to score.", "Submit an explain run.")
            explanations = {feature: e.text for feature, e in newest.items()}
            wanted = [feature for feature, e in newest.items() if e.id not in scored]

            def store(feature: int, result: ScoreResult) -> None:
                with transaction(self.engine) as session:
                    publish.publish_score(session, newest[feature].id, run_id, key, result)

            tally = await score_explanations(
                texts, explanations, wanted, spec.scoring, scorer, store, reporter
            )
        with transaction(self.engine) as session:
            summary = _summary(session, [e.id for e in newest.values()], key)
        return {"sae_id": str(sae.id), **tally.as_dict(), **summary}

    def _texts(self, reference: str) -> tuple[Sae, FeatureTexts]:
        with transaction(self.engine) as session:
            sae, _ = find_sae(session, reference)
        if sae.index is None:
            raise MonosemyError(f"The SAE '{sae.name}' has no index yet.", "Submit an index run.")
        reader = IndexReader(self.workspace.locate(sae.index["path"]))
        store = TokenStore.open(self.workspace.locate(f"text/{sae.index['text_id']}"))
        return sae, FeatureTexts(reader, store)

    def _judge(self, spec: JudgeSpec) -> Judge:
        settings = self.settings
        if not settings.judge_url:
            raise MonosemyError(
                "No judge is configured.",
                "Set MONOSEMY_JUDGE_URL (and MONOSEMY_JUDGE_MODEL, MONOSEMY_JUDGE_API_KEY) to an "
                "OpenAI-compatible endpoint, or start the local one with 'monosemy judge'.",
            )
        key = settings.judge_api_key.get_secret_value() if settings.judge_api_key else None
        return Judge(settings.judge_url, key, settings.judge_model, spec)

    def _judge_name(self, spec: ExplainRun | ScoreRun) -> str:
        """Which judge the work is for, known before it is first called."""
        asked = spec.explanation.judge if isinstance(spec, ExplainRun) else spec.scoring.judge
        return asked.model or self.settings.judge_model or str(self.settings.judge_url)

    def _embed(self, text: str) -> Sequence[float] | None:
        """None while the inference server is away: the explanation is then found by words only."""
        if not self.settings.inference_url:
            return None
        try:
            return self.inference.embed([text])[0]
        except InferenceAway as error:
            logger.warning("explanation not embedded: %s", error)
            return None


def _explained(session: Session, sae_id: uuid.UUID, key: str) -> Sequence[int]:
    return session.scalars(
        select(Explanation.feature).where(Explanation.sae_id == sae_id, Explanation.key == key)
    ).all()


def _newest_explanations(session: Session, sae_id: uuid.UUID) -> dict[int, Explanation]:
    """The newest explanation of every explained feature."""
    rows = session.scalars(
        select(Explanation)
        .where(Explanation.sae_id == sae_id)
        .order_by(Explanation.feature, Explanation.created_at.desc())
        .distinct(Explanation.feature)
    )
    return {row.feature: row for row in rows}


def _scored(session: Session, explanations: Sequence[uuid.UUID], key: str) -> set[uuid.UUID]:
    return set(
        session.scalars(
            select(Score.explanation_id).where(
                Score.explanation_id.in_(explanations), Score.key == key
            )
        )
    )


def _summary(session: Session, explanations: Sequence[uuid.UUID], key: str) -> dict[str, Any]:
    """Means over the scored features, of the explanations and of the borrowed ones."""
    rows = session.execute(
        select(Score.value, Score.baseline).where(
            Score.explanation_id.in_(explanations), Score.key == key, Score.value.is_not(None)
        )
    ).all()
    values = [row.value for row in rows]
    baselines = [row.baseline for row in rows if row.baseline is not None]
    return {
        "scored": len(values),
        "mean_value": sum(values) / len(values) if values else None,
        "mean_baseline": sum(baselines) / len(baselines) if baselines else None,
    }


def make_execute(settings: Settings, engine: Engine) -> Execute:
    return InterpRuns(settings, engine)


if __name__ == "__main__":
    main("interp", make_execute)
