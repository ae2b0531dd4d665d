"""A tiny host whose tokenizer reads the words of the tasks."""

from __future__ import annotations

import pytest

from monosemy.models.host import HostModel
from tests.support.task_tokenizers import two_digit_tokenizer
from tests.support.tiny_host import make_tiny_host


@pytest.fixture(scope="module")
def task_host() -> HostModel:
    """4 layers of 4 heads; some tests change its weights."""
    return make_tiny_host(two_digit_tokenizer())
