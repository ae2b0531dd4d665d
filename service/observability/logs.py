"""Structured log: one JSON object a line on standard error, with request and run ids."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from contextvars import ContextVar
from typing import TextIO

from monosemy.redaction import scrubbed, without_keys

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the request being served."""
run_id: ContextVar[str | None] = ContextVar("run_id", default=None)
"""Id of the run being worked on or asked about."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class JsonFormatter(logging.Formatter):
    """time, level, logger, message, the two ids, ``extra``, the traceback; what looks like a key is
    taken out."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, variable in (("request_id", request_id), ("run_id", run_id)):
            value = variable.get()
            if value is not None:
                entry[name] = value
        entry |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(scrubbed(entry), default=_text, ensure_ascii=False)


def _text(value: object) -> str:
    return without_keys(str(value))


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever ``sys.stderr`` is at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(JsonFormatter())

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def configure_logging(level: str = "INFO") -> None:
    """Sends every logger's records to standard error as JSON; uvicorn's too."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        # Handlers of other kinds (a test runner's, a tracer's) are not ours to remove.
        if type(handler) in (logging.StreamHandler, StderrHandler):
            root.removeHandler(handler)
    root.addHandler(StderrHandler())
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"  # our own middleware logs requests
    for name in ("httpx", "httpcore", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
