"""Prompts of one's own: read from JSONL, and encoded with their answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monosemy.data.tasks.examples import Example, TaskPrompts, encode
from monosemy.data.tasks.json_lines import lines_of, prompts_in
from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.specs.circuits import PromptItem

_LABELS = {"positive": True, "negative": False}


def read_prompts(file: str | Path) -> list[PromptItem]:
    """The prompts of a JSONL file.  ``DataError`` names file, line and field.

    A line has ``text``, and ``positive`` (true, false) or ``label`` (``"positive"``,
    ``"negative"``); it may have ``right`` and ``wrong``, a text or a list of them each, and
    ``template``.
    """
    return parse_prompts(lines_of(file), str(file))


def parse_prompts(lines: Iterable[str], name: str) -> list[PromptItem]:
    """As ``read_prompts``; ``name`` begins every error.  Blank lines are passed over."""
    return prompts_in(lines, name, PromptItem, _fields)


def _fields(record: dict[str, Any], where: str) -> dict[str, Any]:
    fields = dict(record)
    if "label" in fields:
        label = fields.pop("label")
        if "positive" in fields:
            raise DataError(f"{where} has label and positive; give one of them.")
        if not isinstance(label, str) or label not in _LABELS:
            raise DataError(f'{where}: label is "positive" or "negative", not {label!r:.80}.')
        fields["positive"] = _LABELS[label]
    for answers in ("right", "wrong"):
        if isinstance(fields.get(answers), str):
            fields[answers] = [fields[answers]]
    return fields


def encoded_prompts(items: Sequence[PromptItem], tokenizer: Any) -> TaskPrompts:
    """The prompts with their tokens.  ``DataError`` for one of fewer than two tokens, for answers
    that do not begin with a token of their own, and for right ones that are wrong too."""
    sides: tuple[list[Example], list[Example]] = ([], [])
    for number, item in enumerate(items, 1):
        sides[0 if item.positive else 1].append(_encoded(item, tokenizer, f"Prompt {number}"))
    return TaskPrompts(tuple(sides[0]), tuple(sides[1]))


def _encoded(item: PromptItem, tokenizer: Any, where: str) -> Example:
    ids = encode(tokenizer, item.text)
    if len(ids) < 2:
        raise DataError(
            f"{where} has {plural(len(ids), 'token')}, and a head needs two to attend from one"
            " to another: "
            f"{item.text!r:.80}."
        )
    right, wrong = (
        tuple(
            dict.fromkeys(_first_token(item.text, ids, answer, tokenizer, where) for answer in each)
        )
        for each in (item.right, item.wrong)
    )
    both = set(right) & set(wrong)
    if both:
        token = tokenizer.decode([min(both)])
        raise DataError(f"{where}: {token!r} begins a right answer and a wrong one.")
    if bool(right) != bool(wrong):
        raise DataError(f"{where} has answers of one kind only; give right and wrong ones.")
    return Example(
        text=item.text,
        ids=ids,
        template=item.template or "",
        places={"end": len(ids) - 1},
        right=right,
        wrong=wrong,
    )


def _first_token(text: str, ids: tuple[int, ...], answer: str, tokenizer: Any, where: str) -> int:
    whole = encode(tokenizer, text + answer)
    if whole[: len(ids)] != ids or len(whole) <= len(ids):
        raise DataError(
            f"{where}: the answer {answer!r:.80} runs into the prompt's last token.",
            "Begin it with the space that stands before the word.",
        )
    return whole[len(ids)]
