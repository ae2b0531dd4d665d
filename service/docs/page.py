"""The OpenAPI document as one HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line) }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem }
summary { cursor: pointer } code, pre { font: 13px/1.5 ui-monospace, monospace }
pre { background: var(--soft); padding: .6rem; overflow-x: auto; border-radius: 4px }
.method { display: inline-block; min-width: 3.2rem; font-weight: 700 }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0 }
tr + tr { border-top: 1px solid var(--soft) }
"""


def render(document: dict[str, Any], openapi_url: str) -> str:
    """The page for an OpenAPI 3.1 document."""
    by_tag: dict[str, list[str]] = {tag["name"]: [] for tag in document.get("tags", [])}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["other"])[0]
            by_tag.setdefault(tag, []).append(_operation(method, path, operation))
    about = {tag["name"]: tag.get("description", "") for tag in document.get("tags", [])}
    sections = "".join(
        f"<h2 id='{escape(tag)}'>{escape(tag)}</h2><p>{escape(about.get(tag, ''))}</p>"
        + "".join(items)
        for tag, items in by_tag.items()
        if items
    )
    schemas = "".join(
        _schema(name, schema)
        for name, schema in sorted(document.get("components", {}).get("schemas", {}).items())
    )
    info = document["info"]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
        f"<p>{escape(info.get('description', ''))}</p>"
        f"<p>For programs: <a href='{escape(openapi_url)}'>{escape(openapi_url)}</a></p>"
        f"{sections}<h2>Schemas</h2>{schemas}</body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(_parameter(item) for item in operation.get("parameters", []))
    table = f"<table>{parameters}</table>" if parameters else ""
    body = operation.get("requestBody")
    request = f"<p>Body: {_content(body)}</p>" if body else ""
    answers = "".join(
        f"<tr><td><code>{escape(status)}</code></td>"
        f"<td>{escape(answer.get('description', ''))}</td><td>{_content(answer)}</td></tr>"
        for status, answer in operation.get("responses", {}).items()
    )
    return (
        f"<details><summary><code><span class='method'>{escape(method.upper())}</span>"
        f"{escape(path)}</code> {escape(operation.get('summary', ''))}</summary>"
        f"<p>{escape(operation.get('description', ''))}</p>{table}{request}"
        f"<table>{answers}</table></details>"
    )


def _parameter(item: dict[str, Any]) -> str:
    schema = {key: value for key, value in item["schema"].items() if key not in ("title",)}
    needed = " (required)" if item.get("required") else ""
    return (
        f"<tr><td><code>{escape(item['name'])}</code> in {escape(item['in'])}{needed}</td>"
        f"<td>{escape(item.get('description', ''))}</td>"
        f"<td><code>{escape(json.dumps(schema))}</code></td></tr>"
    )


def _content(part: dict[str, Any]) -> str:
    return ", ".join(
        f"<code>{escape(media)}</code> {_reference(value.get('schema', {}))}"
        for media, value in part.get("content", {}).items()
    )


def _reference(schema: dict[str, Any]) -> str:
    name = schema.get("$ref", "").rsplit("/", 1)[-1]
    return f"<a href='#{escape(name)}'>{escape(name)}</a>" if name else ""


def _schema(name: str, schema: dict[str, Any]) -> str:
    text = json.dumps(schema, indent=2, ensure_ascii=False)
    return (
        f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary>"
        f"<pre>{escape(text)}</pre></details>"
    )
