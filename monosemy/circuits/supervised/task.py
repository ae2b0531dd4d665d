"""A task whose attributes are known: its prompts in two halves, and counterfactuals.  No torch."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from monosemy.data.tasks.examples import Example
from monosemy.errors import DataError
from monosemy.figures import plural

FEW = 2
"""Values up to which an attribute is closed: its values stand in both halves in any combination."""
LEAST_TEST = 2
"""Prompts that a half needs."""


@dataclass(frozen=True)
class Values:
    """The attributes of a task and the values of each, numbered in one row of codes."""

    of: Mapping[str, tuple[str, ...]]

    @classmethod
    def found(cls, examples: Sequence[Example], attributes: Sequence[str]) -> Values:
        """Those of the prompts, sorted.  ``DataError`` for an attribute with one value, or none."""
        if not attributes:
            raise DataError("A task needs an attribute.")
        of = {}
        for name in attributes:
            of[name] = tuple(sorted({each.attributes[name] for each in examples}))
            if len(of[name]) < 2:
                raise DataError(
                    f"The attribute '{name}' has one value, {of[name][0]!r}: nothing tells it.",
                    "Leave it out, or add prompts with another value.",
                )
        return cls(of)

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes."""
        return tuple(self.of)

    @property
    def starts(self) -> tuple[int, ...]:
        """Number of the first code of each attribute, and of all codes at the end."""
        starts = [0]
        for values in self.of.values():
            starts.append(starts[-1] + len(values))
        return tuple(starts)

    @property
    def count(self) -> int:
        """Codes of all attributes together."""
        return self.starts[-1]

    def code(self, attribute: str, value: str) -> int:
        """Number of a code; ``KeyError`` for a value that there is not."""
        try:
            return self.starts[self.names.index(attribute)] + self.of[attribute].index(value)
        except ValueError:
            raise KeyError(f"{attribute}={value}") from None

    def codes(self, example: Example) -> list[int]:
        """Of each attribute, in order."""
        return [self.code(name, example.attributes[name]) for name in self.of]

    def named(self, code: int) -> str:
        """``IO=Mary``"""
        for number, (name, known) in enumerate(self.of.items()):
            if code < self.starts[number + 1]:
                return f"{name}={known[code - self.starts[number]]}"
        raise IndexError(code)


@dataclass(frozen=True)
class Pair:
    """A prompt of the test half and what it would be if one attribute had another value."""

    source: int
    """Its number in the test half."""
    target: Example


@dataclass(frozen=True)
class LabelledTask:
    """Prompts to fit to, prompts to test on, and counterfactuals of the latter."""

    values: Values
    fit: tuple[Example, ...]
    test: tuple[Example, ...]
    pairs: Mapping[str, tuple[Pair, ...]]
    """By attribute."""
    left_out: Mapping[str, tuple[str, ...]]
    """Words that the tokenizer does not read as the task needs them."""


Counterfactuals = Callable[[Sequence[Example], Values, str], Sequence[Pair]]
"""Pairs of a test half for one attribute."""


def combination(example: Example, values: Values) -> tuple[tuple[str, str], ...]:
    """What makes prompts alike, so that they are never in both halves: the values of the attributes
    that have many, or the text where fewer than two have."""
    open_ones = [name for name, known in values.of.items() if len(known) > FEW]
    if len(open_ones) < 2:
        return (("", example.text),)
    return tuple((name, example.attributes[name]) for name in open_ones)


def halves(
    examples: Sequence[Example], values: Values, share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """(fit, test) at random: no combination of values is in both, every value is in the first.

    ``DataError`` where that leaves fewer than two prompts to test on.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Example]] = {}
    for example in examples:
        groups.setdefault(combination(example, values), []).append(example)
    order = list(groups.values())
    random.Random(f"halves {seed}").shuffle(order)
    left = Counter(code for example in examples for code in values.codes(example))
    wanted = round(share * len(examples))
    fit: list[Example] = []
    test: list[Example] = []
    for group in order:
        used = Counter(code for example in group for code in values.codes(example))
        if len(test) + len(group) <= wanted and all(left[c] - n > 0 for c, n in used.items()):
            test += group
            left -= used
        else:
            fit += group
    if len(test) < LEAST_TEST:
        raise DataError(
            f"Of {plural(len(examples), 'prompt')} {len(test)} can be tested on: every value"
            " must stand among"
            " those that are fitted to, in another combination.",
            "Give more prompts, or fewer values.",
        )
    return fit, test


def check_halves(
    fit: Sequence[Example],
    test: Sequence[Example],
    values: Values,
    named: Callable[[Example], str],
) -> None:
    """``DataError`` for halves that somebody made: a combination that is in both, a value that is
    tested and not fitted; ``named`` says where a prompt stands."""
    if min(len(fit), len(test)) < LEAST_TEST:
        raise DataError(
            f"There are {plural(len(fit), 'prompt')} to fit to and {len(test)} to test on; at least"
            f" {LEAST_TEST} of each are needed."
        )
    fitted = {combination(each, values): each for each in fit}
    known = {code for each in fit for code in values.codes(each)}
    for each in test:
        twin = fitted.get(combination(each, values))
        if twin is not None:
            what = ", ".join(f"{n}={v}" if n else repr(v) for n, v in combination(each, values))
            raise DataError(
                f"{named(each)} is to be tested on and shares {what} with {named(twin)}, which is"
                " fitted to.",
                "A combination of values belongs into one half.",
            )
        unknown = [code for code in values.codes(each) if code not in known]
        if unknown:
            raise DataError(
                f"{named(each)} is to be tested on, and no prompt that is fitted to has"
                f" {values.named(unknown[0])}.",
                "A value has a code only where it is fitted; keep apart combinations, not values.",
            )


def matching_pairs(test: Sequence[Example], values: Values, attribute: str) -> list[Pair]:
    """Pairs within the test half: prompts that differ in this attribute and in no other, each
    prompt once."""
    others = [name for name in values.of if name != attribute]
    alike: dict[tuple[str, ...], list[int]] = {}
    for number, each in enumerate(test):
        alike.setdefault(tuple(each.attributes[name] for name in others), []).append(number)
    pairs = []
    for group in alike.values():
        for place, number in enumerate(group):
            for other in [*group[place + 1 :], *group[:place]]:
                if test[other].attributes[attribute] != test[number].attributes[attribute]:
                    pairs.append(Pair(number, test[other]))
                    break
    return sorted(pairs, key=lambda pair: pair.source)


def checked_pairs(
    pairs: Sequence[tuple[Example, Example]], test: Sequence[Example], values: Values
) -> dict[str, list[Pair]]:
    """Counterfactuals that somebody gave, by the one attribute that differs; those of prompts that
    are fitted to are left out.  ``DataError`` where none or several differ."""
    number = {id(example): place for place, example in enumerate(test)}
    found: dict[str, list[Pair]] = {name: [] for name in values.of}
    for source, target in pairs:
        differs = [name for name in values.of if source.attributes[name] != target.attributes[name]]
        if len(differs) != 1:
            what = ", ".join(differs) or "nothing"
            raise DataError(
                f"A counterfactual differs in one attribute; that of {source.text!r:.80} differs in"
                f" {what}."
            )
        if id(source) in number:
            found[differs[0]].append(Pair(number[id(source)], target))
    return found
