"""What a page does, as commands for a shell: said where there is no script, and for programs."""

from __future__ import annotations

import base64
import json
import shlex
import zlib
from collections.abc import Sequence
from typing import Any

from fastapi import Request

from monosemy.address import PREFIX
from service.pages.render import Links
from service.pages.viewer import viewer_of


def curl(request: Request, path: str, body: Any, stream: bool = False) -> str:
    """A call of REST at the address that this page was asked for; where keys are needed it reads
    one from the environment."""
    address = (
        f"{request.url.scheme}://{request.url.netloc}{Links(request.scope).root}{PREFIX}{path}"
    )
    key = "" if viewer_of(request).open_mode else ' -H "Authorization: Bearer $MONOSEMY_API_KEY"'
    data = json.dumps(body, ensure_ascii=False)
    return (
        f"curl -s{'N' * stream}{key} -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(data)} \\\n  {shlex.quote(address)}"
    )


def packed(value: Any) -> str:
    """As ``toFragment`` of ``lib/state.js`` makes it: for links that bring a text along."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = deflate.compress(json.dumps(value, ensure_ascii=False).encode()) + deflate.flush()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def command(words: Sequence[str]) -> str:
    """``monosemy`` with these words."""
    return shlex.join(["monosemy", *words])
