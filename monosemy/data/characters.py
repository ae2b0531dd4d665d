"""Characters that no UTF-8 has: halves of surrogate pairs, as JSON and judges bring them."""

from __future__ import annotations


def encodable(text: str) -> tuple[str, int]:
    """``text`` as UTF-8 can hold it, and how many characters were replaced by U+FFFD.

    Halves that make a pair are joined; what is left over is replaced.  NUL is a character.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return joined, joined.count("\ufffd") - text.count("\ufffd")
    return text, 0
