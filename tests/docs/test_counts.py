"""Counts in messages and on pages agree with their noun: one way to write them, ``plural``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monosemy.figures import plural

ROOT = Path(__file__).resolve().parents[2]
NOUNS = (
    "tokens|seeds|texts|prompts|permutations|retain texts|targets|counterfactuals|partners|heads"
    "|judgements|votes"
)
BY_TEMPLATE = re.compile(rf"\| number \}}\}} ({NOUNS})\b")
BY_COMMAND = re.compile(
    rf"\{{(?:len\()?\w+\['\w+'\]\)?(?:\['\w+'\])?(?::,)?\}} ({NOUNS})\b(?! are)"
)


def test_one_is_singular_and_others_are_not() -> None:
    assert plural(1, "token") == "1 token" and plural(0, "token") == "0 tokens"
    assert plural(1200, "text is", "texts are") == "1,200 texts are"


@pytest.mark.parametrize(
    ("folder", "ending", "wrong"),
    [("service/pages/templates", "html", BY_TEMPLATE), ("service/cli", "py", BY_COMMAND)],
)
def test_counts_are_written_one_way(folder: str, ending: str, wrong: re.Pattern[str]) -> None:
    files = list((ROOT / folder).rglob(f"*.{ending}"))
    assert len(files) > 20
    found = [
        f"{file.name}:{number}: {match[0]}"
        for file in files
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        for match in wrong.finditer(line)
    ]
    assert not found, "\n".join(found)
