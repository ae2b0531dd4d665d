"""Health as the API shows it."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from monosemy.specs.described import Described


class Health(Described):
    """The process answers."""

    status: Literal["ok"]
    version: str


class Check(Described):
    """One part that the API leans on."""

    status: Literal["ok", "failed"]
    detail: str | None = None
    """What is wrong."""


class Readiness(Described):
    """Whether every part answers; status 503 when one does not."""

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


class Findings(Described):
    """What one look at a deployment found."""

    items: list[Finding]
    """In the order in which a fault explains later ones."""
    checked_at: dt.datetime
    """When the look ended."""
