"""Prompts with attributes: read from JSONL, made of a spec, split into halves.  No torch."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monosemy.circuits.supervised.task import (
    LabelledTask,
    Pair,
    Values,
    check_halves,
    checked_pairs,
    halves,
    matching_pairs,
)
from monosemy.data.tasks.examples import Example, encode
from monosemy.data.tasks.indirect_objects import IndirectObjects
from monosemy.data.tasks.json_lines import lines_of, prompts_in
from monosemy.errors import DataError
from monosemy.specs.tasks import AttributedPrompts, IndirectObjectPrompts, TaskPrompt

END = "end"
"""The name of a prompt's last token."""
IOI_ATTRIBUTES = ("IO", "S", "Pos")


def read_task_prompts(file: str | Path) -> list[TaskPrompt]:
    """The prompts of a JSONL file, one object a line with the fields of ``TaskPrompt``.

    ``DataError`` names file, line and field.
    """
    return parse_task_prompts(lines_of(file), str(file))


def parse_task_prompts(lines: Iterable[str], name: str) -> list[TaskPrompt]:
    """As ``read_task_prompts``; ``name`` begins every error.  Blank lines are passed over."""
    return prompts_in(lines, name, TaskPrompt)


def labelled_task(
    source: IndirectObjectPrompts | AttributedPrompts,
    tokenizer: Any,
    attributes: Sequence[str] | None = None,
    test_share: float = 0.3,
    seed: int = 0,
    most_pairs: int = 200,
) -> LabelledTask:
    """The prompts that a spec asks for as tokens of this tokenizer, in two halves that share no
    combination of values, with at most ``most_pairs`` counterfactuals of each attribute.

    ``attributes`` are those to take, None for all.  ``DataError`` for prompts that cannot be used,
    with the number of the prompt.
    """
    if isinstance(source, IndirectObjectPrompts):
        return _indirect_objects(source, tokenizer, attributes, test_share, seed, most_pairs)
    return _given(source.items, tokenizer, attributes, test_share, seed, most_pairs)


def _indirect_objects(
    source: IndirectObjectPrompts,
    tokenizer: Any,
    attributes: Sequence[str] | None,
    test_share: float,
    seed: int,
    most_pairs: int,
) -> LabelledTask:
    task = IndirectObjects(tokenizer, source.templates, seed=source.seed)
    if source.names is None:
        examples = task.examples(source.count, source.seed)
    else:
        there = sum(map(len, task.names.values()))
        if source.names < there:
            kept = 1 - source.names / there
            task = IndirectObjects(tokenizer, source.templates, kept, source.seed)
            examples = task.examples(source.count, source.seed, "fit")
        else:
            examples = task.examples(source.count, source.seed)
    names = _chosen(attributes, IOI_ATTRIBUTES)
    values = Values.found(examples, names)
    fit, test = halves(examples, values, test_share, seed)
    draw = random.Random(f"counterfactuals {seed}")
    pairs: dict[str, tuple[Pair, ...]] = {}
    for name in names:
        made = []
        for place in draw.sample(range(len(test)), min(most_pairs, len(test))):
            taken = {test[place].attributes[each] for each in IOI_ATTRIBUTES}
            other = draw.choice([each for each in values.of[name] if each not in taken])
            made.append(Pair(place, task.changed(test[place], name, other)))  # type: ignore[arg-type]
        pairs[name] = tuple(made)
    return LabelledTask(values, tuple(fit), tuple(test), pairs, task.left_out)


def _chosen(attributes: Sequence[str] | None, there: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in attributes or () if name not in there]
    if unknown:
        raise DataError(
            f"The prompts have no attribute '{unknown[0]}'.", f"They have {', '.join(there)}."
        )
    return tuple(attributes or there)


