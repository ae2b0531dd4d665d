"""Which argument comes next: the docstring of a function, up to its third ``:param``.

Heimersheim and Janiak, "A circuit for Python docstrings in a 4-layer attention-only transformer"
(2023).  The answer is the third argument of the definition; the negative has other names in the
definition and in the docstring (their ``random_random``).
"""

from __future__ import annotations

import random
from typing import Any

from monosemy.data.tasks.examples import Example, TaskPrompts
from monosemy.data.tasks.templates import Filler, Template
from monosemy.data.tasks.words import ARGUMENTS, enough, single_tokens

TEMPLATE = Template(
    "docstring",
    "def {function}(self, {A}, {B}, {C}, {D}):\n"
    '    """ {w1} {w2} {w3}\n'
    "\n"
    "    :param {E}: {w4} {w5}\n"
    "    :param {F}: {w6} {w7}\n"
    "    :param",
)
_WORDS = ("function", "w1", "w2", "w3", "w4", "w5", "w6", "w7")
_ARGUMENTS = ("A", "B", "C", "D")
_DRAWN = len(_WORDS) + 2 * len(_ARGUMENTS) + 2
"""Words of a prompt and its negative."""


class Docstrings:
    """Makes prompts for one tokenizer; ``left_out`` has the ``arguments`` that are not one token.
    ``DataError`` where too few are left."""

    def __init__(self, tokenizer: Any) -> None:
        kept, left_out = single_tokens(tokenizer, ARGUMENTS)
        enough(kept, _DRAWN, "arguments", tokenizer)
        self.left_out = {"arguments": left_out}
        self.token, self.words = kept, list(kept)
        self._filler = Filler(tokenizer, kept)

    def prompts(self, n: int, seed: int = 0) -> TaskPrompts:
        """``n`` prompts, and each once more with other names in both places."""
        draw = random.Random(f"docstrings {seed}")
        positive, negative = [], []
        for _ in range(n):
            drawn = iter(draw.sample(self.words, _DRAWN))
            words = {slot: next(drawn) for slot in _WORDS}
            arguments = {slot: next(drawn) for slot in _ARGUMENTS}
            documented = {"E": arguments["A"], "F": arguments["B"]}
            positive.append(self._made({**words, **arguments, **documented}, asks=True))
            others = {slot: next(drawn) for slot in (*_ARGUMENTS, "E", "F")}
            negative.append(self._made({**words, **others}, asks=False))
        return TaskPrompts(tuple(positive), tuple(negative), self.left_out)

    def _made(self, words: dict[str, str], asks: bool) -> Example:
        text, ids, at = self._filler.fill(TEMPLATE, words)
        slot = dict(zip(TEMPLATE.slots(), at, strict=True))
        names = {"A_def": "A", "B_def": "B", "C_def": "C", "A_doc": "E", "B_doc": "F"}
        return Example(
            text=text,
            ids=ids,
            template=TEMPLATE.name,
            places={**{name: slot[each] for name, each in names.items()}, "end": len(ids) - 1},
            attributes={each: words[each] for each in (*_ARGUMENTS, "E", "F")},
            right=(self.token[words["C"]],) if asks else (),
            wrong=tuple(self.token[words[each]] for each in "ABD") if asks else (),
        )
