"""What a judge expected at each place of a prompt: one prefill, nothing generated.

Two ways are asked for.  ``echo``: the legacy ``/completions`` with ``echo`` and ``logprobs`` (vLLM,
SGLang, some hosts).  ``prompt_logprobs``: vLLM's own field.  llama.cpp's server takes both without
a word and answers neither, so an answer counts only if the prompt's tokens stand in it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from monosemy.interp.judging.endpoint import Endpoint
from monosemy.interp.judging.failures import AnswerError, EndpointError
from monosemy.interp.judging.usage import Usage

log = logging.getLogger(__name__)

Way = Literal["echo", "prompt_logprobs"]

_ASKED: tuple[tuple[Way, int], ...] = (
    ("echo", 20),
    ("prompt_logprobs", 20),
    ("echo", 5),
    ("prompt_logprobs", 5),
)
"""Ways and numbers of likeliest tokens, best first.  vLLM gives 20 unless told otherwise."""
_DOUBT_SECONDS = 600.0
"""For so long an endpoint that answers with errors of its own counts as one without."""
_ROUNDING = 0.01
"""A log probability above 0 by no more than this comes of low precision."""
_PROBE = 'Tokens and numbers.\n"The"\t1\n" sky"\t2\n" is"\t3\n'


@dataclass(frozen=True)
class PromptToken:
    """A token of a prompt as the endpoint's tokenizer cuts it."""

    text: str
    """Empty for a first token of which the endpoint says nothing."""
    top: Mapping[str, float]
    """Log probabilities of the likeliest tokens in its place, by their text, given what stands
    before; empty for the first."""


class PromptLogprobs:
    """One endpoint's prompt logprobs; ``Judge.prompt_logprobs`` holds it.

    ``probe`` finds out once whether the endpoint has them.  Calls are counted in ``ledger`` too.
    """

    def __init__(self, endpoint: Endpoint, ledger: Usage) -> None:
        self._endpoint = endpoint
        self._ledger = ledger
        self._lock = asyncio.Lock()
        self._known_until = 0.0
        """``time.monotonic()`` up to which the probe's outcome holds."""
        self.way: tuple[Way, int] | None = None
        """How to ask, and how many likeliest tokens come; None before ``probe`` and without."""
        self.reason = ""
        """Why there are none."""

    async def probe(self) -> tuple[bool, Usage]:
        """Whether the endpoint has prompt logprobs, with what it cost to find out.

        Raises ``JudgeError`` where the endpoint cannot be had at all; then nothing is known yet.
        """
        usage = Usage()
        async with self._lock:
            if time.monotonic() >= self._known_until:
                try:
                    # A chat first: an endpoint that is away, or closed to us, is not one without.
                    await self._endpoint.probe(usage)
                    self.way, sure = await self._find_way(usage)
                    self._known_until = math.inf if sure else time.monotonic() + _DOUBT_SECONDS
                finally:
                    self._ledger.add(usage)
        return self.way is not None, usage

    async def tokens(self, prompt: str) -> tuple[list[PromptToken], Usage]:
        """The prompt's tokens, those that come before it (BOS) and after it included.

        Raises ``AnswerError`` where they do not come, ``EndpointError`` when no answer can.
        """
        usage = Usage()
        if self.way is None:
            raise AnswerError("This endpoint has no prompt logprobs.", usage)
        try:
            return await self._ask(prompt, *self.way, usage), usage
        except AnswerError as error:
            usage.failures += 1
            error.usage = usage
            raise
        finally:
            self._ledger.add(usage)

    async def check(self) -> tuple[bool, str]:
        """``probe`` with the reason, for people.  Raises as it does."""
        there, _ = await self.probe()
        if self.way is None:
            return there, self.reason
        way, count = self.way
        return there, f"by {way}, the {count} likeliest of each token"

    async def _find_way(self, usage: Usage) -> tuple[tuple[Way, int] | None, bool]:
        """How to ask, and whether that is sure: errors of the server's own say nothing."""
        reasons: dict[str, None] = {}
        sure = True
        for way, count in _ASKED:
            try:
                tokens = await self._ask(_PROBE, way, count, usage)
                at_offsets(_PROBE, tokens, [])
                if all(token.top for token in tokens[1:]):
                    log.info(
                        "judge at %s has prompt logprobs (%s, top %d)",
                        self._endpoint.address,
                        way,
                        count,
                    )
                    return (way, count), True
                reasons["they are empty"] = None
            except AnswerError as error:
                reasons[str(error)] = None
                sure = sure and not error.passing
            except EndpointError as error:
                # No such route, or one that is closed to us: that says nothing about chat.
                reasons[str(error)] = None
                break
        self.reason = "; ".join(reasons)
        log.warning("judge at %s has no prompt logprobs (%s)", self._endpoint.address, self.reason)
        return None, sure

    async def _ask(self, prompt: str, way: Way, count: int, usage: Usage) -> list[PromptToken]:
        sent: dict[str, Any] = {"echo": True, "logprobs": count}
        if way == "prompt_logprobs":
            sent = {"extra_body": {"prompt_logprobs": count, "return_token_ids": True}}
        # One token is generated and left unread: some servers take 0 for "without end".
        body = await self._endpoint.complete(prompt, usage, max_tokens=1, **sent)
        tokens = read_echo(body) if way == "echo" else read_prompt_logprobs(body)
        if len(tokens) < 2:
            raise AnswerError("The judge's answer holds no prompt logprobs.", usage)
        return tokens


