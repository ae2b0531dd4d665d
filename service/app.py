"""The API.  ``uvicorn --factory service.app:create_app``, or ``monosemy serve``."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, generate_latest
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette_compress import CompressMiddleware, remove_compress_type
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from monosemy.specs.plugins import load_plugins
from service.api import TAGS, routes
from service.audit.middleware import AuditLog
from service.concurrency.lanes import Lanes
from service.concurrency.shared import Shared
from service.database.session import make_engine
from service.docs import openapi
from service.edge.conditional import Conditional
from service.edge.context import AppContext
from service.edge.exposure import check_exposure, check_prefix
from service.edge.middleware import BelowPath, LoopbackOnly, RequestBoundary
from service.graphs.common import KeptCommon
from service.graphs.loaded import LoadedGraphs
from service.inference.client import InferenceClient
from service.keys.rates import KeyRates
from service.kit import problems
from service.models.tokens import TokenTables
from service.observability.logs import configure_logging
from service.observability.tracing import configure_tracing
from service.pages import explorer
from service.settings import Settings, get_settings
from service.system import endpoints as system
from service.system.checks import READY_SECONDS, Checks
from service.system.doctor import GOOD_SECONDS, found_by_the_api
from service.system.metrics import DatabaseCollector, HttpMetrics
from service.version import version

POOL_SIZE = 10

remove_compress_type("text/event-stream")  # a few bytes at a time, which must not wait

logger = logging.getLogger(__name__)


def create_app(
    settings: Settings | None = None, inference_transport: httpx.BaseTransport | None = None
) -> FastAPI:
    """The application; settings come from the environment unless given.

    Raises ``Misconfigured`` when it would serve others without keys, or keys without a secret,
    ``MonosemyError`` for a plugin that cannot be loaded.
    """
    settings = settings or get_settings()
    check_exposure(settings)
    load_plugins()
    registry = CollectorRegistry()
    metrics = HttpMetrics(registry)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        configure_logging(settings.log_level)
        configure_tracing(settings.otel_endpoint, "api")
        engine = make_engine(settings.database_url, pool_size=POOL_SIZE)
        inference = InferenceClient.of(settings, inference_transport)
        collector = DatabaseCollector(engine)
        registry.register(collector)
        rates = KeyRates(settings.redis_url)
        checks = Checks(settings, inference)
        lanes = Lanes(settings)
        app.state.context = AppContext(
            settings,
            engine,
            inference,
            TokenTables(),
            LoadedGraphs(),
            KeptCommon(),
            registry,
            rates,
            lanes,
            Shared(partial(lanes.checks.run, checks), READY_SECONDS),
            Shared(partial(lanes.reports.run, partial(generate_latest, registry)), 0.0),
            Shared(partial(lanes.doctor.run, partial(found_by_the_api, settings)), GOOD_SECONDS),
        )
        logger.info("started", extra={"version": version(), "keys": settings.require_keys})
        try:
            yield
        finally:
            registry.unregister(collector)
            inference.close()
            checks.close()
            rates.close()
            engine.dispose()

    app = FastAPI(
        title="Monosemy",
        version=version(),
        summary="Train sparse autoencoders, explain and score their features, serve the result.",
        description="Errors are problem details (RFC 9457, `application/problem+json`). Listings"
        " are paged by opaque cursors.",
        openapi_tags=TAGS,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=[
            Middleware(BelowPath, prefix=settings.path_prefix),
            *_behind(settings.trusted_proxy_addresses),
            *_cross_origin(settings.allowed_origins),
            Middleware(RequestBoundary, metrics=metrics),
            *([] if settings.require_keys else [Middleware(LoopbackOnly, settings=settings)]),
            Middleware(AuditLog),
            Middleware(CompressMiddleware, minimum_size=1024, brotli=False, zstd_level=3),
            Middleware(Conditional),
        ],
    )
    problems.install(app)
    openapi.install(app)
    app.router.routes.extend(routes)
    app.include_router(system.router, include_in_schema=False)
    explorer.install(app)
    check_prefix(app, settings.path_prefix)
    return app


def _behind(proxies: list[str]) -> list[Middleware]:
    """Outermost: the sender and the scheme that these proxies name are the request's; what others
    write into the same headers is not looked at.  Servers must not do so either: uvicorn is started
    with ``--no-proxy-headers``."""
    return [Middleware(ProxyHeadersMiddleware, trusted_hosts=proxies)] if proxies else []


def _cross_origin(origins: list[str]) -> list[Middleware]:
    """Outside the other middleware, so that allowed pages can read errors too."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type", *_SENT],
            expose_headers=[
                "X-Request-ID",
                "ETag",
                "Retry-After",
                "Location",
                "X-Columns",
                "X-Rows",
            ],
            max_age=600,
        )
    ]


_SENT = ["Idempotency-Key", "If-None-Match", "Last-Event-ID", "X-Request-ID"]
