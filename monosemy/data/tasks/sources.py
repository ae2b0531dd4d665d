"""The prompts that a spec asks for."""

from __future__ import annotations

from typing import Any

from monosemy.data.tasks.docstrings import Docstrings
from monosemy.data.tasks.examples import TaskPrompts
from monosemy.data.tasks.greater_than import GreaterThan
from monosemy.data.tasks.indirect_objects import IndirectObjects
from monosemy.data.tasks.own_prompts import encoded_prompts
from monosemy.specs.circuits import (
    GeneratedPrompts,
    GreaterThanTask,
    IndirectObjectTask,
    LabelledPrompts,
)


def prompts_of(source: GeneratedPrompts | LabelledPrompts, tokenizer: Any) -> TaskPrompts:
    """Positive and negative prompts as tokens of this tokenizer; ``DataError`` where it cannot read
    the task, or a prompt cannot be used."""
    if isinstance(source, LabelledPrompts):
        return encoded_prompts(source.items, tokenizer)
    if isinstance(source, IndirectObjectTask):
        task = IndirectObjects(tokenizer, source.templates)
        return task.prompts(source.count, source.seed)
    if isinstance(source, GreaterThanTask):
        return GreaterThan(tokenizer).prompts(source.count, source.seed)
    return Docstrings(tokenizer).prompts(source.count, source.seed)
