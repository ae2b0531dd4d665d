"""The check by which a device qualifies, at a size that Triton's interpreter takes in seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from monosemy.native.gpu import agreement

SMALL = {"_TOKENS": 8, "_WIDTH": 100, "_D": 20}


@pytest.fixture(scope="session", autouse=True)
def small_check() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for size, number in SMALL.items():
            patch.setattr(agreement, size, number)
        yield
