"""The warm inference server (``python -m workers.inference``): activations and embeddings.

Only parts of this service are let in (``service.edge.inner_access``).  What they name is looked at
again here, where it is loaded: folders and repositories have to be allowed by this server's own
settings.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.middleware import Middleware

from monosemy.errors import MonosemyError
from monosemy.exit_codes import USAGE
from monosemy.specs.inference.activations import ActivationsCall, TokenizeCall
from monosemy.specs.inference.answer import Answer
from monosemy.specs.inference.attention import AttentionCall
from monosemy.specs.inference.contrast import ContrastCall
from monosemy.specs.inference.embedding import EmbedAnswer, EmbedCall, ServerHealth
from monosemy.specs.inference.graph_heads import GraphHeadsCall, GraphScoreCall
from monosemy.specs.inference.graph_steering import GraphSteerCall
from monosemy.specs.inference.steering import ErrorEvent, SteerCall, SteerEvent, event_json
from monosemy.specs.plugins import load_plugins
from monosemy.workspace import Workspace
from service.edge.bodies import BodyLimit
from service.edge.inner_access import PartsOnly, check_inner_exposure
from service.edge.middleware import RequestBoundary
from service.edge.routing import quiet
from service.edge.server import serve
from service.kit import problems
from service.kit.errors import Unavailable
from service.kit.problems import Problem, from_exception
from service.observability import logs, tracing
from service.runs.sources import check_model, check_path
from service.settings import Settings
from service.system.metrics import HttpMetrics
from workers.failures import describe_failure, is_out_of_memory, without_secrets
from workers.inference_bodies import contrast_of, prompt_of, steer_of
from workers.inference_engine import InferenceEngine, NoSaeFolder
from workers.inference_metrics import WarmCollector

logger = logging.getLogger(__name__)

MAX_BYTES = 64 * 2**20
"""Of a request's body: some thousand texts at their longest."""


def create_app(settings: Settings) -> FastAPI:
    """The server's app; models load on first use."""
    registry = CollectorRegistry()
    app = FastAPI(
        title="monosemy inference",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        middleware=[
            Middleware(RequestBoundary, metrics=HttpMetrics(registry)),
            Middleware(PartsOnly, settings=settings),
            Middleware(BodyLimit, limit=MAX_BYTES),
        ],
    )
    megabytes = settings.inference_memory_mb
    engine = InferenceEngine(
        Workspace(settings.artifacts),
        settings.embedder,
        settings.device,
        None if megabytes is None else megabytes * 1_000_000,
        settings.max_memory_mb * 1_000_000,
        partial(check_path, settings),
    )

    reason = partial(_problem, settings)

    @contextmanager
    def with_reason() -> Iterator[None]:
        """Turns whatever fails within into a problem that names its reason."""
        try:
            yield
        except Exception as error:
            raise reason(error) from error

    registry.register(WarmCollector(engine))

    @app.post("/activations")
    def activations(call: ActivationsCall) -> Response:
        with with_reason():
            check_model(settings, call.model)
            prompt = prompt_of(call)
            return _json(
                engine.activations(
                    call.model, call.saes, prompt, call.top_k, call.unexplained, call.clip
                )
            )

    @app.post("/contrast")
    def contrast(call: ContrastCall) -> Response:
        with with_reason():
            check_model(settings, call.model)
            return _json(engine.contrast(call.model, call.sae, contrast_of(call)))

    @app.post("/attention")
    def attention(call: AttentionCall) -> Response:
        with with_reason():
            check_model(settings, call.model)
            return _json(engine.attention(call, prompt_of(call)))

    @app.post("/graph-steering")
    def graph_steering(call: GraphSteerCall) -> Response:
        with with_reason():
            check_model(settings, call.model)
            return _json(engine.steer_graph(call))

    @app.post("/graph-heads")
    def graph_heads(call: GraphHeadsCall) -> Response:
        with with_reason():
            check_model(settings, call.model)
            return _json(engine.graph_heads(call))

    @app.post("/graph-score")
    def graph_score(call: GraphScoreCall) -> Response:
        with with_reason():
            check_model(settings, call.model)
            return _json(engine.graph_score(call))

    @app.post("/tokenize")
    def tokenize(call: TokenizeCall) -> Response:
        with with_reason():
            check_model(settings, call.model)
            path = None if call.sae is None else call.sae.path
            return _json(engine.tokenize(call.model, path, prompt_of(call)))

    @app.post("/steer")
    def steer(call: SteerCall) -> StreamingResponse:
        """Lines of JSON: events as they come; an ``ErrorEvent`` ends a stream that cannot go on."""
        with with_reason():
            check_model(settings, call.model)
            events = engine.steer(call.model, call.sae, steer_of(call))
            return StreamingResponse(_lines(events, reason), media_type="application/x-ndjson")

    @app.post("/embed")
    def embed(call: EmbedCall) -> Response:
        with with_reason():
            return _json(EmbedAnswer(embeddings=engine.embed(call.texts)))

    @app.get("/healthz")
    @quiet
    async def healthz() -> ServerHealth:
        return ServerHealth(status="ok")

    @app.get("/metrics")
    @quiet
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    problems.install(app)
    return app


def _json(answer: Answer) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _lines(events: Iterator[SteerEvent], reason: Callable[[Exception], Problem]) -> Iterator[str]:
    try:
        for event in events:
            yield event_json(event) + "\n"
    except Exception as error:
        # The status is sent already.
        problem = reason(error)
        yield event_json(ErrorEvent(detail=str(problem.detail), status=problem.status_code)) + "\n"


def _problem(settings: Settings, error: Exception) -> Problem:
    """The answer to the API, which passes it on to its caller."""
    if isinstance(error, Problem):
        return error
    if is_out_of_memory(error):
        away = Unavailable("Memory", "There is not enough memory for this request; try again.")
        return from_exception(away)
    if isinstance(error, NoSaeFolder):
        return Problem(404, "not-found", "Not found", str(error))
    if isinstance(error, MonosemyError):
        return Problem(422, "invalid-request", "The request cannot be served", str(error))
    logger.error("a request failed", exc_info=error)
    message, _ = describe_failure(error)
    return Problem(500, "internal", "The request failed", without_secrets(message, settings))


def main() -> None:
    """Serves until stopped."""
    settings = Settings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8421)
    options = parser.parse_args()
    try:
        check_inner_exposure(settings, options.host)
        load_plugins()
    except MonosemyError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(USAGE)
    logs.configure_logging(settings.log_level)
    tracing.configure_tracing(settings.otel_endpoint, "inference")
    serve(create_app(settings), options.host, options.port)


if __name__ == "__main__":
    main()
