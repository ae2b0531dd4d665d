"""Every number of a spec has bounds, every text and list an end; and what lies beyond is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

from monosemy.errors import SpecError
from monosemy.specs import KINDS, parse_spec, run_union
from monosemy.specs.part import MOST_TOKENS

FORMATS = ("uuid", "date-time", "date")
"""Texts that are parsed, and so bounded."""


def unbounded(schema: dict[str, Any]) -> Iterator[str]:
    """Paths of what has no bound in a JSON schema."""

    def walk(node: Any, path: str) -> Iterator[str]:
        if not isinstance(node, dict) or "const" in node or "enum" in node:
            return
        kind = node.get("type")
        if kind in ("integer", "number"):
            low = {"minimum", "exclusiveMinimum"} & node.keys()
            high = {"maximum", "exclusiveMaximum"} & node.keys()
            if not (low and high):
                yield path
        if kind == "string" and "maxLength" not in node and node.get("format") not in FORMATS:
            yield path
        if kind == "array":
            if "maxItems" not in node:
                yield path
            yield from walk(node.get("items"), f"{path}[]")
        for name, each in node.get("properties", {}).items():
            yield from walk(each, f"{path}.{name}")
        for some in ("anyOf", "oneOf", "allOf"):
            for each in node.get(some, ()):
                yield from walk(each, path)

    for name, model in {**schema.get("$defs", {}), "": schema}.items():
        yield from walk(model, name)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_field_has_bounds(kind: str) -> None:
    schema = KINDS[kind].model_json_schema()
    assert not list(unbounded(schema))


def test_the_walk_finds_what_has_none() -> None:
    schema = TypeAdapter(dict[str, Any]).json_schema() | {
        "properties": {
            "a": {"type": "integer", "minimum": 0},
            "b": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "c": {"type": "array", "items": {"type": "number"}, "maxItems": 3},
            "d": {"type": "array", "items": {"const": 1}},
        }
    }
    assert list(unbounded(schema)) == [".a", ".b", ".c[]", ".d"]
    assert TypeAdapter(run_union()).json_schema()["$defs"], "the whole union has a schema too"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from places(each, (*path, name))
    else:
        yield path


def with_value(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    return {**data, path[0]: with_value(data[path[0]], path[1:], value)}


ABSURD = [10**31, -(10**31), 10**400, float("inf"), float("-inf"), float("nan"), "x" * 100_000]


@pytest.mark.parametrize("kind", ["pipeline", "explain", "score"])
@pytest.mark.parametrize("absurd", range(len(ABSURD)))
def test_nothing_absurd_gets_into_a_field(kind: str, absurd: int) -> None:
    """Any field of a spec, all fields of all its parts one after the other."""
    needed = {} if kind == "pipeline" else {"sae": "x"}
    whole = parse_spec({"kind": kind, **needed}).model_dump(mode="json")
    if kind == "pipeline":
        whole["scoring"] = whole["scoring"][0]
    for path in places(whole):
        with pytest.raises(SpecError):
            parse_spec(with_value(whole, path, ABSURD[absurd]))


@pytest.mark.parametrize("text", ["1e400", "-1e400", "NaN", "Infinity"])
def test_floats_that_are_none(text: str) -> None:
    for path in ("learning_rate", "gradient_clip", "max_norm_ratio", "checkpoint_seconds"):
        data = json.loads(f'{{"kind": "train", "training": {{"{path}": {text}}}}}')
        with pytest.raises(SpecError, match=path):
            parse_spec(data)


def test_what_is_large_and_sensible_is_taken() -> None:
    spec = parse_spec(
        {
            "kind": "train",
            "sae": {"d_sae": 2**24, "k": 512},
            "training": {"tokens": MOST_TOKENS, "buffer_tokens": 2**24, "seed": -1},
            "site": "blocks.1000.hook_resid_post",
        }
    )
    assert parse_spec(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"kind": "score", "sae": "x", "features": [0] * 1_000_001}, "features"),
        ({"kind": "pipeline", "scoring": [{}] * 17}, "scoring"),
        ({"kind": "sweep", "seeds": list(range(17))}, "seeds"),
        ({"kind": "sweep", "saes": [{}] * 65}, "saes"),
        (
            {"kind": "train", "sae": {"architecture": "matryoshka", "prefixes": list(range(65))}},
            "sae.prefixes",
        ),
    ],
)
def test_lists_end(data: Any, path: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(data)
    assert path in dict(caught.value.problems)


def test_a_site_of_many_digits() -> None:
    with pytest.raises(SpecError, match="site"):
        parse_spec({"kind": "train", "site": f"blocks.{'9' * 4000}.hook_resid_post"})
