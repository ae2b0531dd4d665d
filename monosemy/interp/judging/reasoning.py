"""What a model thinks aloud, taken out of what it says: drafts of an answer are no answer.

Endpoints that do not take reasoning out of ``content`` leave it there between marks of the model's
own; a template that opens the first mark in the prompt leaves a closing mark alone, and an answer
that is cut off leaves an opening one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from json import JSONDecoder

_TAGS = "think|thinking|thought|thoughts|reasoning|reflection|seed:think|analysis|scratchpad"
_OPEN = (
    rf"<(?:{_TAGS})>",
    r"\[THINK\]",
    r"◁think▷",
    r"<\|(?:begin_of_thought|START_THINKING|think)\|>",
    r"<\|channel\|?>\s*(?:analysis|thought|commentary)\b",
)
_CLOSE = (
    rf"</(?:{_TAGS})>",
    r"\[/THINK\]",
    r"◁/think▷",
    r"<\|(?:end_of_thought|END_THINKING|/think)\|>",
    # Harmony: the channel of the answer; others end theirs with a mark of its own.
    r"<\|channel\|?>\s*final\b(?:\s*<\|constrain\|>\s*\w+)?(?:\s*<\|message\|>)?",
    r"<channel\|>",
)
_MARK = re.compile(
    rf"(?P<open>{'|'.join(_OPEN)})|(?P<close>{'|'.join(_CLOSE)})|(?P<brace>\{{)", re.IGNORECASE
)
_END = re.compile("|".join(_CLOSE), re.IGNORECASE)


@dataclass(frozen=True)
class Spoken:
    """A model's text without its reasoning."""

    text: str
    thought: bool
    """It thought aloud first."""
    unfinished: bool
    """The text ends within the reasoning."""


def without_reasoning(text: str) -> Spoken:
    """What is said after the reasoning.  Marks within an object's strings are part of what is said:
    an explanation may well be about them."""
    decoder = JSONDecoder()
    begin = position = 0
    thought = False
    pieces: list[str] = []
    while (match := _MARK.search(text, position)) is not None:
        if match["brace"]:
            try:
                _, position = decoder.raw_decode(text, match.start())
            except (ValueError, RecursionError):
                position = match.end()
        elif match["close"]:
            # Its opening stood in the prompt, or was one of those already passed.
            pieces.clear()
            thought, begin, position = True, match.end(), match.end()
        else:
            thought = True
            pieces.append(text[begin : match.start()])
            end = _END.search(text, match.end())
            if end is None:
                return Spoken("".join(pieces), True, True)
            begin = position = end.end()
    pieces.append(text[begin:])
    return Spoken("".join(pieces), thought, False)
