"""The interpretation worker (``python -m workers.interp``): explain, score.  No torch."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Engine

from monosemy.errors import Interrupted, MonosemyError
from monosemy.interp.embedding import ThreadedEmbed
from monosemy.interp.tools import Tools
from monosemy.progress import Reporter
from monosemy.specs import ExplainRun, Part, ScoreRun, parse_stored_spec
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.database.tables import Run, Sae
from service.inference.client import InferenceClient
from service.runs import repository
from service.search.embeddings import Embeddings
from service.settings import Settings
from workers import work_items
from workers.dispatch import Dispatch
from workers.interpretation import Interpretation, judge_of
from workers.judges import open_judge
from workers.reporter import RunReporter
from workers.stoppable import until_stopped
from workers.worker import main

_LOOK_SECONDS = 2.0
"""Between two looks of a helper for a run that waits."""


class InterpRuns(Dispatch):
    """Executes the runs that need the judge.  Every result is stored as it arrives."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.engine = engine
        self.inference = InferenceClient.of(settings)
        self.embeddings = Embeddings(engine, self.inference, settings.embedding_width)
        super().__init__(
            settings,
            Workspace(settings.artifacts),
            {"explain": self._interpret, "score": self._interpret},
        )
        self.interpretation = Interpretation(settings, engine, self._tools)

    def _interpret(
        self, run: Run, spec: ExplainRun | ScoreRun, reporter: RunReporter
    ) -> dict[str, Any]:
        work = self.interpretation.lead(run.id, run.attempt, spec, reporter)
        result = asyncio.run(until_stopped(work, reporter))
        self.embeddings.fill(uuid.UUID(result["sae_id"]), reporter)
        return result

    def assist(self, stopping: Callable[[], bool]) -> bool:
        """Helps a run that another worker leads; False if there is none.

        Goes home as soon as a run waits that nobody has taken.
        """
        with transaction(self.engine) as session:
            run = work_items.run_with_open_items(session, "interp")
        if run is None:
            return False
        spec = parse_stored_spec(run.spec)
        assert isinstance(spec, ExplainRun | ScoreRun)

        looked = [time.monotonic(), False]

        def leave() -> bool:
            if time.monotonic() - looked[0] > _LOOK_SECONDS:
                with transaction(self.engine) as session:
                    looked[:] = [time.monotonic(), repository.anything_waits(session, "interp")]
            return bool(looked[1])

        reporter = Reporter(lambda: Interrupted if stopping() else None)
        work = self.interpretation.help(run.id, spec, reporter.check, leave)
        try:
            return asyncio.run(until_stopped(work, reporter)) > 0
        except (Interrupted, MonosemyError):
            return False  # the leader meets the same trouble, and tells of it

    @asynccontextmanager
    async def _tools(self, run_id: uuid.UUID, sae: Sae, spec: Part) -> AsyncIterator[Tools]:
        del sae
        embed = None
        if self.inference.url:
            embed = ThreadedEmbed(self.inference.embed, self.settings.embedder)
        assert isinstance(spec, ExplainRun | ScoreRun)
        judge = open_judge(self.settings, self.engine, run_id, judge_of(spec))
        if judge is None:
            yield Tools(embed=embed)
            return
        async with judge:
            yield Tools(judge=judge, embed=embed)


def make_execute(settings: Settings, engine: Engine) -> InterpRuns:
    return InterpRuns(settings, engine)


if __name__ == "__main__":
    main("interp", make_execute, lambda runs: runs.assist)
