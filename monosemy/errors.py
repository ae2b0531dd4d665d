"""Errors that a person reads.  Each says what is wrong and, where it can, what to do."""

from __future__ import annotations

from typing import Any


class MonosemyError(Exception):
    """Base of every error that the user can correct; its text is shown unchanged."""

    made: dict[str, Any] | None = None
    """What the steps of a pipeline had made before one failed, as its result would have it."""

    def __init__(self, message: str, advice: str | None = None) -> None:
        super().__init__(message if advice is None else f"{message} {advice}")
        self.message = message
        self.advice = advice


class SpecError(MonosemyError):
    """A run spec that does not validate; ``problems`` holds one (path, message) pair per fault."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        lines = "; ".join(f"{path}: {text}" if path else text for path, text in problems)
        super().__init__(lines)
        self.problems = problems


class SettingError(MonosemyError):
    """A setting of the environment that cannot be used."""


class ModelError(MonosemyError):
    """A host model that cannot be found, loaded or hooked."""


class UnknownSite(ModelError):
    """A site that this host model does not have; the message lists those it has."""


class DataError(MonosemyError):
    """Text, a token store or an artifact that cannot be read."""


class JudgeError(MonosemyError):
    """The judge (an OpenAI-compatible endpoint) refused, failed or answered nonsense too often."""


class ConflictError(MonosemyError):
    """A request that is well-formed but does not fit the state of what it is about."""


class Stopped(Exception):
    """Base of the two ways to ask running work to stop; raised by ``Reporter.check``."""


class Interrupted(Stopped):
    """The process must end (SIGTERM, lost lease); the work is to be resumed from its checkpoint."""


class Cancelled(Stopped):
    """A person cancelled the run; its checkpoint is kept."""
