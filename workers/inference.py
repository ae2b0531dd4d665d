"""The warm inference server (``python -m workers.inference``): activations and embeddings.

It trusts its callers: only the API, which checks keys and texts, should reach it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from monosemy.errors import DataError, MonosemyError
from monosemy.specs import ModelSpec
from monosemy.steering.pushes import Push
from monosemy.steering.writing import Writing
from monosemy.workspace import Workspace
from service import logs, problems
from service.problems import Problem, from_exception, problem_response, unavailable
from service.settings import Settings
from workers.inference_engine import MAX_TOKENS, InferenceEngine, NoSaeFolder
from workers.inference_engine import Request as Asked
from workers.steered_text import Prompt, Steer


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


class PushBody(_Body):
    latent: int = Field(ge=0)
    strength: float = Field(allow_inf_nan=False)
    mode: Literal["add", "orthogonal", "clamp"] = "add"


class WritingBody(_Body):
    new_tokens: int = Field(64, ge=1, le=MAX_TOKENS)
    temperature: float = Field(0.7, ge=0, le=10)
    seed: int = Field(0, ge=0, lt=2**63)
    where: Literal["all", "new"] = "all"
    special_tokens: bool = False
    logprobs: int = Field(0, ge=0, le=100)


class SteerBody(_Body):
    sae: SaePlace
    model: ModelSpec
    prompt: str | None = Field(None, min_length=1, max_length=100_000)
    messages: list[dict[str, str]] | None = Field(None, min_length=1, max_length=1000)
    pushes: list[PushBody] = Field(min_length=1, max_length=1000)
    writing: WritingBody = WritingBody()
    compare: bool = True

    def asked(self) -> Steer:
        return Steer(
            Prompt(self.prompt, self.messages),
            tuple(Push(each.latent, each.strength, each.mode) for each in self.pushes),
            Writing(**self.writing.model_dump()),
            self.compare,
        )


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

    @app.post("/steer")
    def steer(body: SteerBody) -> StreamingResponse:
        """Lines of JSON: events as they come; ``error`` ends a stream that cannot go on."""
        if (body.prompt is None) == (body.messages is None):
            raise DataError("Send a prompt or messages, one of them.")
        place = body.sae
        events = engine.steer(body.model, place.path, place.site, body.asked())
        return StreamingResponse(_lines(events), media_type="application/x-ndjson")

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


def _lines(events: Iterator[dict[str, Any]]) -> Iterator[str]:
    try:
        for event in events:
            yield json.dumps(event) + "\n"
    except (MonosemyError, MemoryError, RuntimeError) as error:
        # The status is sent already.
        detail = str(_problem(error).detail)
        yield json.dumps({"event": "error", "detail": detail}) + "\n"


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
