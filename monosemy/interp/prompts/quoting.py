"""How text of unknown origin is quoted in a prompt: as data, never as instructions.

The corpus may hold anything: chat-template tokens, our own markers, orders to the judge, quotes
and braces.  Each text becomes one JSON string on one line; whatever a tokenizer could take for a
control token, and our own ``<<`` and ``>>``, is written with ``\\uXXXX`` escapes.  The strings
stand between two fences whose name no text contains, since it is derived from the texts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence

OPEN, CLOSE = "<<", ">>"
"""Our marks around activating tokens."""

_CONTROL = re.compile(
    r"""
      [<>](?=[<>|｜])        # <<, >>, <|im_start|>, and full-width kin
    | (?<=[<>|｜])[<>]
    | <(?=/?[A-Za-z_]+[0-9]*>)  # <s>, </s>, <bos>, <start_of_turn>, <unused12>, <think>
    | \[(?=/?[A-Z_]{2,}\])   # [INST], [/INST], [EXPLANATION]
    """,
    re.VERBOSE,
)
_EDGE = re.compile(r"^[<>|｜]|[<>|｜]$")
_CONTROL_NAMES = re.compile(
    r"/?(s|bos|eos|pad|unk|sep|cls|mask|sys|think|start_of_turn|end_of_turn|tool_call|tool_response"
    r"|im_start|im_end|unused\d+)",
    re.IGNORECASE,
)


def quote(text: str) -> str:
    """``text`` as a one-line JSON string; ``json.loads`` gives it back unchanged."""
    return f'"{_inner(text)}"'


def quote_marked(runs: Iterable[tuple[str, bool]]) -> str:
    """One JSON string out of (text, marked) runs, the marked ones between ``<<`` and ``>>``.

    Those marks are the only such signs in the result: the text's own are escaped.
    """
    parts = []
    for text, marked in runs:
        inner = _inner(text, edges=True)
        if marked:
            # Together with our marks, parts of a control token could become whole ones: <<s>>.
            inner = re.sub("[<>]", lambda match: _escape(match[0]), inner)
            if _CONTROL_NAMES.fullmatch(text):
                inner = _escape(text[0]) + text[1:]
            inner = f"{OPEN}{inner}{CLOSE}"
        parts.append(inner)
    return '"' + "".join(parts) + '"'


def fence(texts: Sequence[str]) -> str:
    """A name for the fences around ``texts`` that occurs in none of them; the same every time."""
    salt = 0
    while True:
        data = json.dumps([salt, *texts]).encode()
        name = f"DATA-{hashlib.blake2b(data, digest_size=4).hexdigest()}"
        if not any(name in text for text in texts):
            return name
        salt += 1


def _inner(text: str, edges: bool = False) -> str:
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    # U+2028, U+2029 and U+0085 end lines for some readers; lone surrogates cannot be sent at all.
    escaped = re.sub(r"[\u2028\u2029\u0085\ud800-\udfff]", lambda m: _escape(m[0]), escaped)
    escaped = _CONTROL.sub(lambda match: _escape(match[0]), escaped)
    if edges:
        escaped = _EDGE.sub(lambda match: _escape(match[0]), escaped)
    return escaped


def _escape(character: str) -> str:
    return f"\\u{ord(character):04x}"
