"""Readings to an experiment tracker, where the user names one: Weights & Biases or trackio.

Both have the same three calls.  A tracker that fails is told once and left alone: it must not cost
a training.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from monosemy.errors import DataError
from monosemy.progress import Reporter

PROJECT = "monosemy"


class Tracker:
    """``module``: ``wandb`` or ``trackio``, which the user has installed and logged in to.

    Raises ``DataError`` when the package is not there.
    """

    def __init__(
        self, module: str, name: str | None, config: Mapping[str, Any], reporter: Reporter
    ) -> None:
        self._reporter = reporter
        try:
            self._module: Any = importlib.import_module(module)
        except ImportError:
            raise DataError(
                f"training.tracker is '{module}', which is not installed.",
                f"pip install {module}, or leave training.tracker out.",
            ) from None
        self._run: Any = None
        self._do("init", project=PROJECT, name=name, config=dict(config))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """One reading (``TrainingReading.flat``) at its step."""
        self._do("log", dict(figures), step=step)

    def close(self) -> None:
        self._do("finish")

    def _do(self, call: str, *args: Any, **options: Any) -> None:
        if self._module is None:
            return
        try:
            getattr(self._module, call)(*args, **options)
        except Exception as error:  # whatever a foreign package raises
            name = self._module.__name__
            self._module = None
            # The class alone: messages of such packages can hold keys and addresses.
            self._reporter.log("tracker given up", tracker=name, error=type(error).__name__)
