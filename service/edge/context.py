"""What endpoints share: settings, engine, HTTP client; and the session of one request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from monosemy.specs.rest.system import Check, Findings
from service.concurrency.lanes import Lanes
from service.concurrency.shared import Shared
from service.graphs.common import KeptCommon
from service.graphs.loaded import LoadedGraphs
from service.inference.client import InferenceClient
from service.keys.rates import KeyRates
from service.models.tokens import TokenTables
from service.settings import Settings


@dataclass(frozen=True)
class AppContext:
    """Made by the app's lifespan, closed with it."""

    settings: Settings
    engine: Engine
    inference: InferenceClient
    """To the warm inference server."""
    tokens: TokenTables
    """Token tables of host models, kept in memory."""
    graphs: LoadedGraphs
    """Attribution graphs that were asked for last, kept in memory."""
    common: KeptCommon
    """What graphs have in common, of those that were compared last."""
    registry: CollectorRegistry
    """This app's own Prometheus metrics."""
    rates: KeyRates
    """How often keys call."""
    lanes: Lanes
    """Threads and places set apart for what may take long."""
    readiness: Shared[dict[str, Check]]
    """What the last look at the parts found."""
    metrics: Shared[bytes]
    """The Prometheus page; scrapes at the same time share one."""
    findings: Shared[Findings]
    """What a look at the whole deployment found."""


async def get_context(request: Request) -> AppContext:
    context: AppContext = request.app.state.context
    return context


ContextDep = Annotated[AppContext, Depends(get_context)]


async def get_session(request: Request) -> AsyncIterator[Session]:
    """The request's transaction: committed before the response leaves, undone on any error.

    A session speaks to the database only when it is first used, in the endpoint's thread, and when
    it ends.  The end has a thread of its own: were all the pool's threads waiting for a connection,
    none would be left to give one back.
    """
    context: AppContext = request.app.state.context
    session = Session(context.engine, expire_on_commit=False)
    own_thread = CapacityLimiter(1)
    try:
        yield session
        await to_thread.run_sync(session.commit, limiter=own_thread)
    finally:
        if session.in_transaction():
            await to_thread.run_sync(session.close, limiter=own_thread)


SessionDep = Annotated[Session, Depends(get_session, scope="function")]
