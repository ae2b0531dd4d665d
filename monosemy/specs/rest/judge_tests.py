"""Tests of judges, as the API shows them."""

from __future__ import annotations

import datetime as dt
import uuid

from pydantic import BaseModel, ConfigDict

from monosemy.interp.judge_test.result import JudgeTestBrief, Role
from monosemy.specs.described import Described


class JudgeTestView(Described):
    """What a judge came to when it was asked questions whose answers are known."""

    model_config = ConfigDict(from_attributes=True)

    key: str
    """Of role, endpoint, model, sampling, prompt and questions."""
    role: Role
    """`explaining`: does it name what marked words have in common?  `detecting`: does it tell which
    texts fit a description?"""
    endpoint: str
    """Address, or `packaged` for the judge that comes with monosemy."""
    model: str
    prompt: str
    """Name and version of the prompt that it was asked through."""
    result: JudgeTestBrief
    """Accuracy with its 95 % interval, and what guessing gives."""
    families: dict[str, dict[str, int]]
    """`right` of `n` by family of questions: languages, topics, words, numbers."""
    summary: str
    """The result in a sentence."""
    warning: str | None
    """What to do about a judge that is not good; null for a good one."""
    run_id: uuid.UUID | None
    """The run that asked; null for a test by hand."""
    created_at: dt.datetime


class JudgeTestTable(BaseModel):
    """All tests, the newest first."""

    items: list[JudgeTestView]
