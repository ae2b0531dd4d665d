"""Scripts and styles of the pages, under an address that changes with them: kept for ever."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.responses import Response

from monosemy.svg import PLOT_STYLE
from service.edge.routing import Router
from service.keys.authorize import ForAnybody
from service.kit.errors import NotFound

KINDS = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
}
ICON = "icon.svg"
STYLE = "base.css"
_COMMENTS = re.compile(rb"^[ \t]*(?://.*|/\*(?:(?!\*/)[\s\S])*\*/)[ \t]*$", re.MULTILINE)
"""Whole lines of a script; none of them begins within a text of many lines, which tests see to."""
_FOR_EVER = "public, max-age=31536000, immutable"

router = Router(include_in_schema=False, dependencies=[ForAnybody])


@cache
def static_files() -> dict[str, bytes]:
    """Every file by its path under ``static/``; read once, some hundred kilobytes.  The base style
    begins with that of drawings, which pages of one file have too; scripts go without their
    comments, a sixth of what would be sent."""
    found = dict(_walk(files("service.pages") / "static", ""))
    scripts = {
        name: without_comments(content) for name, content in found.items() if name.endswith(".js")
    }
    return {**found, **scripts, STYLE: PLOT_STYLE.encode() + found[STYLE]}


def without_comments(script: bytes) -> bytes:
    """Lines that are comments become empty, so that an error still names the line of the source."""
    return _COMMENTS.sub(lambda lines: b"\n" * lines[0].count(b"\n"), script)


@cache
def tree_digest() -> str:
    """Of all files together: modules import one another by relative paths."""
    digest = hashlib.blake2b(digest_size=8)
    for name, content in sorted(static_files().items()):
        digest.update(f"{name}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()


def static_path(name: str) -> str:
    """Address of a file.  Raises ``KeyError`` for one that is not there."""
    if name not in static_files():
        raise KeyError(f"no static file '{name}'")
    return f"/static/{tree_digest()}/{name}"


@router.get("/static/{digest}/{name:path}")
async def static(digest: str, name: str) -> Response:
    content = static_files().get(name)
    if content is None or digest != tree_digest():
        raise NotFound("file", name[:100], "Load the page again: it names the files of today.")
    return _answer(name, content, _FOR_EVER)


@router.get("/favicon.ico")
async def favicon() -> Response:
    return _answer(ICON, static_files()[ICON], "public, max-age=86400")


def _answer(name: str, content: bytes, cached: str) -> Response:
    kind = KINDS[name.rpartition(".")[2]]
    return Response(content, headers={"Cache-Control": cached, "Content-Type": kind})


def _walk(folder: Traversable, above: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        name = f"{above}{entry.name}"
        if entry.is_dir():
            found += _walk(entry, f"{name}/")
        elif entry.name.rpartition(".")[2] in KINDS:
            found.append((name, entry.read_bytes()))
    return found
