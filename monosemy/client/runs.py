"""Runs: submitted, followed, waited for, cancelled, retried, deleted."""

from __future__ import annotations

import builtins
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from monosemy.arguments import refused
from monosemy.client.errors import ServiceUnreachable, TryLater
from monosemy.client.events import server_events
from monosemy.client.listing import listed
from monosemy.client.transport import Transport, segment
from monosemy.console import reporting
from monosemy.errors import MonosemyError
from monosemy.progress import Reporter, StageProgress
from monosemy.specs.part import Part
from monosemy.specs.rest.runs import (
    KindDetail,
    Kinds,
    KindSummary,
    RunChange,
    RunEventMessage,
    RunFamily,
    RunKind,
    RunState,
    RunSummary,
    RunWaiting,
    SpecDraft,
    SpecReading,
)
from monosemy.specs.rest.training import TrainingReadings
from monosemy.specs.run_states import ENDED, ending_in_words, state_in_words

RETRY_SECONDS = 2.0
GIVE_UP_SECONDS = 120.0
"""The service may restart while a run is followed; after this many seconds it counts as gone."""

RunReference = uuid.UUID | str | RunSummary
"""Id of a run, or a run that was answered before."""


_SPEC = "a run spec: a mapping with its kind"


class RunFailed(MonosemyError):
    """A run that was waited for did not succeed; ``run`` has its error and steps."""

    def __init__(self, run: RunFamily) -> None:
        advice = "client.runs.retry(run) takes it up again." if run.state == "failed" else None
        ended = ending_in_words(run.state, run.error).rstrip(".")
        super().__init__(f"The run {run.id} {ended}.", advice)
        self.run = run


