"""A stand-in for a judge: it records questions, and answers in the right shape."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from monosemy.interp.judging.answers import Schema, as_sent
from monosemy.interp.judging.endpoint import Message
from monosemy.interp.judging.judge import Accept, Judge
from monosemy.interp.judging.usage import Usage
from monosemy.specs.parts import JudgeSpec

_SENTENCE = (
    "Words and short phrases that name one particular kind of thing, most of all where a text "
    "introduces it for the first time and goes on to describe it in some detail."
)
"""About as long as a judge's explanation."""
_LABEL = "one particular kind of thing"
_WORDS = 4
"""Strings of other properties are so many words long."""


@dataclass(frozen=True)
class Question:
    """What would have been sent, and about what would have come back."""

    messages: tuple[Message, ...]
    schema: dict[str, Any]
    answer: str

    @property
    def prompt_bytes(self) -> int:
        return sum(len(message["content"].encode()) for message in self.messages)


class RehearsalJudge:
    """Stands in for a ``Judge``; equal questions are taken down once, as a judge answers them."""

    def __init__(self, spec: JudgeSpec, seed: int = 0) -> None:
        self.spec = spec
        self.usage = Usage()
        self.questions: list[Question] = []
        self.prompt_logprobs = _NoPromptLogprobs()
        self._asked: set[str] = set()
        self._rng = random.Random(seed)

    async def complete_json(
        self,
        messages: Sequence[Message],
        schema: Schema,
        *,
        name: str = "answer",  # noqa: ARG002
        accept: Accept | None = None,  # noqa: ARG002
        partial: bool = False,  # noqa: ARG002
        tries: int = 2,  # noqa: ARG002
        max_tokens: int | None = None,  # noqa: ARG002
    ) -> tuple[dict[str, Any], Usage]:
        """An answer that fits ``schema``; it is not held against ``accept``."""
        answer = {name: self._plausible(name, part) for name, part in schema["properties"].items()}
        asked = json.dumps([list(messages), dict(schema)])
        if asked not in self._asked:
            self._asked.add(asked)
            question = Question(tuple(messages), as_sent(schema), json.dumps(answer))
            self.questions.append(question)
        return answer, Usage()

    def provenance(self) -> dict[str, Any]:
        return {"model": self.spec.model, "rehearsal": True}

    def as_judge(self) -> Judge:
        """For what is declared to take a ``Judge`` and uses of it what this class has."""
        return cast(Judge, self)

    def _plausible(self, name: str, part: Schema) -> Any:
        if "enum" in part:
            return self._rng.choice(list(part["enum"]))
        kind = part["type"]
        if kind == "boolean":
            return self._rng.random() < 0.5
        if kind in ("integer", "number"):
            return self._rng.randint(int(part.get("minimum", 0)), int(part.get("maximum", 1)))
        if name == "explanation":
            return _SENTENCE[: part.get("maxLength")]
        if name == "label":
            return _LABEL[: part.get("maxLength")]
        return " ".join(["word"] * _WORDS)[: part.get("maxLength")]


class _NoPromptLogprobs:
    """A rehearsal takes the dearer form, without prompt logprobs."""

    way = None
    reason = "this is a rehearsal"

    async def probe(self) -> tuple[bool, Usage]:
        return False, Usage()
