"""Models whose fields are described by the docstrings under them.

pydantic's own ``use_attribute_docstrings`` looks for the source of every class when it is made: a
sixth of what importing the API takes, of which most processes never show a description.  Here a
module's source is read once, when somebody asks for a JSON schema.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Described(BaseModel):
    """A field without a description of its own has that of the docstring under it."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in descriptions(cls).items():
            field = cls.model_fields[name]
            shown = properties.get(field.serialization_alias or field.alias or name)
            if shown is not None:
                shown["description"] = text
        return schema


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """By field, what ``Field`` says, or else what is written under it in the class that declares it
    last; without the fields of which nothing is said."""
    written: dict[str, str | None] = {}
    for base in reversed(model.__mro__):
        written |= _docstrings(base.__module__).get(base.__qualname__, {})
    fields = model.model_fields.items()
    texts = {name: field.description or written.get(name) for name, field in fields}
    return {name: text for name, text in texts.items() if text is not None}


@cache
def _docstrings(module: str) -> dict[str, dict[str, str | None]]:
    """Of every class of a module, by qualified name and field; none where there is no source."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file or not file.endswith(".py"):
        return {}
    return dict(_of_classes(ast.parse(Path(file).read_text(encoding="utf-8")).body, ""))


def _of_classes(body: list[ast.stmt], within: str) -> Iterator[tuple[str, dict[str, str | None]]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            name = f"{within}{node.name}"
            yield name, _of_fields(node)
            yield from _of_classes(node.body, f"{name}.")
        elif isinstance(node, ast.FunctionDef):
            yield from _of_classes(node.body, f"{within}{node.name}.<locals>.")


def _of_fields(node: ast.ClassDef) -> dict[str, str | None]:
    texts: dict[str, str | None] = {}
    for declared, below in zip_longest(node.body, node.body[1:]):
        if isinstance(declared, ast.AnnAssign) and isinstance(declared.target, ast.Name):
            match below:
                case ast.Expr(ast.Constant(str(text))):
                    texts[declared.target.id] = inspect.cleandoc(text)
                case _:
                    texts[declared.target.id] = None
    return texts
