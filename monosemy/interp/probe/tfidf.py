"""What words alone say: the baseline that a probe of hidden states must beat.  numpy only.

TF-IDF with smoothed idf and unit length (C. D. Manning, P. Raghavan and H. Schütze, Introduction
to Information Retrieval (2008), chapter 6) of the explanation and of the text, each apart, and the
cosine between the two: the words they share, without which a bag of words could say nothing of a
feature that it never saw.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from monosemy.interp.probe.items import JudgedItem
from monosemy.interp.probe.linear import Floats

_WORD = re.compile(r"\w+")


class TfIdf:
    """Columns fixed by the items that it was fitted on; words not among them are left out."""

    def __init__(self, items: Sequence[JudgedItem]) -> None:
        texts = [_words(text) for item in items for text in (item.explanation, item.text)]
        seen = Counter(word for words in texts for word in set(words))
        self._column = {word: i for i, word in enumerate(sorted(seen))}
        self._idf = {
            word: math.log((1 + len(texts)) / (1 + count)) + 1 for word, count in seen.items()
        }

    def __call__(self, items: Sequence[JudgedItem]) -> Floats:
        """``[N, 2 V + 1]``: explanation, text, cosine."""
        said_NV = self._vectors([item.explanation for item in items])
        text_NV = self._vectors([item.text for item in items])
        cosine_N = (said_NV * text_NV).sum(axis=1)
        # The cosine counts as much as the words do together; the penalty is the same for all.
        return np.column_stack([said_NV, text_NV, 2 * cosine_N])

    def _vectors(self, texts: Sequence[str]) -> Floats:
        found_NV = np.zeros((len(texts), len(self._column)))
        for i, text in enumerate(texts):
            for word, count in Counter(_words(text)).items():
                if word in self._column:
                    found_NV[i, self._column[word]] = count * self._idf[word]
        length_N = np.linalg.norm(found_NV, axis=1, keepdims=True)
        return found_NV / np.where(length_N > 0, length_N, 1.0)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
