import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monosemy.interp.judging.answers import (
    check_object,
    find_object,
    object_schema,
    problem_with,
    salvage_object,
    without_limits,
)

SCHEMA = object_schema(
    {
        "name": {"type": "string", "minLength": 2, "maxLength": 5},
        "yes": {"type": "boolean"},
        "share": {"type": "number", "minimum": 0, "maximum": 1},
        "count": {"type": "integer"},
    }
)
GOOD = {"name": "abc", "yes": True, "share": 0.5, "count": 3}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Sure! ```json\n{"a": 1}\n``` Hope that helps.', {"a": 1}),
        ('I must write {"a": 0}. So: {"a": 1}', {"a": 1}),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        ('{"a": "} {"}', {"a": "} {"}),
        ('{"a": NaN}', None),
        ('{"a": 1', None),
        ("[1, 2]", None),
        ("", None),
        ("{" * 50, None),
    ],
)
def test_finds_the_last_whole_object(text: str, expected: object) -> None:
    assert find_object(text) == expected


def test_accepts_only_what_fits() -> None:
    assert check_object(GOOD, SCHEMA) == []
    assert check_object({**GOOD, "more": 1}, SCHEMA) == []
    assert check_object({**GOOD, "name": "a"}, SCHEMA) == ["'name' is too short"]
    assert check_object({**GOOD, "name": "abcdef"}, SCHEMA) == ["'name' is too long"]
    assert check_object({**GOOD, "share": 1.5}, SCHEMA) == ["'share' is out of range"]
    assert check_object({"name": "abc"}, SCHEMA) == [
        "'yes' is missing",
        "'share' is missing",
        "'count' is missing",
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [("yes", "true"), ("yes", 1), ("count", True), ("count", 1.0), ("share", "0.5"), ("name", 12)],
)
def test_types_are_not_guessed(key: str, value: object) -> None:
    assert problem_with(value, SCHEMA["properties"][key]) is not None


def test_enum() -> None:
    schema = {"type": "string", "enum": ["low", "high"]}
    assert problem_with("low", schema) is None
    assert problem_with("medium", schema) == "is none of the allowed values"


def test_limits_can_be_left_out_without_touching_the_original() -> None:
    bare = without_limits(SCHEMA)
    assert bare["properties"]["name"] == {"type": "string"}
    assert bare["properties"]["share"] == {"type": "number"}
    assert bare["required"] == SCHEMA["required"]
    assert SCHEMA["properties"]["name"]["minLength"] == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"t1": true, "t2": fal', {"t1": True}),
        ('{"t1": true, "t2": false', {"t1": True, "t2": False}),
        ('{"t1": true, "t2": "no", "t3": true}', {"t1": True, "t3": True}),
        ('{"t1": true, "t9": true}', {"t1": True}),
        ('{\n\n"t1"\n\n:\n\ntrue\n\n,\n"t2', {"t1": True}),
        ("t1: true", {}),
        ("", {}),
    ],
)
def test_salvages_what_is_whole(text: str, expected: dict[str, bool]) -> None:
    schema = object_schema({f"t{i}": {"type": "boolean"} for i in (1, 2, 3)})
    assert salvage_object(text, schema) == expected


def test_a_number_at_the_cut_is_not_believed() -> None:
    schema = object_schema({"a": {"type": "integer"}, "b": {"type": "integer"}})
    assert salvage_object('{"a": 12, "b": 34', schema) == {"a": 12}


@given(
    st.dictionaries(st.sampled_from(["t1", "t2", "t3"]), st.booleans(), min_size=1),
    st.integers(min_value=0, max_value=60),
)
def test_salvage_never_invents(value: dict[str, bool], cut: int) -> None:
    schema = object_schema({f"t{i}": {"type": "boolean"} for i in (1, 2, 3)})
    salvaged = salvage_object(json.dumps(value)[:cut], schema)
    assert salvaged.items() <= value.items()
    assert salvage_object(json.dumps(value), schema) == value
