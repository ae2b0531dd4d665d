"""Fields that came after specs had been stored: dumps at their defaults are those of before."""

from __future__ import annotations

from typing import Any

import pytest

from monosemy.errors import SpecError
from monosemy.specs import EvaluationSpec, JudgeSpec, Part, TrainingSpec, parse_spec
from monosemy.specs.parse import parse_part
from monosemy.workspace import fingerprint

DIGESTS: list[tuple[type[Part], str]] = [
    (EvaluationSpec, "b6e6808f694e929e"),
    (JudgeSpec, "8bdef4eb24e1c068"),
    (TrainingSpec, "f45227bd00ffec78"),
]
"""Of the dumps of commit e56f54f, which had no ``prune``, ``test``, ``buffer_device``."""


@pytest.mark.parametrize(("part", "digest"), DIGESTS)
def test_dumps_at_the_defaults_are_those_of_before(part: type[Part], digest: str) -> None:
    assert fingerprint(part().model_dump(mode="json")) == digest


def test_a_submission_keeps_the_digest_of_before() -> None:
    spec = parse_spec({"kind": "evaluate", "sae": "taken", "evaluation": {"tokens": 512}})
    assert fingerprint(spec.model_dump(mode="json")) == "fad1c19c4208db9e"


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        (EvaluationSpec, {"prune": 0.0}),
        (JudgeSpec, {"test": "warn"}),
        (TrainingSpec, {"buffer_device": "host"}),
    ],
)
def test_other_values_are_in_the_dump(part: type[Part], fields: dict[str, Any]) -> None:
    dump = parse_part(part, fields).model_dump(mode="json")
    assert dump.items() >= fields.items()
    assert parse_part(part, dump).model_dump(mode="json") == dump


@pytest.mark.parametrize(
    ("part", "fields"), [(EvaluationSpec, {"prune": -1.0}), (JudgeSpec, {"test": "maybe"})]
)
def test_their_bounds_hold(part: type[Part], fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=next(iter(fields))):
        parse_part(part, fields)
