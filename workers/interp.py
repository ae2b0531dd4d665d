"""The interpretation worker (``python -m workers.interp``): explain, score.  No torch."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from sqlalchemy import Engine

from monosemy.data.store import TokenStore
from monosemy.errors import MonosemyError
from monosemy.index.reader import IndexReader
from monosemy.interp.explainers.base import Explanation as Explained
from monosemy.interp.judging.judge import Judge
from monosemy.interp.labelling import (
    explain_features,
    explanation_key,
    score_explanations,
    score_key,
)
from monosemy.interp.registry import create_explainer, create_scorer
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.texts import FeatureTexts, choose_features
from monosemy.interp.tools import Tools
from monosemy.specs import ExplainRun, JudgeSpec, ScoreRun, parse_spec
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.database.tables import Run, Sae
from service.inference.client import InferenceClient
from service.settings import Settings
from workers import interp_rows as rows
from workers.embeddings import Embeddings
from workers.reporter import RunReporter
from workers.saes import named_sae
from workers.stoppable import until_stopped
from workers.worker import Execute, main


class InterpRuns:
    """Executes the runs that need the judge.  Every result is stored as it arrives."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings, self.engine = settings, engine
        self.workspace = Workspace(settings.artifacts)
        self.embeddings = Embeddings(engine, InferenceClient(settings.inference_url))

    def __call__(self, run: Run, reporter: RunReporter) -> dict[str, Any]:
        spec = parse_spec(run.spec)
        if isinstance(spec, ExplainRun):
            work = self._explain(run.id, spec, reporter)
        elif isinstance(spec, ScoreRun):
            work = self._score(run.id, spec, reporter)
        else:
            raise MonosemyError(f"This worker does not execute runs of kind '{run.kind}'.")
        result = asyncio.run(until_stopped(work, reporter))
        self.embeddings.fill(uuid.UUID(result["sae_id"]), reporter)
        return result

    async def _explain(
        self, run_id: uuid.UUID, spec: ExplainRun, reporter: RunReporter
    ) -> dict[str, Any]:
        sae, texts = self._texts(spec.sae)
        features = choose_features(texts, spec.explanation.features)
        async with self._judge(spec.explanation.judge) as judge:
            explainer = create_explainer(spec.explanation, Tools(judge=judge))
            text_id = texts.store.text_id
            key = explanation_key(spec.explanation, explainer, text_id, self._judge_name(spec))
            with transaction(self.engine) as session:
                done = rows.explained_features(session, sae.id, key)
            self.embeddings.try_again()

            def store(feature: int, found: Explained) -> None:
                embedding = self.embeddings.of(rows.text_to_embed(found.label, found.text))
                with transaction(self.engine) as session:
                    rows.publish_explanation(
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
            scorer = create_scorer(spec.scoring, Tools(judge=judge))
            key = score_key(spec.scoring, scorer, texts.store.text_id, self._judge_name(spec))
            with transaction(self.engine) as session:
                newest = rows.newest_explanations(session, sae.id)
                scored = rows.scored_explanations(session, [e.id for e in newest.values()], key)
            if not newest:
                raise MonosemyError("There are no explanations to score.", "Submit an explain run.")
            explanations = {feature: e.text for feature, e in newest.items()}
            wanted = [feature for feature, e in newest.items() if e.id not in scored]

            def store(feature: int, result: ScoreResult) -> None:
                with transaction(self.engine) as session:
                    rows.publish_score(session, newest[feature].id, run_id, key, result)

            tally = await score_explanations(
                texts, explanations, wanted, spec.scoring, scorer, store, reporter
            )
        with transaction(self.engine) as session:
            summary = rows.score_summary(session, [e.id for e in newest.values()], key)
        return {"sae_id": str(sae.id), **tally.as_dict(), **summary}

    def _texts(self, reference: str) -> tuple[Sae, FeatureTexts]:
        sae = named_sae(self.engine, reference)
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
                "OpenAI-compatible endpoint, or start the local one: "
                "python -m monosemy.interp.local_judge.",
            )
        key = settings.judge_api_key.get_secret_value() if settings.judge_api_key else None
        return Judge(settings.judge_url, key, settings.judge_model, spec)

    def _judge_name(self, spec: ExplainRun | ScoreRun) -> str:
        """Which judge the work is for, known before it is first called."""
        asked = spec.explanation.judge if isinstance(spec, ExplainRun) else spec.scoring.judge
        return asked.model or self.settings.judge_model or str(self.settings.judge_url)


def make_execute(settings: Settings, engine: Engine) -> Execute:
    return InterpRuns(settings, engine)


if __name__ == "__main__":
    main("interp", make_execute)
