"""What looks like a key or a password, taken out of texts that are kept.

By three marks: the place (credentials in an address, a header, a field whose name says it), the
shape (how known services begin their keys), and the form (JSON web tokens, private keys).  Texts
may be JSON within JSON, so quotation marks may be escaped any number of times.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"

_CREDENTIALS = re.compile(r"(?<=://)[^/\s@\"'\\]*@")
"""``user:password@`` of an address."""
_SHAPES = re.compile(
    r"""
    (?<![A-Za-z0-9])(?:
      (?:sk|pk|rk|hf|mnsy|gsk|xai|r8|nvapi|pplx|csk|fw|tgp|glpat|dckr_pat|npm|lsv2|wandb)[-_][\w-]{12,}
    | (?:gh[pousr]|github_pat)_\w{16,}          # GitHub
    | xox[abeoprs]-[\w-]{10,}                   # Slack
    | AIza[\w-]{30,}                            # Google
    | ya29\.[\w.-]{20,}
    | (?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}       # AWS
    | eyJ[\w-]{6,}\.eyJ[\w-]{6,}(?:\.[\w-]*)?   # JSON web tokens
    )
    """,
    re.VERBOSE,
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_SCHEME = re.compile(
    r"\b((?i:bearer)|(?i:basic|token|apikey)(?=\s+(?:[a-z.~-]*[A-Z0-9+/=_]|[a-z]{20})))(\s+)"
    r"[A-Za-z0-9+/=._~-]{8,}"
)
"""As the header ``Authorization`` has it.  Of words that prose has too, a plain word may follow."""
_NAMES = (
    r"(?:[\w-]{0,60}(?:[_-]|(?=passw)))?(?:api[_-]?key|apikey|access[_-]?key(?:[_-]?id)?|secret(?:[_-]?(?:access[_-]?)?key)?"
    r"|password|passwd|pwd|auth[_-]?token|access[_-]?token|refresh[_-]?token|id[_-]?token"
    r"|client[_-]?secret|session[_-]?token|csrf[_-]?token|monosemy[_-]session|(?:host|secure)-monosemy"
    r"|signature|x-amz-signature|x-amz-security-token"
    r"|authorization|hf[_-]?token)"
)
_NAME = re.compile(_NAMES, re.IGNORECASE)
_QUOTE = r"\\{0,16}[\"']"
_QUOTED_FIELD = re.compile(
    rf"((?:{_QUOTE})?(?<![\w-]){_NAMES}(?:{_QUOTE})?(?:\s*[:=]|(?<=[\"'])\s*,)\s*b?"
    r"(\\{0,16})([\"']))(.{0,4096}?)(?<!\\)(\2\3|\Z)",
    re.IGNORECASE | re.DOTALL,
)
"""``"api_key": "..."``, ``password='...'`` and ``('x-api-key', '...')``: all up to the same
quotation mark, or to the end of a text that was cut."""
_BARE_FIELD = re.compile(
    rf"((?<![\w-]){_NAMES}\s*[:=]\s*)(?!\s|\\*[\"'])([^\s\"'\\&,;)}}\]]+)",
    re.IGNORECASE,
)
"""``api_key=...`` in a query or an environment, ``X-Api-Key: ...`` of a header."""
_NOTHING = frozenset(
    {"none", "null", "true", "false", HIDDEN, "bearer", "basic", "token", "apikey"}
)


def without_keys(text: str) -> str:
    """``text`` with ``***`` in place of credentials, of what a field's name says is secret, and of
    what is shaped like an API key."""
    text = _CREDENTIALS.sub(f"{HIDDEN}@", text)
    text = _PRIVATE_KEY.sub(HIDDEN, text)
    text = _SCHEME.sub(rf"\1\2{HIDDEN}", text)
    text = _QUOTED_FIELD.sub(_hide_quoted, text)
    text = _BARE_FIELD.sub(_hide_bare, text)
    return _SHAPES.sub(HIDDEN, text)


def _hide_quoted(match: re.Match[str]) -> str:
    value = HIDDEN if match[4] else ""
    return f"{match[1]}{value}{match[5]}"


def _hide_bare(match: re.Match[str]) -> str:
    if match[2].lower() in _NOTHING:
        return match[0]
    return f"{match[1]}{HIDDEN}"


def scrubbed(value: Any) -> Any:
    """``value``, of dicts, lists and strings, without keys in its strings and in what the name of a
    field says is secret; other values as they are."""
    if isinstance(value, str):
        return without_keys(value)
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if each and isinstance(each, str) and _is_secret(name) else scrubbed(each)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [scrubbed(each) for each in value]
    return value


def _is_secret(name: object) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None