def _given(
    items: Sequence[TaskPrompt],
    tokenizer: Any,
    attributes: Sequence[str] | None,
    test_share: float,
    seed: int,
    most_pairs: int,
) -> LabelledTask:
    names = _chosen(attributes, [each.name for each in items[0].attributes])
    examples = _encoded_all(items, tokenizer)
    number = {id(example): place for place, example in enumerate(examples, 1)}
    by_id: dict[str, Example] = {}
    for item, example in zip(items, examples, strict=True):
        if item.id is not None and by_id.setdefault(item.id, example) is not example:
            raise DataError(f"Two prompts have the id '{item.id}'.")
    own = [e for i, e in zip(items, examples, strict=True) if i.counterfactual_of is None]
    values = Values.found(own, names)
    splits = [i.split for i in items if i.counterfactual_of is None]
    if any(splits):
        if not all(splits):
            raise DataError("Some prompts have a split and some have none; give all one, or none.")
        fit = [each for each, split in zip(own, splits, strict=True) if split == "fit"]
        test = [each for each, split in zip(own, splits, strict=True) if split == "test"]
        check_halves(fit, test, values, lambda example: f"Prompt {number[id(example)]}")
    else:
        fit, test = halves(own, values, test_share, seed)
    given = []
    for place, (item, example) in enumerate(zip(items, examples, strict=True), 1):
        if item.counterfactual_of is None:
            continue
        source = by_id.get(item.counterfactual_of)
        if source is None:
            raise DataError(
                f"Prompt {place} is the counterfactual of '{item.counterfactual_of}', which is no"
                " prompt's id."
            )
        _check_known(example, values, f"Prompt {place}")
        given.append((source, example))
    found = checked_pairs(given, test, values)
    draw = random.Random(f"counterfactuals {seed}")
    pairs = {}
    for name in names:
        there = found[name] or matching_pairs(test, values, name)
        kept = draw.sample(there, min(most_pairs, len(there)))
        pairs[name] = tuple(sorted(kept, key=lambda pair: pair.source))
    return LabelledTask(values, tuple(fit), tuple(test), pairs, {})


def _check_known(example: Example, values: Values, where: str) -> None:
    for name, known in values.of.items():
        if example.attributes[name] not in known:
            raise DataError(
                f"{where}: no prompt that is fitted to has {name}={example.attributes[name]}."
            )


def _encoded_all(items: Sequence[TaskPrompt], tokenizer: Any) -> list[Example]:
    first = items[0]
    attributes = {each.name for each in first.attributes}
    positions = {each.name for each in first.positions}
    examples = []
    for place, item in enumerate(items, 1):
        where = f"Prompt {place}"
        for what, wanted, there in (
            ("attributes", attributes, {each.name for each in item.attributes}),
            ("positions", positions, {each.name for each in item.positions}),
        ):
            if wanted != there:
                raise DataError(
                    f"{where} has other {what} than the first prompt: {_listed(there)} instead of"
                    f" {_listed(wanted)}."
                )
        examples.append(_encoded(item, tokenizer, where))
    return examples


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _encoded(item: TaskPrompt, tokenizer: Any, where: str) -> Example:
    ids = encode(tokenizer, item.text)
    if len(ids) < 2:
        raise DataError(
            f"{where} has {len(ids)} token(s): nothing can be asked of it: {item.text!r:.80}."
        )
    places = {
        each.name: _place(each.token, item.text, ids, tokenizer, where, each.name)
        for each in item.positions
    }
    if places.setdefault(END, len(ids) - 1) != len(ids) - 1:
        raise DataError(f"{where}: the position 'end' is the last token, {len(ids) - 1}.")
    answer, wrong = (
        _answer(item.text, ids, each, tokenizer, where) for each in (item.answer, item.wrong)
    )
    if answer == wrong:
        raise DataError(f"{where}: answer and wrong are the same token.")
    return Example(
        text=item.text,
        ids=ids,
        places=places,
        attributes={each.name: each.value for each in item.attributes},
        right=(answer,),
        wrong=(wrong,),
    )


def _place(
    token: int | str, text: str, ids: Sequence[int], tokenizer: Any, where: str, name: str
) -> int:
    if isinstance(token, int):
        place = token + len(ids) if token < 0 else token
        if not 0 <= place < len(ids):
            raise DataError(f"{where}: the position '{name}' is token {token} of {len(ids)}.")
        return place
    start = text.rfind(token)
    if start < 0:
        raise DataError(f"{where}: the position '{name}' is {token!r}, which is not in its text.")
    before = encode(tokenizer, text[: start + len(token)])
    if not before or before != tuple(ids[: len(before)]):
        raise DataError(
            f"{where}: the position '{name}' is {token!r}, which does not end at a token's end."
        )
    return len(before) - 1


def _answer(text: str, ids: tuple[int, ...], answer: str, tokenizer: Any, where: str) -> int:
    whole = encode(tokenizer, text + answer)
    if whole[: len(ids)] != ids or len(whole) != len(ids) + 1:
        raise DataError(
            f"{where}: the answer {answer!r:.80} is not one token of its own after the text.",
            "Begin it with the space that stands before the word; it must be a single token.",
        )
    return whole[len(ids)]
