"""The state of a batch and the lines of its files, as far as they can be read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from monosemy.interp.judging.failures import BadReply, StatusError, Unanswered
from monosemy.interp.judging.reasons import reason_of
from monosemy.interp.judging.replies import Body, raise_for_error

MARK = {"made_by": "monosemy"}
"""Metadata of our batches."""


class BatchState:
    """The endpoint's description of a batch, with "" and 0 for missing fields."""

    def __init__(self, description: Any) -> None:
        self._description = description if isinstance(description, dict) else {}
        self.id, self.status = self._text("id"), self._text("status")
        self.input = self._text("input_file_id")
        created = self._description.get("created_at")
        self.created = float(created) if isinstance(created, int | float) else 0.0
        metadata = self._description.get("metadata")
        self.ours = isinstance(metadata, dict) and all(
            metadata.get(name) == value for name, value in MARK.items()
        )

    @property
    def files(self) -> list[str]:
        """Those of answers and of errors."""
        names = (self._text("output_file_id"), self._text("error_file_id"))
        return [name for name in names if name]

    @property
    def reasons(self) -> str:
        """Why it failed, in brackets."""
        errors = self._description.get("errors")
        reasons = reason_of(errors.get("data") if isinstance(errors, dict) else errors).text
        return f" ({reasons})" if reasons else ""

    @property
    def counts(self) -> tuple[int, int]:
        """How many questions are done, and of how many."""
        counts = self._description.get("request_counts")
        counts = counts if isinstance(counts, dict) else {}
        completed, failed, total = (
            value if isinstance(value := counts.get(name), int) else 0
            for name in ("completed", "failed", "total")
        )
        return completed + failed, total

    def _text(self, name: str) -> str:
        value = self._description.get(name)
        return value if isinstance(value, str) else ""


def id_of(body: Body, kind: str) -> str:
    if not isinstance(body.get("id"), str) or not body["id"]:
        raise BadReply(f"the endpoint made a {kind} without an id")
    return str(body["id"])


def objects(data: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file of lines; other lines are passed over."""
    for line in data.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def answer_of(line: dict[str, Any], redact: Callable[[str], str]) -> Body:
    """The body that a line of an output file holds.

    Raises ``CallFailed`` as a call of its own would have, and ``Unanswered``.
    """
    response = line.get("response")
    response = response if isinstance(response, dict) else {}
    status, body = response.get("status_code"), response.get("body")
    if not isinstance(status, int) or isinstance(status, bool):
        why = reason_of(line.get("error"), redact).text or "nothing"
        raise Unanswered(f"no answer in the batch: {why}")
    if status >= 300:
        reason = reason_of(body, redact)
        raise StatusError(status, reason, reason.wait)
    if not isinstance(body, dict):
        raise BadReply(f"the batch holds {type(body).__name__} for an answer")
    raise_for_error(body, redact)
    return body
