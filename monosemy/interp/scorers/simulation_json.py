"""Simulation in JSON: for judges behind endpoints without prompt logprobs.

Every token has an id, and the answer is one whole number by id: a number too few or too many shifts
nothing, and only what is missing is asked for again.  A context that stays incomplete has failed;
none of its tokens is taken for silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any

from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.failures import AnswerError
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.usage import Usage
from monosemy.interp.prompts.loader import load_prompt
from monosemy.interp.prompts.quoting import fence, quote
from monosemy.interp.scorers.simulation_logprobs import Simulated

ROUNDS = 2
"""How often a context is put to the judge before it counts as failed."""
KEYS_PER_CALL = 100
"""Strict endpoints have allowed no more properties than that in one schema."""
_ROOM_PER_KEY = 10
"""Tokens that one ``"a12": 10,`` takes at most."""


class JsonSimulator:
    """Simulates by JSON answers, up to ``contexts_per_call`` contexts in one call."""

    form = "json"

    def __init__(self, judge: Judge, contexts_per_call: int = 5) -> None:
        self.judge = judge
        self.contexts_per_call = min(contexts_per_call, len(ascii_lowercase))
        self.prompt = load_prompt("simulate_json")

    async def simulate(
        self, explanation: str, contexts: Sequence[Sequence[str]]
    ) -> tuple[list[Simulated], Usage]:
        """One entry per context of tokens.  Raises ``EndpointError``."""
        usage = Usage()
        strengths: list[dict[int, int]] = [{} for _ in contexts]
        for _ in range(ROUNDS):
            left = [i for i, tokens in enumerate(contexts) if len(strengths[i]) < len(tokens)]
            asked = [
                [(i, contexts[i], _missing(contexts[i], strengths[i])) for i in call]
                for call in self.calls(left, contexts)
            ]
            answers = await asyncio.gather(*(self._ask(explanation, call) for call in asked))
            for answer, cost in answers:
                usage.add(cost)
                for (i, token), strength in answer.items():
                    strengths[i][token] = strength
        return [
            tuple(float(strengths[i][k]) for k in range(len(tokens)))
            if len(strengths[i]) == len(tokens)
            else None
            for i, tokens in enumerate(contexts)
        ], usage

    def calls(self, chosen: Sequence[int], contexts: Sequence[Sequence[str]]) -> list[list[int]]:
        """``chosen`` contexts cut into calls of at most ``KEYS_PER_CALL`` tokens (a longer context
        stands alone)."""
        result: list[list[int]] = []
        room = 0
        for i in chosen:
            if not result or len(result[-1]) == self.contexts_per_call or room < len(contexts[i]):
                result.append([])
                room = KEYS_PER_CALL
            result[-1].append(i)
            room -= len(contexts[i])
        return result

    def messages(
        self,
        explanation: str,
        contexts: Sequence[Sequence[str]],
        wanted: Sequence[Sequence[int]],
    ) -> list[dict[str, str]]:
        """The request: all tokens of ``contexts`` (a, b, ...), and those ``wanted`` of each.

        Tokens come before the explanation: a shuffled baseline shares them with a prefix cache.
        """
        blocks = [
            [f"{letter}{k}: {quote(token)}" for k, token in enumerate(tokens, 1)]
            for letter, tokens in zip(ascii_lowercase, contexts, strict=False)
        ]
        lines = [line for block in blocks for line in block]
        ids = [
            f"{letter}1 to {letter}{len(tokens)}"
            if len(indices) == len(tokens) > 1
            else ", ".join(f"{letter}{k + 1}" for k in indices)
            for letter, tokens, indices in zip(ascii_lowercase, contexts, wanted, strict=False)
        ]
        return self.prompt.render(
            fence=fence(lines),
            explanation=quote(explanation),
            tokens="\n".join(lines),
            ids=", ".join(ids),
        )

    async def _ask(
        self, explanation: str, call: Sequence[tuple[int, Sequence[str], Sequence[int]]]
    ) -> tuple[dict[tuple[int, int], int], Usage]:
        """Strengths by (context, token); those that the judge left out or spoiled are missing."""
        keys = {
            f"{letter}{k + 1}": (i, k)
            for letter, (i, _, indices) in zip(ascii_lowercase, call, strict=False)
            for k in indices
        }
        schema = object_schema(
            {name: {"type": "integer", "minimum": 0, "maximum": 10} for name in keys}
        )
        messages = self.messages(
            explanation, [tokens for _, tokens, _ in call], [indices for *_, indices in call]
        )
        room = max(self.judge.spec.max_output_tokens, 32 + _ROOM_PER_KEY * len(keys))
        try:
            answer, usage = await self.judge.complete_json(
                messages, schema, name="reactions", partial=True, max_tokens=room
            )
        except AnswerError as error:
            return {}, error.usage
        return {keys[name]: value for name, value in answer.items()}, usage

    def provenance(self) -> dict[str, Any]:
        return {"contexts_per_call": self.contexts_per_call}


def _missing(tokens: Sequence[str], strengths: Mapping[int, int]) -> list[int]:
    return [k for k in range(len(tokens)) if k not in strengths]
