"""Health as the API shows it."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic.dataclasses import dataclass


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


@dataclass(frozen=True, config=ConfigDict(use_attribute_docstrings=True))
class Finding:
    """What one check of a deployment found."""

    check: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    advice: str = ""
    """What mends it."""


class Findings(BaseModel):
    """What one look at a deployment found."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    items: list[Finding]
    """In the order in which a fault explains later ones."""
    checked_at: dt.datetime
    """When the look ended."""
