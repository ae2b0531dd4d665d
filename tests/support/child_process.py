"""Processes that a test starts and waits for; one that ends too early is reported at once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.patience import wait_for


class ChildProcess:
    """``command``, which writes to ``log``; it is killed where it still runs after the block.

    ``options``: of ``subprocess.Popen``.
    """

    def __init__(self, command: Sequence[str], log: Path, **options: Any) -> None:
        self._command, self._log, self._options = command, log, options

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **self._options,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """As the kernel does when memory runs out: no goodbye."""
        self._process.kill()
        self._process.wait()

    def wait_until(self, condition: Callable[[], Any], seconds: float = 60.0) -> None:
        """Raises AssertionError, with what the process wrote, once it has ended."""

        def reached() -> Any:
            code = self._process.poll()
            assert code is None, f"ended with status {code}:\n{self.log[-5000:]}"
            return condition()

        wait_for(reached, seconds)

    def succeeded(self) -> bool:
        """Whether it has ended with status 0; AssertionError, as above, after any other."""
        code = self._process.poll()
        assert not code, f"ended with status {code}:\n{self.log[-5000:]}"
        return code == 0
