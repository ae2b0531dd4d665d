"""What the API sends to the inference server, as the rooms that do the work take it."""

from __future__ import annotations

from collections.abc import Sequence

from monosemy.interventions.generation import Generation
from monosemy.interventions.intervention import steer
from monosemy.specs.inference.contrast import ContrastCall
from monosemy.specs.inference.prompts import ChatMessage, Prompted
from monosemy.specs.inference.steering import SteerCall
from workers.contrasting import Contrasted
from workers.prompts import Prompt
from workers.steered_text import Steer


def prompt_of(call: Prompted) -> Prompt:
    return Prompt(call.text, _chat(call.messages), call.generation_prompt)


def contrast_of(call: ContrastCall) -> Contrasted:
    def prompt(text: str) -> Prompt:
        if call.chat:
            return Prompt(None, [{"role": "user", "content": text}], generation_prompt=False)
        return Prompt(text, None)

    positive = [prompt(text) for text in call.positive]
    negative = [prompt(text) for text in call.negative]
    return Contrasted(positive, negative, call.pooling, call.statistic, call.top, call.values)


def steer_of(call: SteerCall) -> Steer:
    return Steer(
        Prompt(call.prompt, _chat(call.messages)),
        tuple(steer(each.latent, each.strength, each.mode) for each in call.pushes),
        Generation(
            call.writing.new_tokens,
            call.writing.temperature,
            call.writing,
            call.writing.logprobs,
        ),
        call.writing.seed,
        call.compare,
        tuple(call.concepts),
    )


def _chat(messages: Sequence[ChatMessage] | None) -> list[dict[str, str]] | None:
    return None if messages is None else [each.model_dump() for each in messages]
