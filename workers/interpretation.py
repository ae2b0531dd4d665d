"""Explain and score runs, led or helped, and their results.

Both kinds of worker run this; what they bring as tools decides which scorers they can.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from monosemy.errors import Cancelled, DataError, MonosemyError, Stopped
from monosemy.interp.judge_test.result import RoleTest
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.ledger import BudgetSpent
from monosemy.interp.labelling import (
    none_done,
)
from monosemy.interp.texts import FeatureTexts, choose_features
from monosemy.interp.tools import Tools
from monosemy.progress import SILENT, Reporter, Stage
from monosemy.specs import (
    ExplainRun,
    JudgeSpec,
    Part,
    ScoreRun,
    needs_host,
    needs_judge,
)
from monosemy.specs.parts import JudgeTesting
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.database.tables import Model, Sae
from service.settings.settings import Settings
from workers import interp_rows as rows
from workers import work_items
from workers.dry_run import forecast_run
from workers.feature_work import ExplainWork, FeatureWork, ScoreWork
from workers.judge_testing import kept_test, role_of, tested_judge
from workers.judges import open_judge
from workers.saes import named_sae, opened_index
from workers.shared_run import Share, SharedRun
from workers.stoppable import to_its_end

MakeTools = Callable[[uuid.UUID, Sae, Part], AbstractAsyncContextManager[Tools]]
"""Run id, SAE and spec to the tools for them."""

_SECONDS = 1.0
"""Between two looks at how far the others have come."""
_NOTICES = 100
"""Notices that wait to be written; of more the oldest are dropped."""


@dataclass
class _Progress:
    """How much of the progress has been reported."""

    stage: Stage
    ended: int
    reporter: Reporter
    notices: deque[str]
    """Notices about the judge still to be reported: gathered by the event loop, which must not
    wait for the database."""

    def tell(self) -> None:
        while self.notices:
            self.reporter.log(self.notices.popleft())


class Interpretation:
    """The part of one worker process in explain and score runs."""

    def __init__(self, settings: Settings, engine: Engine, make_tools: MakeTools) -> None:
        self.settings, self.engine, self.make_tools = settings, engine, make_tools
        self.workspace = Workspace(settings.artifacts)
        self.default_judge = settings.judge_model or str(settings.judge_url)
        """Names the judge where a spec does not, so that equal work can be told before it."""
        self.owner = f"features-{uuid.uuid4().hex}"

    async def lead(
        self, run_id: uuid.UUID, attempt: int, spec: ExplainRun | ScoreRun, reporter: Reporter
    ) -> dict[str, Any]:
        """Plans and works until all features have ended; the run's result.

        A spent budget ends it too, with what is done.  Raises ``JudgeError`` where nothing at all
        could be done.
        """
        sae, texts = self._texts(spec.sae)
        async with self.make_tools(run_id, sae, spec) as tools:
            work = self._work(run_id, sae, texts, spec, tools)
            notices: deque[str] = deque(maxlen=_NOTICES)
            if tools.judge is not None:
                tools.judge.report_to(notices.append)
            if spec.dry_run:
                tests = self._tests(spec)
                return await forecast_run(self.engine, sae, texts, spec, tools, work, tests)
            await asyncio.to_thread(self._plan, run_id, attempt, sae, texts, spec, work.key)
            try:
                stopped = await self._test_judge(run_id, spec, tools, work, reporter)
            except BudgetSpent as spent:
                stopped = str(spent)
            if stopped is not None:
                return await asyncio.to_thread(self._result, run_id, sae, spec, work, stopped)
            await work.prepare(reporter)
            share = self._share(run_id, spec)
            shared = SharedRun(share, work.one, reporter.check, tell=notices.append)
            ended, total, _ = self._ended(run_id)
            with reporter.stage(spec.kind, total, "features", ended) as stage:
                progress = _Progress(stage, ended, reporter, notices)
                watcher = asyncio.create_task(self._show(run_id, progress, tools))
                try:
                    await shared.lead()
                except BudgetSpent as spent:
                    stopped = str(spent)
                except (asyncio.CancelledError, Stopped):
                    # Cancelled from without, or stopped by a check of its own: whichever is first.
                    await to_its_end(_withdraw_if_cancelled(tools, reporter))
                    raise
                finally:
                    watcher.cancel()
                    await asyncio.gather(watcher, return_exceptions=True)
                    await asyncio.to_thread(progress.tell)
                await _withdraw(tools)
                self._advance(run_id, progress, tools)
        return await asyncio.to_thread(self._result, run_id, sae, spec, work, stopped)

    async def help(
        self,
        run_id: uuid.UUID,
        spec: ExplainRun | ScoreRun,
        check: Callable[[], None],
        leave: Callable[[], bool],
    ) -> int:
        """Takes part in a run that another worker leads; the number of features ended."""
        sae, texts = self._texts(spec.sae)
        async with self.make_tools(run_id, sae, spec) as tools:
            work = self._work(run_id, sae, texts, spec, tools)
            if tools.judge is not None and self._tests(spec):
                work.judge_test = await kept_test(self.engine, tools.judge, role_of(spec))
                if work.judge_test is None:
                    return 0  # the leader is about to test the judge
                if self._refused(spec, work.judge_test):
                    return 0
            await work.prepare(SILENT)
            done = await SharedRun(self._share(run_id, spec), work.one, check, leave).help()
            await _withdraw(tools)
            return done

    async def _test_judge(
        self,
        run_id: uuid.UUID,
        spec: ExplainRun | ScoreRun,
        tools: Tools,
        work: FeatureWork,
        reporter: Reporter,
    ) -> str | None:
        """Tests the run's judge unless that is done, or there is nothing to ask it; why the run
        must not go on, or None."""
        if tools.judge is None or not self._tests(spec):
            return None
        ended, total, _ = await asyncio.to_thread(self._ended, run_id)
        if ended == total:
            return None
        async with self._live(run_id, tools.judge) as live:
            test = await tested_judge(self.engine, run_id, live, role_of(spec), reporter)
        work.judge_test = test
        return test.warning() if self._refused(spec, test) else None

    def _testing(self, spec: ExplainRun | ScoreRun) -> JudgeTesting:
        return judge_of(spec).test or self.settings.judge_test

    @asynccontextmanager
    async def _live(self, run_id: uuid.UUID, judge: Judge) -> AsyncIterator[Judge]:
        """The judge without batches, in the same ledger: nobody waits a day for its test."""
        if not judge.spec.batch:
            yield judge
            return
        spec = judge.spec.model_copy(update={"batch": False})
        live = open_judge(self.settings, self.engine, run_id, spec)
        assert live is not None
        async with live:
            yield live

    def _tests(self, spec: ExplainRun | ScoreRun) -> bool:
        return needs_judge(spec) and self._testing(spec) != "skip"

    def _refused(self, spec: ExplainRun | ScoreRun, test: RoleTest) -> bool:
        return self._testing(spec) == "require" and test.verdict == "chance"

    def _texts(self, reference: str) -> tuple[Sae, FeatureTexts]:
        sae = named_sae(self.engine, reference)
        return sae, FeatureTexts(*opened_index(self.workspace, sae))

    def _share(self, run_id: uuid.UUID, spec: ExplainRun | ScoreRun) -> Share:
        return Share(
            self.engine,
            run_id,
            self.owner,
            self.settings.lease_seconds,
            judge_of(spec).features_at_once,
        )

    def _work(
        self,
        run_id: uuid.UUID,
        sae: Sae,
        texts: FeatureTexts,
        spec: ExplainRun | ScoreRun,
        tools: Tools,
    ) -> FeatureWork:
        judge = judge_of(spec).model or judge_of(spec).url or self.default_judge
        if needs_host(spec):
            host = tools.need_hosted_sae().identity
            judge = f"{host}:{judge}" if needs_judge(spec) else host
        if isinstance(spec, ExplainRun):
            return ExplainWork(run_id, sae.id, texts, spec.explanation, tools, judge)
        return ScoreWork(self.engine, run_id, sae.id, texts, spec.scoring, tools, judge)

    def _plan(
        self,
        run_id: uuid.UUID,
        attempt: int,
        sae: Sae,
        texts: FeatureTexts,
        spec: ExplainRun | ScoreRun,
        key: str,
    ) -> None:
        with transaction(self.engine) as session:
            if attempt == 1:
                work_items.try_failed_again(session, run_id)
            if isinstance(spec, ScoreRun):
                if not rows.any_explanation(session, sae.id):
                    raise MonosemyError(
                        "There are no explanations to score.", "Submit an explain run."
                    )
                work_items.plan_scores(
                    session,
                    run_id,
                    sae.id,
                    key,
                    spec.scoring.seed,
                    spec.features,
                    spec.explanation,
                )
                return
            done = rows.explained_features(session, sae.id, key)
            chosen = choose_features(texts, spec.explanation.features)
            work_items.plan_features(session, run_id, chosen, done)

    def _ended(self, run_id: uuid.UUID) -> tuple[int, int, int]:
        """Features that have ended, all of them, and those that failed."""
        with transaction(self.engine) as session:
            counts = work_items.counts(session, run_id)
        return counts.ended, counts.ended + counts.open, counts.failed

    async def _show(self, run_id: uuid.UUID, progress: _Progress, tools: Tools) -> None:
        while True:
            await asyncio.sleep(_SECONDS)
            await asyncio.to_thread(self._advance, run_id, progress, tools)

    def _advance(self, run_id: uuid.UUID, progress: _Progress, tools: Tools) -> None:
        progress.tell()
        ended, _, failed = self._ended(run_id)
        with transaction(self.engine) as session:
            spent = rows.spent(session, run_id)
        metrics = {"failed": failed, "calls": spent["calls"], "cost": round(spent["cost"], 4)}
        if tools.judge is not None and tools.judge.spec.batch:
            metrics["in_batches"] = tools.judge.in_batches
        progress.stage.advance(max(0, ended - progress.ended), **metrics)
        progress.ended = max(ended, progress.ended)

    def _result(
        self,
        run_id: uuid.UUID,
        sae: Sae,
        spec: ExplainRun | ScoreRun,
        work: FeatureWork,
        stopped: str | None,
    ) -> dict[str, Any]:
        key, test = work.key, work.judge_test
        with transaction(self.engine) as session:
            counts = work_items.counts(session, run_id)
            failures = work_items.failures(session, run_id)
            usage = rows.spent(session, run_id)
            result: dict[str, Any] = {
                "sae_id": str(sae.id),
                "done": counts.done,
                "skipped": counts.skipped,
                "failed": counts.failed,
                "left": counts.open,
                "failures": failures,
                "usage": usage,
            }
            if stopped is not None:
                result["stopped"] = stopped
            if test is not None:
                result["judge_test"] = asdict(test.brief())
            result["warnings"] = self._doubts(session, sae, spec)
            if isinstance(spec, ScoreRun):
                result["scorer"] = spec.scoring.scorer
                result |= rows.score_summary(session, sae.id, key)
            else:
                result["features"] = rows.some_explained(session, sae.id, key)
        refused = test is not None and self._refused(spec, test)
        if not counts.done and not counts.skipped and not refused:
            if failures:
                raise DataError(none_done(failures, counts.failed))
            raise DataError(stopped or "There was nothing to do: its explanations are gone.")
        return result

    def _doubts(self, session: Session, sae: Sae, spec: ExplainRun | ScoreRun) -> list[str]:
        """Why what the run made may mislead, whatever came of it."""
        if not needs_judge(spec):
            return []
        model = session.get(Model, sae.model_id)
        judge = judge_of(spec).model or self.settings.judge_model
        if model is None or judge is None or judge.casefold() != model.name.casefold():
            return []
        does = "explains" if isinstance(spec, ExplainRun) else "scores"
        return [f"The model that {does} is the host model itself, {model.name}."]


async def _withdraw(tools: Tools) -> None:
    if tools.judge is not None:
        await tools.judge.withdraw()


async def _withdraw_if_cancelled(tools: Tools, reporter: Reporter) -> None:
    """A worker that only goes away leaves its batches to the next one."""
    try:
        reporter.check()
    except Cancelled:
        await _withdraw(tools)
    except Stopped:
        pass


def judge_of(spec: ExplainRun | ScoreRun) -> JudgeSpec:
    """Which judge a run asks."""
    return spec.explanation.judge if isinstance(spec, ExplainRun) else spec.scoring.judge
