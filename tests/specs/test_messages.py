"""What is wrong with a value that a pattern refuses, in words and not as the pattern."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from monosemy.errors import SpecError
from monosemy.specs import parse_spec
from monosemy.specs.messages import message_of
from monosemy.specs.run import run_union


def refused(**spec: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as error:
        parse_spec(spec)
    return dict(error.value.problems)


@pytest.mark.parametrize(
    ("spec", "path", "said"),
    [
        ({"kind": "train", "site": "layer 9"}, "site", "a site as blocks.9.hook_resid_post"),
        ({"kind": "basis", "site": "blocks.9.mlp"}, "site", "where KIND is one of hook_resid_pre"),
        ({"kind": "task", "sites": ["x"], "model": {}}, "sites.0", "a site as blocks.9."),
        ({"kind": "train", "writes": ["x"]}, "writes.0", "or ROLE:blocks.9.hook_resid_post"),
        ({"kind": "sweep", "sites": ["blocks.*.x"]}, "sites.0", "or blocks.*.mlp.hook_in for one"),
        (
            {"kind": "train", "hosts": [{"role": "a b", "model": {}}]},
            "hosts.0.role",
            "such as chat",
        ),
    ],
)
def test_a_site_and_a_role_are_told_by_the_forms_they_have(
    spec: dict[str, Any], path: str, said: str
) -> None:
    faults = refused(**spec)
    assert said in faults[path] and "\\" not in faults[path] and ", not '" in faults[path]


def patterns_of(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        own = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
        return own.union(*map(patterns_of, schema.values()))
    return set().union(*map(patterns_of, schema)) if isinstance(schema, list) else set()


def patterns_of_doors() -> set[str]:
    from service.app import create_app
    from service.settings import Settings

    document = create_app(Settings(database_url=None, redis_url=None)).openapi()
    return patterns_of(document) | patterns_of(TypeAdapter(run_union()).json_schema())


def test_every_pattern_of_specs_and_of_the_api_has_words() -> None:
    """Names have words of their own (``nameable``), which come before the pattern is looked at."""
    from monosemy.specs.names import _PATTERN

    wanted = patterns_of_doors() - {_PATTERN}
    assert len(wanted) >= 7
    for each in wanted:
        fault = {
            "type": "string_pattern_mismatch",
            "input": "?",
            "msg": "String should match pattern",
            "ctx": {"pattern": each},
        }
        assert "is expected, not '?'" in message_of(fault), each


def test_a_pattern_that_nobody_put_into_words_is_pydantics() -> None:
    from pydantic import BaseModel, Field

    class Outside(BaseModel):
        word: str = Field(pattern="^a+$")

    with pytest.raises(ValidationError) as error:
        Outside(word="b")
    assert message_of(error.value.errors()[0]) == "String should match pattern '^a+$'"
