"""What a tag is: a short word, written one way only."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

MAX_LENGTH = 40
_SHAPE = re.compile(rf"\w[\w.:+-]{{0,{MAX_LENGTH - 1}}}")


def normalised(tag: str) -> str:
    """``tag`` in small letters (NFKC, case folded), with ``-`` for blanks and underscores.

    Raises ``ValueError`` for what is no word of at most 40 letters, digits and ``. : + -``.
    """
    # Folding may undo the composition of letters and the other way round; twice settles it.
    folded = tag
    for _ in range(2):
        folded = unicodedata.normalize("NFKC", folded).casefold()
    word = re.sub(r"[\s_]+", "-", unicodedata.normalize("NFKC", folded).strip())
    if _SHAPE.fullmatch(word) is None:
        raise ValueError(
            f"a tag has at most {MAX_LENGTH} letters, digits and . : + -, and begins with a letter"
            " or digit"
        )
    return word


Tag = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(normalised)]
"""A tag as somebody may write it; normalised when it has been read."""
