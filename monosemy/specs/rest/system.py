"""Health as the API shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Health(BaseModel):
    """The process answers."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    status: Literal["ok"]
    version: str


class Check(BaseModel):
    """One part that the API leans on."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    status: Literal["ok", "failed"]
    detail: str | None = None
    """What is wrong."""


class Readiness(BaseModel):
    """Whether every part answers; status 503 when one does not."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    status: Literal["ready", "not ready"]
    checks: dict[str, Check]
    """database, redis, inference."""
