"""Simulation all at once: one prefill, and the judge's expectation at every token.

Every token stands on a line with a tab and "unknown".  At each tab the judge's next token is a
distribution over the strengths 0 to 10, whose mean is the simulated activation; since the lines
never hold a guess, no guess rests on another (Bills et al. 2023, "all at once" simulation).
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monosemy.interp.judging.failures import AnswerError
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.prompt_logprobs import PromptToken, at_offsets
from monosemy.interp.judging.usage import Usage
from monosemy.interp.prompts.loader import load_prompt
from monosemy.interp.prompts.quoting import quote

log = logging.getLogger(__name__)

PLACEHOLDERS = ("unknown", "?", "_")
"""Placeholders for a strength that is not given.  Some tokenizers join a tab with letters."""

_NUMBER = re.compile(r"0|[1-9]\d?")
Simulated = tuple[float, ...] | None
"""Strengths 0 to 10, one per token of a context; None where no usable answer came."""


@dataclass(frozen=True)
class Slots:
    """How the lines look to the judge's tokenizer."""

    placeholder: str = PLACEHOLDERS[0]
    highest: int = 10
    """9 where the tokenizer cuts 10 in two, which would make it a 1."""


def expected_value(top: Mapping[str, float], highest: int = 10) -> float | None:
    """sum(v p_v) / sum(p_v) over the numbers 0 to ``highest`` among the likeliest tokens, as a
    strength from 0 to 10; ``top`` holds natural log probabilities by token.  None without any
    number: the judge expects something else there."""
    total = weighted = 0.0
    for text, logprob in top.items():
        number = text.strip()
        if _NUMBER.fullmatch(number):
            value = int(number)
            if value <= highest:
                chance = math.exp(logprob)
                total += chance
                weighted += value * chance
    return weighted / total * 10 / highest if total > 0 else None


class LogprobSimulator:
    """Simulates by prompt logprobs, one prompt per context as the method has it.

    ``prepare`` first: it finds out how the judge's tokenizer takes the lines.
    """

    form = "prompt_logprobs"

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.prompt = load_prompt("simulate")
        self.slots = Slots()

    async def prepare(self) -> tuple[str | None, Usage]:
        """(why this judge cannot be asked so, or None; cost).  Raises ``EndpointError``."""
        usage = Usage()
        available, cost = await self.judge.prompt_logprobs.probe()
        usage.add(cost)
        if not available:
            why = self.judge.prompt_logprobs.reason
            return f"the endpoint gives no prompt logprobs: {why}", usage
        reason = ""
        for placeholder in PLACEHOLDERS:
            self.slots = Slots(placeholder)
            prompt, offsets = self.lines("Names of animals.", ["The", " cat", " sat", "."])
            ten = prompt.index("\t10\n") + 1
            try:
                tokens, cost = await self.judge.prompt_logprobs.tokens(prompt)
                usage.add(cost)
                *numbers, number = at_offsets(prompt, tokens, [*offsets, ten])
            except AnswerError as error:
                usage.add(error.usage)
                return str(error), usage
            if any(token is None for token in numbers):
                reason = "its tokenizer joins tabs with what follows"
                continue
            if number is None or number.text.strip() != "10":
                self.slots = Slots(placeholder, 9)
            if not any(expected_value(token.top) is None for token in numbers if token):
                return None, usage
            reason = "it expects no numbers where numbers are to stand"
        return reason, usage

    def lines(self, explanation: str, tokens: Sequence[str]) -> tuple[str, list[int]]:
        """The prompt, and the offset of the character after each token's tab.

        A token is quoted as a JSON string, so it holds neither a tab nor a line end, whatever the
        corpus says.
        """
        starts = [f"{quote(token)}\t" for token in tokens]
        lines = [start + self.slots.placeholder for start in starts]
        text = "\n".join(lines)
        messages = self.prompt.render(
            explanation=quote(explanation),
            lines=text,
            unknown=self.slots.placeholder,
            highest=str(self.slots.highest),
        )
        prompt = "\n\n".join(message["content"] for message in messages)
        offsets, position = [], len(prompt) - len(text)
        for start, line in zip(starts, lines, strict=True):
            offsets.append(position + len(start))
            position += len(line) + 1
        return prompt, offsets

    async def simulate(
        self, explanation: str, contexts: Sequence[Sequence[str]]
    ) -> tuple[list[Simulated], Usage]:
        """One entry per context of tokens.  Raises ``EndpointError``."""
        results = await asyncio.gather(*(self._one(explanation, tokens) for tokens in contexts))
        usage = Usage()
        for _, cost in results:
            usage.add(cost)
        return [simulated for simulated, _ in results], usage

    async def _one(self, explanation: str, tokens: Sequence[str]) -> tuple[Simulated, Usage]:
        prompt, offsets = self.lines(explanation, tokens)
        usage = Usage()
        try:
            answer, usage = await self.judge.prompt_logprobs.tokens(prompt)
            slots = at_offsets(prompt, answer, offsets)
        except AnswerError as error:
            log.warning("no simulation of a context: %s", error)
            if error.usage.failures == 0:
                error.usage.failures = 1  # an answer came, but a useless one
            usage.add(error.usage)
            return None, usage
        values = [self._value(slot) for slot in slots]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            log.warning(
                "no simulation of a context: no number is expected at %d of %d tokens",
                len(values) - len(known),
                len(values),
            )
            return None, usage
        return tuple(known), usage

    def _value(self, slot: PromptToken | None) -> float | None:
        return expected_value(slot.top, self.slots.highest) if slot is not None else None

    def provenance(self) -> dict[str, Any]:
        way, count = self.judge.prompt_logprobs.way or ("none", 0)
        return {
            "way": way,
            "top_logprobs": count,
            "placeholder": self.slots.placeholder,
            "highest": self.slots.highest,
        }
