"""Fragments as ``toFragment`` of ``lib/state.js`` makes them."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any


def fragment(value: Any) -> str:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(json.dumps(value).encode()) + packer.flush()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")
