"""Prompts and what they would be if one attribute had another value; no torch.

Both halves have the same names, as a latent of a name that no prompt to choose by has could not be
chosen; no two names that stand together in one half stand together in the other.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monosemy.data.tasks.examples import Example
from monosemy.data.tasks.indirect_objects import ORDERS, TEMPLATES, Attribute, IndirectObjects, Part
from monosemy.errors import DataError
from monosemy.specs.benchmarks import EditingBenchmark

ATTRIBUTES: tuple[Attribute, ...] = ("IO", "S", "Pos")
_TEST = 0.4
"""Share of the pairs of names that is tested on."""
_TRIED = 30
"""Prompts that are made for one that is taken."""


@dataclass(frozen=True)
class Half:
    """Prompts with one counterfactual of each attribute, by place."""

    base: tuple[Example, ...]
    sources: Mapping[str, tuple[Example, ...]]
    """Each differs from its base in that attribute alone."""

    def taken(self, places: Sequence[int]) -> Half:
        """Those at ``places``."""

        def of(every: Sequence[Example]) -> tuple[Example, ...]:
            return tuple(every[place] for place in places)

        return Half(of(self.base), {name: of(each) for name, each in self.sources.items()})

    @property
    def cells(self) -> list[tuple[str, str]]:
        """(template, order) of each prompt."""
        return [(each.template, each.attributes["Pos"]) for each in self.base]


@dataclass(frozen=True)
class EditTask:
    """What one seed draws."""

    choosing: Half
    test: Half


def edit_task(tokenizer: Any, spec: EditingBenchmark, seed: int) -> EditTask:
    """``DataError`` where the tokenizer reads too few names, places or objects as single tokens."""
    templates = spec.templates or list(TEMPLATES)
    task = IndirectObjects(tokenizer, templates, seed=seed)
    there = sum(map(len, task.names.values()))
    part: Part | None = None
    names = sorted(task.names["fit"] + task.names["test"])
    if spec.names < there:
        part = "fit"
        task = IndirectObjects(tokenizer, templates, 1 - spec.names / there, seed)
        names = task.names[part]
    together = list(itertools.combinations(names, 2))
    draw = random.Random(f"pairs of names {seed}")
    draw.shuffle(together)
    count = round(_TEST * len(together))
    halves = [
        _half(
            task, templates, draw, task.examples(_TRIED * wanted, 2 * seed + number, part), allowed
        )
        for number, (wanted, allowed) in enumerate(
            [(spec.choosing, together[count:]), (spec.pairs, together[:count])]
        )
    ]
    return EditTask(*halves)


def _half(
    task: IndirectObjects,
    templates: Sequence[str],
    draw: random.Random,
    tried: Sequence[Example],
    together: Sequence[tuple[str, str]],
) -> Half:
    """One in ``_TRIED`` of those ``tried``, as many of each template and order, or fewer where
    names give no more."""
    allowed = {frozenset(pair) for pair in together}
    beside: dict[str, list[str]] = {}
    for one, other in together:
        beside.setdefault(one, []).append(other)
        beside.setdefault(other, []).append(one)
    most = math.ceil(len(tried) / _TRIED / (len(templates) * len(ORDERS)))
    filled: Counter[tuple[str, str]] = Counter()
    base: list[Example] = []
    sources: dict[str, list[Example]] = {name: [] for name in ATTRIBUTES}
    for example in tried:
        io, s, order = (example.attributes[name] for name in ATTRIBUTES)
        cell = example.template, order
        if filled[cell] == most or frozenset((io, s)) not in allowed:
            continue
        instead = {
            "IO": [name for name in beside[s] if name != io],
            "S": [name for name in beside[io] if name != s],
            "Pos": [each for each in ORDERS if each != order],
        }
        if not all(instead.values()):
            continue
        filled[cell] += 1
        base.append(example)
        for name in ATTRIBUTES:
            sources[name].append(task.changed(example, name, draw.choice(instead[name])))
    if len(base) < 2:
        raise DataError(
            f"The tokenizer leaves {len(base)} prompts with a counterfactual of each attribute.",
            "Ask for more names.",
        )
    return Half(tuple(base), {name: tuple(each) for name, each in sources.items()})
