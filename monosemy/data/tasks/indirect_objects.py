"""Who is given something: "When Mary and John went to the store, John gave a drink to" Mary.

Wang et al., arXiv 2211.00593.  A prompt has three attributes: ``IO`` (the indirect object, which
is the answer), ``S`` (the subject, named twice) and ``Pos``: ``ABB`` where the indirect object is
named first, ``BAB`` where the subject is.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from monosemy.data.tasks.examples import Example, TaskPrompts
from monosemy.data.tasks.templates import Filler, Template
from monosemy.data.tasks.words import NAMES, OBJECTS, PLACES, enough, single_tokens
from monosemy.errors import DataError

TEMPLATES = {
    each.name: each
    for each in (
        Template("went", "When {A} and {B} went to the {place}, {C} gave a {object} to"),
        Template(
            "long-day",
            "After {A} and {B} had a long day at the {place}, {C} handed the {object} to",
        ),
        Template(
            "arrived",
            "When {A} and {B} arrived at the {place}, {C} decided to give the {object} to",
        ),
        Template(
            "working", "While {A} and {B} were working at the {place}, {C} passed a {object} to"
        ),
    )
}
DEFAULT_TEMPLATES = ("went", "long-day")
"""In which SmolLM2-135M prefers the right name by more than 3 nats whoever is named first."""

Part = Literal["fit", "test"]
Attribute = Literal["IO", "S", "Pos"]
ORDERS = ("ABB", "BAB")
_LEAST_NAMES = 3


@dataclass(frozen=True)
class _Scene:
    """All that a prompt is made of."""

    template: str
    io: str
    s: str
    giver: str
    """``s``, or a third name."""
    order: str
    place: str
    object: str


class IndirectObjects:
    """Makes prompts for one tokenizer.

    ``left_out`` has the ``names``, ``places`` and ``objects`` that are not one token.  Names are of
    the part ``fit`` or ``test``, never of both; the same ``seed`` and ``test_share`` give the same
    parts.  Raises ``DataError`` where too few words are left, and for an unknown template.
    """

    def __init__(
        self,
        tokenizer: Any,
        templates: Sequence[str] | None = None,
        test_share: float = 0.3,
        seed: int = 0,
    ) -> None:
        self.templates = [_template(name) for name in templates or DEFAULT_TEMPLATES]
        names, no_names = single_tokens(tokenizer, NAMES)
        places, no_places = single_tokens(tokenizer, PLACES)
        objects, no_objects = single_tokens(tokenizer, OBJECTS)
        self.left_out = {"names": no_names, "places": no_places, "objects": no_objects}
        enough(names, 2 * _LEAST_NAMES, "names", tokenizer)
        enough(places, 1, "places", tokenizer)
        enough(objects, 1, "objects", tokenizer)
        self.token = {**objects, **places, **names}
        """Of every word that may stand in a prompt."""
        self.places, self.objects = list(places), list(objects)
        shuffled = list(names)
        random.Random(f"names {seed}").shuffle(shuffled)
        count = round(test_share * len(shuffled))
        count = min(max(count, _LEAST_NAMES), len(shuffled) - _LEAST_NAMES)
        self.names: Mapping[Part, list[str]] = {
            "test": sorted(shuffled[:count]),
            "fit": sorted(shuffled[count:]),
        }
        self._filler = Filler(tokenizer, self.token)

    def examples(self, n: int, seed: int = 0, part: Part | None = None) -> list[Example]:
        """``n`` prompts, both orders alike often (to one), of the names of ``part`` or of all."""
        draw = random.Random(f"indirect objects {seed} {part}")
        names = self.names[part] if part else self.names["fit"] + self.names["test"]
        made = []
        for number in range(n):
            io, s = draw.sample(names, 2)
            scene = _Scene(
                template=draw.choice(self.templates).name,
                io=io,
                s=s,
                giver=s,
                order=ORDERS[number % 2],
                place=draw.choice(self.places),
                object=draw.choice(self.objects),
            )
            made.append(self._made(scene))
        return made

    def changed(self, example: Example, attribute: Attribute, value: str) -> Example:
        """The counterfactual of a prompt: the same but for one attribute.  ``DataError`` for a name
        that is no single token or is in the prompt already, and for an order that there is not."""
        scene = _scene(example)
        if attribute == "Pos":
            if value not in ORDERS:
                raise DataError(f"Pos is {' or '.join(ORDERS)}, not '{value}'.")
            return self._made(replace(scene, order=value))
        if value not in self.token:
            raise DataError(f"'{value}' is no name that is a single token.")
        if value in (scene.io, scene.s, scene.giver):
            raise DataError(f"'{value}' is in the prompt already.")
        if attribute == "IO":
            return self._made(replace(scene, io=value))
        giver = value if scene.giver == scene.s else scene.giver
        return self._made(replace(scene, s=value, giver=giver))

    def corrupted(self, example: Example, name: str) -> Example:
        """The prompt with a third name as the giver: it asks for nobody any more."""
        scene = _scene(example)
        if name in (scene.io, scene.s):
            raise DataError(f"'{name}' is in the prompt already.")
        return self._made(replace(scene, giver=name))

    def prompts(self, n: int, seed: int = 0, part: Part | None = None) -> TaskPrompts:
        """``n`` prompts, and each once more with a third name in place of the second subject."""
        draw = random.Random(f"third names {seed} {part}")
        names = self.names[part] if part else self.names["fit"] + self.names["test"]
        positive = self.examples(n, seed, part)
        negative = []
        for example in positive:
            taken = (example.attributes["IO"], example.attributes["S"])
            negative.append(
                self.corrupted(example, draw.choice([name for name in names if name not in taken]))
            )
        return TaskPrompts(tuple(positive), tuple(negative), self.left_out)

    def _made(self, scene: _Scene) -> Example:
        first, second = (scene.io, scene.s) if scene.order == "ABB" else (scene.s, scene.io)
        words = {
            "A": first,
            "B": second,
            "C": scene.giver,
            "place": scene.place,
            "object": scene.object,
        }
        template = TEMPLATES[scene.template]
        text, ids, at = self._filler.fill(template, words)
        slot = dict(zip(template.slots(), at, strict=True))
        io, s1 = ("A", "B") if scene.order == "ABB" else ("B", "A")
        asks = scene.giver == scene.s
        return Example(
            text=text,
            ids=ids,
            template=scene.template,
            places={"IO": slot[io], "S1": slot[s1], "S2": slot["C"], "end": len(ids) - 1},
            attributes={
                "IO": scene.io,
                "S": scene.s,
                "Pos": scene.order,
                "giver": scene.giver,
                "place": scene.place,
                "object": scene.object,
            },
            right=(self.token[scene.io],) if asks else (),
            wrong=(self.token[scene.s],) if asks else (),
        )


def _template(name: str) -> Template:
    if name not in TEMPLATES:
        raise DataError(
            f"There is no template '{name}' of indirect objects.",
            f"There are {', '.join(TEMPLATES)}.",
        )
    return TEMPLATES[name]


def _scene(example: Example) -> _Scene:
    known = example.attributes
    return _Scene(
        template=example.template,
        io=known["IO"],
        s=known["S"],
        giver=known["giver"],
        order=known["Pos"],
        place=known["place"],
        object=known["object"],
    )