# -------------------------------------------------------------------- shapes of answers
def read_echo(body: Mapping[str, Any]) -> list[PromptToken]:
    """Tokens out of ``choices[0].logprobs`` with ``tokens`` and ``top_logprobs``; [] without, or
    in another shape."""
    logprobs = _first(body).get("logprobs")
    if not isinstance(logprobs, Mapping):
        return []
    tokens, tops = logprobs.get("tokens"), logprobs.get("top_logprobs")
    if not isinstance(tokens, list) or not isinstance(tops, list) or len(tokens) != len(tops):
        return []
    result = []
    for text, top in zip(tokens, tops, strict=True):
        if not isinstance(text, str) or not isinstance(top, Mapping | None):
            return []
        chances = {str(key): logprob_of(value) for key, value in (top or {}).items()}
        result.append(PromptToken(text, _known(chances)))
    return result


def read_prompt_logprobs(body: Mapping[str, Any]) -> list[PromptToken]:
    """Tokens out of vLLM's ``prompt_logprobs``, one map from token id to log probability and text
    for each place, None for the first; [] without, or in another shape."""
    choice = _first(body)
    places = choice.get("prompt_logprobs") or body.get("prompt_logprobs")
    ids = choice.get("prompt_token_ids")
    if not isinstance(places, list):
        return []
    result = []
    for i, place in enumerate(places):
        if not place:
            result.append(PromptToken("", {}))
            continue
        if not isinstance(place, Mapping) or not all(
            isinstance(v, Mapping) for v in place.values()
        ):
            return []
        own = str(ids[i]) if isinstance(ids, list) and len(ids) == len(places) else ""
        # Without ids: vLLM puts the prompt's own token before the likeliest ones.
        actual = place[own] if own in place else next(iter(place.values()))
        chances: dict[str, float | None] = {}
        for entry in place.values():
            text, chance = _decoded(entry), logprob_of(entry.get("logprob"))
            known = [each for each in (chance, chances.get(text)) if each is not None]
            chances[text] = max(known, default=None)
        result.append(PromptToken(_decoded(actual), _known(chances)))
    return result


def logprob_of(value: Any) -> float | None:
    """A natural log probability: minus infinity up to 0, give or take rounding; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return min(0.0, number) if number <= _ROUNDING else None  # NaN is not


def _first(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else {}


def _decoded(entry: Mapping[str, Any]) -> str:
    text = entry.get("decoded_token")
    return text if isinstance(text, str) else ""


def _known(chances: Mapping[str, float | None]) -> dict[str, float]:
    """Nothing at all where one cannot be: the others would be taken for all that is likely."""
    known = {text: chance for text, chance in chances.items() if chance is not None}
    return known if len(known) == len(chances) else {}


# -------------------------------------------------------------------- places in the prompt
def at_offsets(
    prompt: str, tokens: Sequence[PromptToken], offsets: Sequence[int]
) -> list[PromptToken | None]:
    """The token that begins at each offset (in characters, behind the prompt's first line).

    None where the tokenizer cuts elsewhere.  Only visible ASCII, tabs and line ends are compared:
    endpoints show parts of a character, and spaces, in ways of their own.  The first line may
    differ, since some tell nothing of the first token and others put a BOS before it.  Raises
    ``AnswerError`` for tokens that are not the prompt's.
    """
    first, _, body = prompt.partition("\n")
    wanted = _bare(body)
    for read in (_bare, _bare_of_raw):
        parts = [read(token.text) for token in tokens]
        begin = "".join(parts).find(wanted)
        if begin >= 0:
            break
    else:
        raise AnswerError("The judge's prompt logprobs are not those of the prompt.")
    starts: dict[int, PromptToken] = {}
    position = 0
    for token, part in zip(tokens, parts, strict=True):
        if part:
            starts[position] = token
        position += len(part)
    skipped = len(first) + 1
    return [starts.get(begin + len(_bare(prompt[skipped:offset]))) for offset in offsets]


def _bare(text: str) -> str:
    return re.sub(r"[^\t\n!-~]", "", text)


_RAW: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    ("^<0x([0-9A-Fa-f]{2})>$", lambda match: chr(int(match[1], 16))),
    ("^bytes:(.*)$", lambda match: re.sub(r"\\x([0-7][0-9A-Fa-f])|\\x..", _ascii, match[1])),
    ("[ĉĊ]", lambda match: "\t" if match[0] == "ĉ" else "\n"),
)
"""Spellings of bytes by endpoints that show raw tokens: SentencePiece, OpenAI, byte-level BPE."""


def _bare_of_raw(text: str) -> str:
    for pattern, replacement in _RAW:
        text = re.sub(pattern, replacement, text, flags=re.DOTALL)
    return _bare(text)


def _ascii(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else ""
