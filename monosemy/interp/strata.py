"""What strata of activation are called, on pages and in reports alike.

They are stored by number, 0 the weakest.  Examples are drawn so that the strongest stratum is never
without one, so the largest number says how many there are.
"""

from __future__ import annotations

from collections.abc import Iterable

_PARTS = {2: "half", 3: "third", 4: "quarter", 5: "fifth", 10: "tenth"}


def how_many(numbers: Iterable[int | str | None]) -> int:
    """Strata that there are, by the numbers of those that occur; what is no number is passed
    over."""
    known = [int(each) for each in numbers if each is not None and str(each).isdigit()]
    return max(known, default=-1) + 1


def part(count: int) -> str:
    """What one of so many strata is called: a fifth, a tenth."""
    return _PARTS.get(count, "stratum")


def name(number: int | str, count: int) -> str:
    """``fifth 1 (weakest)`` of 5; what is no number as it is."""
    if not str(number).isdigit():
        return str(number)
    place = int(number)
    ends = {0: " (weakest)", count - 1: " (strongest)"} if count > 1 else {}
    return f"{part(count)} {place + 1}{ends.get(place, '')}"


def untested(numbers: Iterable[int | str], what: str = "text") -> str:
    """A sentence where the weaker strata have none of what is told of, else ""."""
    present = {int(each) for each in numbers if str(each).isdigit()}
    count = how_many(present)
    missing = sorted(set(range(count)) - present)
    if not missing or count < 2:
        return ""
    first, last = missing[0] + 1, missing[-1] + 1
    if missing != list(range(missing[0], missing[-1] + 1)):
        which = f"{part(count)}s {', '.join(str(each + 1) for each in missing)}"
    else:
        which = f"{part(count)} {first}" if first == last else f"{part(count)}s {first} to {last}"
    return f"No {what} is of {which} of {count}: how weakly a feature may fire is not tested there."
