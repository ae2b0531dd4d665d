"""Prompts with attributes: read, split, paired; what cannot be used is told with its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monosemy.circuits.supervised.prompts import (
    labelled_task,
    parse_task_prompts,
    read_task_prompts,
)
from monosemy.circuits.supervised.task import combination
from monosemy.errors import DataError
from monosemy.specs.tasks import AttributedPrompts, IndirectObjectPrompts, TaskPrompt
from tests.support.task_prompts import NAMES, task_prompts
from tests.support.tiny_host import make_tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tiny_tokenizer()


def given(items: list[dict[str, Any]]) -> AttributedPrompts:
    return AttributedPrompts(items=[TaskPrompt.model_validate(each) for each in items])


def test_a_file_is_read_and_its_tokens_are_found(tokenizer: Any, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(json.dumps(each) for each in task_prompts()) + "\n\n", "utf-8")
    items = read_task_prompts(file)
    task = labelled_task(AttributedPrompts(items=items), tokenizer, test_share=0.3)

    assert len(task.fit) + len(task.test) == len(items)
    names = tuple(sorted(NAMES))
    assert task.values.of == {"first": names, "second": names, "order": ("AB", "BA")}
    for example in (*task.fit, *task.test):
        assert example.ids == tuple(tokenizer(example.text, add_special_tokens=False)["input_ids"])
        assert example.places["end"] == len(example.ids) - 1
        upto = tokenizer.decode(example.ids[: example.places["name"] + 1])
        assert upto.endswith(example.attributes["first"])


def test_no_combination_of_values_is_in_both_halves_and_every_value_is_fitted(
    tokenizer: Any,
) -> None:
    for seed in range(5):
        task = labelled_task(given(task_prompts()), tokenizer, test_share=0.3, seed=seed)
        fitted = {combination(each, task.values) for each in task.fit}
        tested = {combination(each, task.values) for each in task.test}
        assert not fitted & tested
        known = {code for each in task.fit for code in task.values.codes(each)}
        assert known == set(range(task.values.count))


def test_pairs_differ_in_their_attribute_alone(tokenizer: Any) -> None:
    task = labelled_task(given(task_prompts()), tokenizer, test_share=0.5, most_pairs=5)
    assert 0 < len(task.pairs["order"]) <= 5
    for name, pairs in task.pairs.items():
        for pair in pairs:
            source = task.test[pair.source].attributes
            differs = [each for each in source if source[each] != pair.target.attributes[each]]
            assert differs == [name]


def test_counterfactuals_that_are_given_are_taken(tokenizer: Any) -> None:
    items = task_prompts()
    for number, each in enumerate(items):
        each["id"] = str(number)
        each["split"] = "test" if number // 2 % 4 == 0 else "fit"
    base = items[0]
    changed = items[1] | {"id": "changed", "counterfactual_of": "0"}
    of_fitted = items[3] | {"id": "other", "counterfactual_of": "2"}
    task = labelled_task(given([*items, changed, of_fitted]), tokenizer)
    (pair,) = task.pairs["order"]  # not those that would be found among the others
    assert task.test[pair.source].text == base["text"]
    assert pair.target.text == items[1]["text"]


def test_indirect_objects_come_with_their_counterfactuals() -> None:
    from tests.support.task_tokenizers import two_digit_tokenizer

    source = IndirectObjectPrompts(count=200, names=12)
    task = labelled_task(source, two_digit_tokenizer(), test_share=0.2, most_pairs=20)
    assert task.values.names == ("IO", "S", "Pos")
    assert len(task.values.of["IO"]) == 12
    assert len(task.test) == 40
    for name, pairs in task.pairs.items():
        assert len(pairs) == 20
        for pair in pairs:
            source_of = task.test[pair.source].attributes
            assert [a for a in ("IO", "S", "Pos") if source_of[a] != pair.target.attributes[a]] == [
                name
            ]
            assert pair.target.attributes["IO"] != pair.target.attributes["S"]
            task.values.codes(pair.target)  # every value has a code
    assert "Abigail" in task.left_out["names"]


LINES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no JSON": (lambda _: "{", "line 2 is not JSON"),
    "a list": (lambda _: "[1]", "line 2 is no object but list"),
    "no answer": (lambda each: {k: v for k, v in each.items() if k != "answer"}, "line 2: answer"),
    "unknown key": (lambda each: each | {"colour": 1}, "line 2: colour"),
    "no attributes": (lambda each: each | {"attributes": {}}, "line 2: attributes"),
    "attributes of numbers": (
        lambda each: each | {"attributes": {"order": 3}},
        "line 2: attributes.0.value",
    ),
    "a position of a truth": (lambda each: each | {"positions": {"x": True}}, "line 2: positions"),
    "the same answers": (lambda each: each | {"wrong": each["answer"]}, "line 2.*the same"),
    "an unknown half": (lambda each: each | {"split": "train"}, "line 2: split"),
}


@pytest.mark.parametrize("case", LINES)
def test_a_line_that_cannot_be_read_is_named(case: str, tmp_path: Path) -> None:
    change, message = LINES[case]
    good, each = task_prompts()[:2]
    bad = change(each)
    lines = [json.dumps(good), bad if isinstance(bad, str) else json.dumps(bad)]
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(lines), "utf-8")
    with pytest.raises(DataError, match=f"prompts.jsonl, {message}"):
        read_task_prompts(file)


def test_files_that_are_no_prompts_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Cannot read"):
        read_task_prompts(tmp_path / "missing.jsonl")
    (tmp_path / "latin.jsonl").write_bytes('{"text": "é"}'.encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        read_task_prompts(tmp_path / "latin.jsonl")
    with pytest.raises(DataError, match="holds no prompts"):
        parse_task_prompts(["", " "], "x")


Change = Callable[[list[dict[str, Any]]], None]


def one_value(items: list[dict[str, Any]]) -> None:
    for each in items:
        each["attributes"]["order"] = "AB"


def shared(items: list[dict[str, Any]]) -> None:
    for number, each in enumerate(items):
        each["split"] = "test" if number % 2 else "fit"


def unseen(items: list[dict[str, Any]]) -> None:
    for each in items:
        each["split"] = "test" if each["attributes"]["first"] == NAMES[0] else "fit"


def half_split(items: list[dict[str, Any]]) -> None:
    items[0]["split"] = "fit"


TASKS: dict[str, tuple[Change, str]] = {
    "one value": (one_value, "'order' has one value"),
    "one token": (
        lambda items: items[3].update(text="a", positions={"name": 0}),
        "Prompt 4 has 1 token",
    ),
    "an answer of several tokens": (
        lambda items: items[3].update(answer=" extraordinarily"),
        "Prompt 4: the answer ' extraordinarily' is not one token",
    ),
    "a position beyond": (
        lambda items: items[3].update(positions={"name": 999}),
        "Prompt 4: the position 'name' is token 999 of",
    ),
    "a position that is no text": (
        lambda items: items[3].update(positions={"name": "zebra"}),
        "Prompt 4: the position 'name' is 'zebra', which is not in its text",
    ),
    "another position": (
        lambda items: items[3].update(positions={"other": 0}),
        "Prompt 4 has other positions than the first prompt",
    ),
    "another attribute": (
        lambda items: items[3].update(attributes={"first": NAMES[0]}),
        "Prompt 4 has other attributes than the first prompt",
    ),
    "a wrong end": (
        lambda items: [each.update(positions={"name": 0, "end": 0}) for each in items],
        "'end' is the last token",
    ),
    "a combination in both halves": (shared, "is to be tested on and shares .*first="),
    "a value that is not fitted": (unseen, "no prompt that is fitted to has first="),
    "halves of some": (half_split, "Some prompts have a split"),
    "a counterfactual of nothing": (
        lambda items: items[3].update(counterfactual_of="x"),
        "Prompt 4 is the counterfactual of 'x', which is no prompt's id",
    ),
    "a counterfactual that changes nothing": (
        lambda items: (
            items[2].update(id="x"),
            items.append(items[2] | {"id": "y", "counterfactual_of": "x"}),
        ),
        "differs in nothing",
    ),
    "an id twice": (
        lambda items: [each.update(id="x") for each in items],
        "Two prompts have the id",
    ),
}


@pytest.mark.parametrize("case", TASKS)
def test_prompts_that_cannot_be_used_are_told(case: str, tokenizer: Any) -> None:
    change, message = TASKS[case]
    items = task_prompts()
    change(items)
    with pytest.raises(DataError, match=message):
        labelled_task(given(items), tokenizer, test_share=0.3)


def test_an_attribute_that_is_not_there_is_told(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="no attribute 'colour'"):
        labelled_task(given(task_prompts()), tokenizer, ["colour"])


def test_too_few_prompts_to_test_on_are_told(tokenizer: Any) -> None:
    items = [each for each in task_prompts() if each["attributes"]["order"] == "AB"][:8]
    for number, each in enumerate(items):
        each["attributes"] = {"first": str(number)}
    with pytest.raises(DataError, match="0 can be tested on"):
        labelled_task(given(items), tokenizer, test_share=0.3)
