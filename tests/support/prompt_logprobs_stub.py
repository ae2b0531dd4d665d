"""Legacy completions with prompt logprobs, by a tokenizer and a mind of the test's own."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from tests.support.stub_server import Answer, Request

Expect = Callable[[str], dict[str, float]]
"""The prompt so far to the chances of the next token, by text."""

WORDS = re.compile(r"\d+|\w+|\t|\n|[^\w]")
"""One token per word, number, tab and other character."""
JOINED = re.compile(r"\t[^\W\d]+|\d+|\w+|\n|[^\w]")
"""A tab and the letters after it are one token, as some tokenizers have it."""
DIGITS = re.compile(r"\d|[^\W\d]+|\t|\n|[^\w]")
"""Every digit is a token of its own."""


def echo(
    expect: Expect, cut: re.Pattern[str] = WORDS, bos: bool = False
) -> Callable[[Request], Answer]:
    """``echo`` with ``logprobs``: the tokens, and the likeliest in the place of each."""

    def respond(request: Request) -> Answer:
        if not request.get("echo"):
            return ignoring(request)
        prompt = str(request["prompt"])
        tokens = cut.findall(prompt)
        assert "".join(tokens) == prompt
        tops: list[dict[str, float] | None] = []
        place = 0
        for token in tokens:
            tops.append(_logs(expect(prompt[:place]), token) if place else None)
            place += len(token)
        if bos:
            tokens, tops = ["<s>", *tokens], [None, {"x": -1.0}, *tops[1:]]
        # The one token that was generated stands at the end.
        logprobs = {"tokens": [*tokens, "!"], "top_logprobs": [*tops, {"!": 0.0}]}
        return completion({"text": prompt + "!", "logprobs": logprobs}, len(tokens))

    return respond


def vllm(expect: Expect, with_ids: bool = True) -> Callable[[Request], Answer]:
    """vLLM's own ``prompt_logprobs``; its ``echo`` is not there."""

    def respond(request: Request) -> Answer:
        if "prompt_logprobs" not in request:
            return ignoring(request)
        prompt = str(request["prompt"])
        tokens = WORDS.findall(prompt)
        ids = {text: number for number, text in enumerate(dict.fromkeys(tokens), 1000)}
        places: list[Any] = []
        place = 0
        for token in tokens:
            entry = None
            if place:
                named = _logs(expect(prompt[:place]), token)
                entry = {
                    str(ids.get(text, 10_000 + i)): {"logprob": value, "decoded_token": text}
                    for i, (text, value) in enumerate([(token, named.pop(token)), *named.items()])
                }
            places.append(entry)
            place += len(token)
        choice: dict[str, Any] = {"text": "!", "prompt_logprobs": places}
        if with_ids:
            choice["prompt_token_ids"] = [ids[token] for token in tokens]
        return completion(choice, len(tokens))

    return respond


def ignoring(request: Request) -> Answer:
    """A server that takes every field without a word, as llama.cpp's does."""
    return completion({"text": "!", "logprobs": None}, len(str(request["prompt"])) // 4)


def completion(choice: dict[str, Any], tokens: int) -> Answer:
    body = {
        "id": "1",
        "object": "text_completion",
        "created": 0,
        "model": "stub",
        "choices": [{"index": 0, "finish_reason": "length", "logprobs": None, **choice}],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1},
    }
    return Answer(body=json.dumps(body))


def _logs(chances: dict[str, float], own: str) -> dict[str, float]:
    """As log probabilities; the token that stands there is always among them."""
    return {text: math.log(chance) for text, chance in ({own: 1e-6} | chances).items()}
