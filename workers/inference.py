"""The warm inference server (``python -m workers.inference``): activations and embeddings.

It trusts its callers: only the API, which checks keys and texts, should reach it.
"""

from __future__ import annotations

import argparse
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from monosemy.errors import MonosemyError
from monosemy.specs import ModelSpec
from monosemy.workspace import Workspace
from service import logs, problems
from service.problems import Problem, from_exception, problem_response, unavailable
from service.settings import Settings
from workers.inference_engine import InferenceEngine, NoSaeFolder
from workers.inference_engine import Request as Asked


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SaePlace(_Body):
    id: str
    path: str
    """SAE folder, relative to the artifact root."""
    site: str


class ActivationsBody(_Body):
    sae: SaePlace
    model: ModelSpec
    text: str = Field(min_length=1, max_length=100_000)
    top_k: int = Field(10, ge=1, le=1000)
    features: list[int] | None = Field(None, max_length=1000)


class EmbedBody(_Body):
    texts: list[str] = Field(min_length=1, max_length=256)


def create_app(settings: Settings) -> FastAPI:
    """The server's app; models load on first use."""
    app = FastAPI(title="monosemy inference", docs_url=None, redoc_url=None)
    engine = InferenceEngine(Workspace(settings.artifacts), settings.embedder, settings.device)

    @app.post("/activations")
    def activations(body: ActivationsBody) -> dict[str, Any]:
        place = body.sae
        return engine.activations(
            Asked(body.model, place.path, place.site, body.text, body.top_k, body.features)
        )

    @app.post("/embed")
    def embed(body: EmbedBody) -> dict[str, Any]:
        return {"embeddings": engine.embed(body.texts)}

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    def answer(request: Request, error: Exception) -> JSONResponse:
        return problem_response(_problem(error), request.url.path, None)

    problems.install(app)
    for kind in (MonosemyError, MemoryError, RuntimeError):
        app.add_exception_handler(kind, answer)
    return app


def _problem(error: Exception) -> Problem:
    if isinstance(error, NoSaeFolder):
        return Problem(404, "not-found", "Not found", str(error))
    if isinstance(error, MonosemyError):
        return Problem(422, "invalid-request", "The request cannot be served", str(error))
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return unavailable("Memory", "There is not enough memory for this request; try again.")
    return from_exception(error)


def main() -> None:
    """Serves until stopped."""
    settings = Settings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8421)
    options = parser.parse_args()
    logs.configure_logging(settings.log_level)
    uvicorn.run(create_app(settings), host=options.host, port=options.port, log_config=None)


if __name__ == "__main__":
    main()
