"""SIGINT and SIGTERM in training: noted at once, acted on where the state can be saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from monosemy.errors import Stopped


class Signalled(Stopped):
    """A noted signal, at a place where the work can be saved; ``reason`` is what it stands for."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.reason: BaseException = (
            KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        )


class StopSignals:
    """Within the context the first signal is noted, for ``check`` to raise; a second acts at once.

    Only in the main thread, and only signals that nobody handles: workers and the processes of a
    run on several devices have handlers of their own.
    """

    def __init__(self) -> None:
        self.noted: int | None = None
        self._usual: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
            for number, default in defaults.items():
                if signal.getsignal(number) == default:
                    self._usual[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def check(self) -> None:
        """Raises ``Signalled`` after a signal: ``KeyboardInterrupt`` for a SIGINT, ``SystemExit``
        (143) for a SIGTERM, once the work is saved."""
        if self.noted is not None:
            raise Signalled(self.noted)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.noted = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)
        self._usual.clear()
