"""What looks like a key or a password, taken out of texts that are kept."""

from __future__ import annotations

import re

_CREDENTIALS = re.compile(r"(?<=://)[^/\s@\"']*@")
_KEY_LIKE = re.compile(r"\b(?:sk|pk|hf|mnsy)[-_][\w-]{12,}")


def without_keys(text: str) -> str:
    """``text`` without credentials in URLs, and without what begins like an API key."""
    return _KEY_LIKE.sub("***", _CREDENTIALS.sub("***@", text))
