"""Descriptions from docstrings, as pydantic's own option gives them, but read when asked for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from monosemy.specs.described import Described, descriptions


class Read(Described):
    said: int = 0
    """Once,
    on two lines."""
    unsaid: int = 0
    by_field: int = Field(0, description="By the field.")
    """Not this."""
    other_name: int = Field(0, alias="otherName")
    """By its alias."""


class ReadBelow(Read):
    said: int = 1
    more: Read | None = None
    """A part."""

    class Inner(Described):
        deep: int = 0
        """Within."""


class Known(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    said: int = 0
    """Once,
    on two lines."""
    unsaid: int = 0
    by_field: int = Field(0, description="By the field.")
    """Not this."""
    other_name: int = Field(0, alias="otherName")
    """By its alias."""


class KnownBelow(Known):
    said: int = 1
    more: Known | None = None
    """A part."""

    class Inner(BaseModel):
        model_config = ConfigDict(use_attribute_docstrings=True)
        deep: int = 0
        """Within."""


@pytest.mark.parametrize("mode", ["validation", "serialization"])
@pytest.mark.parametrize(
    ("ours", "pydantics"),
    [(Read, Known), (ReadBelow, KnownBelow), (ReadBelow.Inner, KnownBelow.Inner)],
)
def test_as_pydantic_does(ours: type[BaseModel], pydantics: type[BaseModel], mode: Any) -> None:
    schema, wanted = (
        model.model_json_schema(mode=mode)["properties"] for model in (ours, pydantics)
    )
    texts = {name: part.get("description") for name, part in schema.items()}
    assert texts == {name: part.get("description") for name, part in wanted.items()}
    assert any(texts.values())


def test_of_a_class_without_source_fields_alone_speak() -> None:
    names: dict[str, Any] = {"Described": Described, "Field": Field, "__name__": "no_module"}
    exec("class Made(Described):\n    a: int = Field(0, description='said')\n    b: int = 0", names)
    assert descriptions(names["Made"]) == {"a": "said"}
    assert "description" not in names["Made"].model_json_schema()["properties"]["b"]
