"""Taking in a run: names checked, rows stored, queues woken; and what is answered then."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import BackgroundTasks, Depends, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from monosemy.specs import PENDING_SAE, ModelSpec, Part, RunSpec
from monosemy.specs.references import (
    ExplanationReference,
    SaeReference,
    SetReference,
    parts_of,
    references,
)
from monosemy.specs.rest.runs import RunDetail, RunFamily
from service.database.tables import Model, Run, Sae
from service.edge.context import AppContext, ContextDep, SessionDep
from service.explanations.repository import explanation_of_id
from service.keys.authorize import Caller, CallerDep
from service.keys.ownership import DEFAULT_PRIORITY, check_owner, check_priority
from service.kit.errors import InvalidRequest, Listing, NotFound
from service.observability import logs
from service.runs.ceilings import check_ceilings
from service.runs.idempotency import IdempotencyKey, remember_run, submitted_before
from service.runs.lifecycle import create_run
from service.runs.names import check_unique_name, name_warnings
from service.runs.queries import get_family
from service.runs.sites import check_sites
from service.runs.sources import check_sources
from service.runs.subjects import name_subjects
from service.runs.wake import wake
from service.runs.warnings import warnings_of
from service.saes.repository import find_sae
from service.saes.views import sae_hooks
from service.sets.repository import members

Priority = Annotated[
    int, Query(ge=-100, le=100, description="Of runs that wait, those with a higher one go first.")
]


@dataclass(frozen=True)
class Submitting:
    """What a submission brings besides its spec, and what it is answered through.  403 for a
    priority that the caller may not give."""

    session: Session
    context: AppContext
    background: BackgroundTasks
    request: Request
    response: Response
    caller: Caller
    priority: int = DEFAULT_PRIORITY
    once: str | None = None

    def __post_init__(self) -> None:
        check_priority(self.caller, self.priority)

    def take(self, spec: RunSpec) -> RunFamily:
        """As ``submitted`` does, of a spec whose names are checked."""
        check_names(self.session, spec, self.caller)
        return submitted(
            self.session,
            self.context,
            self.background,
            self.request,
            self.response,
            spec,
            self.caller.key,
            self.once,
            self.priority,
        )


def _submitting(
    session: SessionDep,
    context: ContextDep,
    background: BackgroundTasks,
    request: Request,
    response: Response,
    caller: CallerDep,
    priority: Priority = DEFAULT_PRIORITY,
    idempotency_key: IdempotencyKey = None,
) -> Submitting:
    return Submitting(
        session, context, background, request, response, caller, priority, idempotency_key
    )


SubmittingDep = Annotated[Submitting, Depends(_submitting)]


def submitted(
    session: Session,
    context: AppContext,
    background: BackgroundTasks,
    request: Request,
    response: Response,
    spec: RunSpec,
    key: uuid.UUID | None,
    once: str | None,
    priority: int = 0,
) -> RunFamily:
    """Stores the run and tells the workers once that is committed.

    With an ``Idempotency-Key``, ``once``, an equal submission gets the run of the first one.  422
    for a spec that names what this server does not fetch, 409 for a name that is taken where it
    must be the only one.
    """
    before = submitted_before(session, key, once, spec) if once is not None else None
    if before is not None:
        run_id = before
        response.headers["Idempotency-Replayed"] = "true"
    else:
        check_sources(context.settings, spec)
        check_ceilings(context.settings, spec, width_of(session, spec))
        check_sites(session, spec)
        check_unique_name(session, spec)
        run_id = create_run(session, spec, created_by=key, priority=priority).id
        if once is not None:
            remember_run(session, key, once, run_id)
    response.headers["Location"] = request.url_for("show_run", run_id=run_id).path
    family = family_of(session, run_id)
    announce(background, context, family)
    return family


def width_of(session: Session, spec: Part) -> int | None:
    """Of the host models' streams, where an SAE of such a model is here already."""
    widths = []
    for _, model in parts_of(spec, ModelSpec):
        info = session.scalar(select(Model.info).where(Model.name == model.name).limit(1)) or {}
        widths.append(info.get("d_model"))
    return max((width for width in widths if isinstance(width, int)), default=None)


def check_names(session: Session, spec: Part, caller: Caller) -> None:
    """A spec that names SAEs, sets, and explanations names those that exist; else 422.

    403 for a run that would change somebody else's SAE.
    """
    saes: dict[uuid.UUID, tuple[str, str]] = {}
    for reference, mark in references(spec, SaeReference):
        sae = _named(session, reference.where, reference.value)
        if mark.changed:
            check_owner(caller, sae.created_by, f"the SAE '{sae.name}'")
        if mark.site is not None:
            _check_site(sae, mark.site, reference.where)
        if mark.distinct and sae.id in saes:
            same = f"'{reference.value}' is the same SAE as '{saes[sae.id][1]}'"
            raise InvalidRequest([(reference.where, same)])
        saes.setdefault(sae.id, (sae.name, reference.value))
    for reference, _ in references(spec, SetReference):
        if not members(session, name=reference.value):
            missing = NotFound("set", reference.value, Listing.SETS)
            raise InvalidRequest([(reference.where, str(missing))])
    for reference, _ in references(spec, ExplanationReference):
        explanation = explanation_of_id(session, reference.value)
        if explanation is None or explanation.sae_id not in saes:
            owner = " and ".join(f"'{name}'" for name, _ in saes.values()) or "no SAE"
            raise InvalidRequest(
                [(reference.where, f"{owner} has no explanation {reference.value}")]
            )


def _check_site(sae: Sae, kind: str, field: str) -> None:
    """422 unless it reads and writes one site of this kind."""
    hooks = sae_hooks(sae)
    for does, places in (("reads", hooks.reads), ("writes", hooks.writes)):
        sites = [each.site for each in places]
        if len(sites) > 1 or not sites[0].endswith(f".{kind}"):
            there = ", ".join(sites)
            raise InvalidRequest(
                [(field, f"'{sae.name}' {does} {there}; an SAE at {kind} is needed")]
            )


def _named(session: Session, field: str, reference: str) -> Sae:
    if reference == PENDING_SAE:
        raise InvalidRequest(
            [(field, f"'{PENDING_SAE}' is for the steps of a pipeline; name an SAE")]
        )
    try:
        return find_sae(session, reference)[0]
    except NotFound as missing:
        raise InvalidRequest([(field, str(missing))]) from None


def family_of(session: Session, run_id: uuid.UUID) -> RunFamily:
    logs.run_id.set(str(run_id))
    session.flush()
    rows = get_family(session, run_id)
    if rows is None:
        raise NotFound("run", run_id, Listing.RUNS)
    run, *children = details_of(session, [rows[0], *rows[1]])
    return RunFamily(**dict(run), children=children)


def details_of(session: Session, runs: Sequence[Run]) -> list[RunDetail]:
    """As the API shows them, what they are about in words."""
    details = [RunDetail.model_validate(run) for run in runs]
    for each in details:
        renamed = name_warnings(session, each)
        each.warnings = [*renamed, *warnings_of(each.queue, each.result)]
    name_subjects(session, details)
    return details


def announce(background: BackgroundTasks, context: AppContext, family: RunFamily) -> None:
    """Wakes the queues of what can start now, once the transaction is committed."""
    waited_for = {run.id for run in family.children if run.state != "succeeded"}
    startable = {
        run.queue
        for run in (family, *family.children)
        if run.state == "queued" and run.depends_on not in waited_for
    }
    for queue in sorted(startable - {"none"}):
        background.add_task(wake, context.settings.redis_url, queue)
