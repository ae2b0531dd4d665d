"""The OpenAPI document: FastAPI's own, with what validation by ``parse_spec`` hides from it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from monosemy.specs import run_union
from monosemy.specs.rest.problems import ProblemDetail
from service.kit.problems import documented

_REFERENCE = "#/components/schemas/{model}"


def install(app: FastAPI) -> None:
    """Makes ``app.openapi()`` answer with the completed document, built once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    summary=app.summary,
                    description=app.description,
                    routes=app.routes,
                    tags=app.openapi_tags,
                )
            )
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in (
        ("RunSpec", TypeAdapter(run_union()).json_schema(ref_template=_REFERENCE)),
        ("ProblemDetail", ProblemDetail.model_json_schema(ref_template=_REFERENCE)),
    ):
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    for schema in schemas.values():
        for part in schema.get("properties", {}).values():
            # Its own fields tell their defaults; generators of clients stumble over this one.
            if isinstance(part.get("default"), dict):
                del part["default"]
    # FastAPI's own form of a 422 is never sent.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            for status in _always(operation):
                operation["responses"].setdefault(str(status), documented(status)[status])
            default = operation.get("responses", {}).get("422", {}).get("content", {})
            if "application/json" in default:
                del default["application/json"]
                default["application/problem+json"] = {
                    "schema": {"$ref": "#/components/schemas/ProblemDetail"}
                }
    return document


def _always(operation: dict[str, Any]) -> list[int]:
    """Statuses that come from before the endpoint: bodies that cannot be taken, key limits."""
    bodies = [400, 408, 413] if "requestBody" in operation else []
    keys = [429] if operation.get("security") else []
    return bodies + keys
