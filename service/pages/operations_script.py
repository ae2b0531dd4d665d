"""``static/lib/api.js``: one function for each REST operation that the pages' scripts call.

``python -m service.pages.operations_script`` writes it from the OpenAPI document.  Only what a
script names as ``api.<operation>`` is there, so that the file stays small.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from service.pages.static import static_files
from service.settings import Settings

NAME = "lib/api.js"
_HEAD = """\
// Made by `python -m service.pages.operations_script` from the OpenAPI document; do not edit.
import { call, send } from "./http.js";
"""
_USED = re.compile(r"(?<!/)\bapi\.([a-z][A-Za-z0-9]*)\b")


def script(document: dict[str, Any], used: set[str]) -> str:
    """The module for ``used``.  Raises ``KeyError`` for an operation that is not there."""
    operations = {
        camel(operation["operationId"]): (method.upper(), path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    missing = sorted(used - operations.keys())
    if missing:
        raise KeyError(
            f"no operation {', '.join(missing)}; there are {', '.join(sorted(operations))}"
        )
    return _HEAD + "".join(_function(name, *operations[name]) for name in sorted(used))


def used_operations() -> set[str]:
    """What the scripts call."""
    return {
        name
        for path, content in static_files().items()
        if path.endswith(".js") and path != NAME
        for name in operations_in(content.decode())
    }


def operations_in(source: str) -> set[str]:
    """Those that a script calls; the name of the module itself is none."""
    return set(_USED.findall(source))


def camel(operation_id: str) -> str:
    first, *rest = re.split(r"[_-]", operation_id)
    return first + "".join(part.capitalize() for part in rest)


def _function(name: str, method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = operation.get("parameters", [])
    inside = [each["name"] for each in parameters if each["in"] == "path"]
    query = [each for each in parameters if each["in"] == "query"]
    body = _type(operation.get("requestBody", {}))
    answer = _answer(operation)
    text = re.sub(r"\{(\w+)(:path)?\}", r"${encodeURIComponent(\1)}", path)
    about = [f"/** {operation.get('summary', '')}."]
    about += [f" * @param {{string|number}} {each}" for each in inside]
    if query:
        names = ", ".join(f"{each['name']}?: any" for each in query)
        about.append(
            f" * @param {{{{query?: {{{names}}}, body?: {body}, signal?: AbortSignal}}}} options"
        )
    elif body != "undefined":
        about.append(f" * @param {{{{body: {body}, signal?: AbortSignal}}}} options")
    about.append(f" * @returns {{Promise<{answer}>}} */")
    how = "call" if answer not in ("Response",) else "send"
    arguments = ", ".join([*inside, "options = {}"])
    return (
        "\n" + "\n".join(about) + f"\nexport const {name} = ({arguments}) =>"
        f' {how}("{method}", `{text}`, options);\n'
    )


def _answer(operation: dict[str, Any]) -> str:
    for status, answer in operation.get("responses", {}).items():
        if status.startswith("2"):
            kinds = answer.get("content", {})
            if not kinds:
                return "null"
            return _type(answer) if "application/json" in kinds else "Response"
    return "null"


def _type(part: dict[str, Any]) -> str:
    schema = part.get("content", {}).get("application/json", {}).get("schema")
    if schema is None:
        return "undefined"
    return schema["$ref"].rsplit("/", 1)[-1] if "$ref" in schema else "object"


def current() -> str:
    """What the file should say today."""
    from service.app import create_app

    app = create_app(Settings(require_keys=False))
    return script(app.openapi(), used_operations())


if __name__ == "__main__":
    Path(str(files("service.pages") / "static" / NAME)).write_text(current())
