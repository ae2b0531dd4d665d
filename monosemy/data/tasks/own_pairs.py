"""Pairs of prompts of one's own: read from JSONL."""

from __future__ import annotations

from pathlib import Path

from monosemy.data.tasks.json_lines import lines_of, prompts_in
from monosemy.specs.feature_circuits import PromptPair


def read_pairs(file: str | Path) -> list[PromptPair]:
    """The pairs of a JSONL file, one object a line with the fields of ``PromptPair``: ``clean``,
    ``patch``, ``answer``, ``wrong``.  ``DataError`` names file, line and field."""
    return prompts_in(lines_of(file), str(file), PromptPair)