class Runs:
    """``client.runs``; every method raises ``ApiError``."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def submit(
        self,
        spec: Mapping[str, Any] | Part,
        *,
        priority: int | None = None,
        idempotency_key: str | None = None,
    ) -> RunFamily:
        """``spec`` is a run spec with its ``kind``, the same that the CLI and ``monosemy.pipeline``
        take.  Sent again with the same ``idempotency_key`` within a day it is the same run; each
        call has one of its own, so that it may safely be sent again where the service is busy."""
        if not isinstance(spec, Part | Mapping):
            raise refused("spec", _SPEC, spec)
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._http.call(
            RunFamily, "POST", "/runs", spec, priority=priority, headers=headers, repeatable=True
        )

    def get(self, run: RunReference) -> RunFamily:
        """With its steps."""
        return self._http.call(RunFamily, "GET", _path(run))

    def list(
        self,
        *,
        state: RunState | None = None,
        kind: RunKind | None = None,
        parent: uuid.UUID | str | None = None,
        limit: int | None = None,
    ) -> Iterator[RunSummary]:
        """Newest first, page by page; ``parent="none"`` leaves out the steps of pipelines."""
        chosen = {"state": state, "kind": kind, "parent": parent}
        return listed(self._http, RunSummary, "/runs", limit, **chosen)

    def kinds(self) -> builtins.list[KindSummary]:
        """Kinds of runs that this service knows, those of its plugins included."""
        return self._http.call(Kinds, "GET", "/runs/kinds").items

    def kind(self, name: str) -> KindDetail:
        """With the JSON schema of its spec."""
        return self._http.call(KindDetail, "GET", f"/runs/kinds/{segment(name)}")

    def parse(self, spec: str | Mapping[str, Any] | Part) -> SpecReading:
        """What the service would say of a spec, or of one in YAML or JSON: nothing is submitted."""
        if isinstance(spec, str):
            draft = SpecDraft(text=spec)
        elif not isinstance(spec, Part | Mapping):
            raise refused("spec", f"{_SPEC}, or its text", spec)
        else:
            data = spec.model_dump(mode="json") if isinstance(spec, Part) else dict(spec)
            draft = SpecDraft(spec=data)
        return self._http.call(SpecReading, "POST", "/runs/parse", draft, repeatable=True)

    def waiting(self, run: RunReference) -> RunWaiting:
        """What a run that is queued waits for, and its place in the queue."""
        return self._http.call(RunWaiting, "GET", f"{_path(run)}/waiting")

    def log(self, run: RunReference, limit: int | None = None) -> Iterator[RunEventMessage]:
        """What the run and its steps told, and how their states changed, the newest first."""
        return listed(self._http, RunEventMessage, f"{_path(run)}/log", limit)

    def cancel(self, run: RunReference) -> RunFamily:
        """It stops at its next step and keeps its checkpoint."""
        return self._http.call(RunFamily, "POST", f"{_path(run)}/cancel")

    def retry(self, run: RunReference) -> RunFamily:
        """Takes a failed or cancelled run up again, from its checkpoint."""
        return self._http.call(RunFamily, "POST", f"{_path(run)}/retry")

    def prioritise(self, run: RunReference, priority: int) -> RunFamily:
        """Of two that wait, the one with the higher priority goes first."""
        return self._http.call(RunFamily, "PATCH", _path(run), RunChange(priority=priority))

    def delete(self, run: RunReference) -> None:
        """One that has ended; what it made stays."""
        self._http.delete(_path(run))

    def readings(
        self,
        run: RunReference,
        *,
        place: int | None = None,
        points: int | None = None,
        after: int | None = None,
    ) -> TrainingReadings:
        """How the training of a run goes or went, of every SAE or the one at ``place``: at most
        ``points`` readings each (400 unless given), those past the step ``after``."""
        wanted: dict[str, Any] = {"place": place, "points": points, "after": after}
        return self._http.call(TrainingReadings, "GET", f"{_path(run)}/training", **wanted)

    def events(
        self, run: RunReference, on_lost: Callable[[], None] | None = None
    ) -> Iterator[RunEventMessage]:
        """Every event of the run and its steps from the first on, until it has ended, over however
        many connections that takes; ``on_lost`` is called when one is lost."""
        for data in follow(self._http, str(_id(run)), on_lost):
            yield self._http.parse(RunEventMessage, data)

    def wait(self, run: RunReference, reporter: Reporter | None = None) -> RunFamily:
        """The run once it has ended well; shows the progress of its steps meanwhile, or gives it to
        ``reporter``.

        Raises ``RunFailed`` where it failed or was cancelled, and ``ApiError``, also when the
        service stays away for two minutes.  The run goes on, whatever becomes of the waiting.
        """
        family = self.get(run)
        if family.state not in ENDED:
            kinds: dict[uuid.UUID, str] = {each.id: each.kind for each in family.children}
            with reporting(reporter) as progress:
                stages: dict[tuple[uuid.UUID, str], ReportedProgress] = {}
                for event in self.events(run, lambda: progress.log("the connection is lost")):
                    progress.check()
                    _show(progress, stages, kinds.get(event.run_id, family.kind), event)
            family = self.get(run)
        if family.state != "succeeded":
            raise RunFailed(family)
        return family


class ReportedProgress(StageProgress):
    """Progress of a stage that runs elsewhere, as its worker last reported it."""

    def __init__(self, kind: str, data: Mapping[str, Any]) -> None:
        super().__init__(f"{kind} {data['stage']}", str(data["unit"]), data.get("total"))
        self.data = data

    def take(self, data: Mapping[str, Any]) -> None:
        self.data, self.done, self.total = data, int(data["done"]), data.get("total")
        self.metrics = dict(data.get("metrics") or {})

    @property
    def elapsed(self) -> float:
        return float(self.data.get("elapsed_seconds") or 0.0)

    @property
    def rate(self) -> float:
        return float(self.data.get("rate") or 0.0)

    @property
    def eta(self) -> float | None:
        return self.data.get("eta_seconds")


def _show(
    reporter: Reporter,
    stages: dict[tuple[uuid.UUID, str], ReportedProgress],
    kind: str,
    event: RunEventMessage,
) -> None:
    data = event.data
    if event.type in ("progress", "stage"):
        key = event.run_id, str(data["stage"])
        stage = stages.setdefault(key, ReportedProgress(kind, data))
        stage.take(data)
        (reporter.finish if event.type == "stage" else reporter.update)(stage)
    elif event.type == "log":
        rest = {name: value for name, value in data.items() if name != "message"}
        reporter.log(f"{kind}: {data.get('message', '')}", **rest)
    elif event.type == "state" and data.get("state") != "queued":
        reporter.log(f"{kind} {state_in_words(str(data.get('state')), data.get('error'))}")


def follow(
    http: Transport, run_id: str, on_lost: Callable[[], None] | None = None
) -> Iterator[str]:
    """The data of every event of a run, JSON, from the first on.

    A lost connection is taken up after the last event that was seen.  Raises ``ApiError``, also
    when the service stays away for ``GIVE_UP_SECONDS``.
    """
    path = f"/runs/{segment(run_id)}"
    last: str | None = None
    lost: float | None = None
    while True:
        headers = {"Last-Event-ID": last} if last else {}
        try:
            with http.stream("GET", f"{path}/events", headers=headers) as response:
                if response.status_code == 204:
                    return
                lost = None
                for event in server_events(response.iter_lines()):
                    last = event.id
                    yield event.data
            if http.get(path)["state"] in ENDED:
                return
        except (ServiceUnreachable, TryLater) as error:
            if error.status == 429:
                raise
            if lost is None:
                lost = time.monotonic()
                if on_lost is not None:
                    on_lost()
            elif time.monotonic() - lost > GIVE_UP_SECONDS:
                raise error from None
            time.sleep(RETRY_SECONDS)


def _id(run: RunReference) -> uuid.UUID | str:
    return run.id if isinstance(run, RunSummary) else run


def _path(run: RunReference) -> str:
    return f"/runs/{segment(_id(run))}"
