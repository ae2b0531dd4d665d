"""What endpoints share: settings, engine, HTTP client; and the session of one request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from service.database.session import transaction
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
    registry: CollectorRegistry
    """This app's own Prometheus metrics."""
    rates: KeyRates
    """How often keys call."""


def get_context(request: Request) -> AppContext:
    context: AppContext = request.app.state.context
    return context


ContextDep = Annotated[AppContext, Depends(get_context)]


def get_session(context: ContextDep) -> Iterator[Session]:
    """The request's transaction: committed before the response leaves, undone on any error."""
    with transaction(context.engine) as session:
        yield session


SessionDep = Annotated[Session, Depends(get_session, scope="function")]
