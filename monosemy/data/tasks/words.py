"""Words of which tasks are made, and which of them a tokenizer reads as one token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from monosemy.data.tasks.examples import encode
from monosemy.errors import DataError


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    """
    Aaron Abigail Adam Alan Albert Alex Alexander Alice Amanda Amber Amy Andrea Andrew Angela
    Ann Anna Anne Anthony Arthur Ashley Austin Barbara Ben Benjamin Betty Bill Blake Bob Bobby
    Brandon Brian Bruce Bryan Cameron Carl Carol Caroline Charles Charlie Charlotte Chloe
    Chris Christian Christina Christine Christopher Claire Clara Connor Craig Daisy Daniel
    David Dean Deborah Dennis Diana Donald Donna Doug Dylan Edward Eleanor Elizabeth Ella
    Emily Emma Eric Ethan Eva Evan Frances Frank Fred Gary George Georgia Grace Graham Greg
    Hannah Harold Harry Heather Helen Henry Howard Ian Isaac Isabella Jack Jackson Jacob Jake
    James Jamie Jane Jason Jay Jean Jeff Jennifer Jeremy Jerry Jesse Jessica Jim Joan Joe Joel
    John Jonathan Jordan Joseph Joshua Judy Julia Julie Justin Karen Kate Katherine Keith
    Kelly Kenneth Kevin Kim Kyle Larry Laura Lauren Lawrence Lee Leo Leon Lewis Lily Linda
    Lisa Louis Louise Lucas Lucy Luke Madison Margaret Maria Marie Mark Martin Mary Matthew
    Max Megan Melissa Michael Michelle Mike Molly Nancy Natalie Nathan Neil Nicholas Nick
    Nicole Noah Oliver Olivia Oscar Pamela Patricia Patrick Paul Peter Philip Rachel Ralph Ray
    Rebecca Richard Robert Roger Ronald Rose Roy Russell Ruth Ryan Sam Samantha Samuel Sandra
    Sara Sarah Scott Sean Sharon Simon Sophia Stanley Stephanie Stephen Steve Steven Stuart
    Susan Taylor Ted Teresa Theodore Thomas Tim Timothy Toby Todd Tom Tony Tracy Vanessa
    Victor Victoria Vincent Walter Warren Wayne Wendy William
    """
)
"""First names."""

PLACES = _words(
    """
    store park school garden office hospital restaurant station library museum beach market
    church theater farm hotel bank house zoo mall
    """
)
"""Where people go, after "the"."""

OBJECTS = _words(
    """
    drink book ring ball kiss basket computer bottle letter pen phone ticket map key gift
    watch camera hat
    """
)
"""What people give, after "a" or "the"."""

EVENTS = _words(
    """
    war reign famine siege campaign voyage expedition dynasty crisis drought treaty plague
    exile rebellion strike trade debate conflict project study trial construction journey
    mission occupation operation program search tour truce work
    """
)
"""What lasts for years, after "The"."""

ARGUMENTS = _words(
    """
    load size files last first time date name page line group order point model result text
    code image table value number record user event field state level limit source target
    index label path host port test task node tree list string option weight length width
    height color status region version token
    """
)
"""Names of arguments and what is said of them, after a space."""


def single_tokens(tokenizer: Any, words: Iterable[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """(token by word, words left out): which of ``words`` are one token of their own after another
    word and a space."""
    before = encode(tokenizer, "then")
    strange = {getattr(tokenizer, "unk_token_id", None)}
    kept: dict[str, int] = {}
    left_out = []
    for word in words:
        ids = encode(tokenizer, f"then {word}")
        alone = len(ids) == len(before) + 1 and ids[:-1] == before
        if alone and ids[-1] not in strange and ids[-1] not in kept.values():
            kept[word] = ids[-1]
        else:
            left_out.append(word)
    return kept, tuple(left_out)


def enough(kept: dict[str, int], least: int, what: str, tokenizer: Any) -> None:
    """``DataError`` where a tokenizer leaves fewer than ``least`` words of a kind."""
    if len(kept) < least:
        name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        raise DataError(
            f"The tokenizer {name} reads {len(kept)} of the task's {what} as single tokens; "
            f"at least {least} are needed.",
            "Give prompts of your own instead.",
        )
