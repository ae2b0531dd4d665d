"""Parameters that ``make test-all`` alone goes through."""

from __future__ import annotations

from typing import Any

import pytest


def wider(*values: Any) -> list[Any]:
    """Each value (a tuple: values of several names) as a parameter of the campaign."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.campaign)
        for value in values
    ]
