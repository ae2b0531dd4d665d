"""What ``FakeInference`` says where a test is about what a page makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

WORDS = ["The", " king", " sat", "\n", " on", " the", " throne"]
TEXT = "".join(WORDS)
# Of the library: maximum index % 7, density (index % 5) / 100; 100 is none of its.
FIRING = [[[13, 3.0], [8, 0.9], [11, 0.5]], [[8, 0.5], [4, 0.25]], [], [[13, 6.0]], [[4, 2.0]],
          [[11, 4.0]], [[13, 1.0], [4, 0.5]]]  # fmt: skip


def reading(words: list[str] = WORDS, **changes: Any) -> dict[str, Any]:
    answer = {
        "features": (FIRING * (len(words) // len(FIRING) + 1))[: len(words)],
        "chosen": None,
        "unexplained": [(n % 10) / 10 for n in range(len(words))],
        "fires": [n % 4 for n in range(len(words))],
    }
    return {
        "tokens": [{"id": 10 + n, "text": word} for n, word in enumerate(words)],
        "saes": [{**answer, **changes}],
    }


PROMPT = {"text": "Once"}
PLAIN = [" there", " was", " a", " cat"]
STEERED = [" there", " was", " the", " king", " of"]


def token(row: str, text: str, number: int, last: bool = False) -> dict[str, Any]:
    top = [{"id": number, "text": text, "logprob": -0.5}, {"id": 999, "text": " x", "logprob": -2}]
    at = {"id": number, "text": text, "logprob": -0.5, "top": top, "last": last}
    return {"event": "token", "row": row, **at}


def written(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the seed adds is the last word, so that texts can be told apart."""
    yield {"event": "prompt", "text": "Once", "tokens": 2, "pushed": 1}
    texts = {"steered": [*STEERED, f" {body['writing']['seed']}"]}
    if body["compare"]:
        texts["plain"] = PLAIN
    for place in range(6):
        for row, words in texts.items():
            if place < len(words):
                last = place == len(words) - 1
                yield token(row, words[place], sum(map(ord, words[place])), last)
    ended = {"steered": "length"} | ({"plain": "stop"} if body["compare"] else {})
    yield {"event": "end", **ended}


HAVE = ["a king", "a queen", "<b>crown</b>"]
LACK = ["a cat", "a cup", "a road"]
SETS = {"positive": HAVE, "negative": LACK, "chat": False, "describe": ""}


def difference(feature: int, p_value: float, values: list[float] | None) -> dict[str, Any]:
    return {
        "feature": feature, "statistic": 1.5, "p_value": p_value, "auroc": 0.875,
        "standardised": 1.5, "mean_positive": 2.0, "mean_negative": 0.5, "share_positive": 1.0,
        "share_negative": 1 / 3, "values": values,
    }  # fmt: skip


def contrasted(values: bool = True) -> dict[str, Any]:
    first, second, third = [9.0, 4.5, 0.5, 0, 0, 1.0], [1.0] * 6, [0, 0, 0, 3.0, 2.0, 1.0]
    return {
        "positive": [
            difference(13, 0.0123456, first if values else None),
            difference(8, 0.4, second if values else None),
        ],
        "negative": [difference(4, 0.05, third if values else None)],
        "relabellings": 20,
        "exact": True,
        "tokens": 31,
    }
