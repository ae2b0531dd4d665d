"""Reading an endpoint's reply, of which nothing is certain but that it is a JSON object.

Every function here takes foreign data and raises nothing but ``CallFailed``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from monosemy.interp.judging.answers import find_final_object, find_object
from monosemy.interp.judging.failures import BadReply, StatusError
from monosemy.interp.judging.reasoning import without_reasoning
from monosemy.interp.judging.reasons import Reason, is_page, reason_of
from monosemy.redaction import without_keys

Body = dict[str, Any]
Redact = Callable[[str], str]

LONGEST_TEXT = 1_000_000
"""Characters of an answer; no question here allows so many tokens."""
_MOST_TOKENS = 10**8
"""A count above this is no count; the ledger's columns hold it."""
_LENGTH = {"length", "max_tokens", "max_output_tokens", "model_length", "token_limit"}
_FILTERED = {
    *("content_filter", "safety", "prohibited_content", "recitation", "blocklist", "spii"),
    *("sensitive", "refusal"),
}
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
_THOUGHT_KINDS = ("thinking", "reasoning", "reasoning.text", "reasoning.summary", "thought")
_STATUS_WORDS = (
    ("rate_limit", 429),
    ("too_many_requests", 429),
    ("authentication", 401),
    ("permission", 403),
    ("not_found", 404),
    ("invalid_request", 400),
    ("badrequest", 400),
    ("bad_request", 400),
    ("validation", 400),
    ("unsupported", 400),
    ("overloaded", 503),
)
"""What the codes of an error without a status mean."""


@dataclass(frozen=True)
class Reply:
    """One answer.  ``text`` is what was said, without the model's reasoning."""

    text: str
    finish: str = "stop"
    """``stop``, ``length``, ``content_filter`` or ``refusal``."""
    thought: bool = False
    """The model reasoned first, as far as can be seen."""
    unfinished: bool = False
    """What came ends within the reasoning."""
    place: str = "content"
    """The field that the text was taken from."""

    @property
    def out_of_room(self) -> bool:
        """Cut off before anything was said: reasoning took all the room that there was."""
        nothing = self.thought and self.object() is None
        return self.finish == "length" and (nothing or self.unfinished or not self.text.strip())

    @property
    def cut_in_prose(self) -> bool:
        """Cut off in something that is no object: perhaps reasoning without marks."""
        answer = self.text.strip().removeprefix("```json").lstrip("` \n")
        return self.finish == "length" and bool(answer) and not answer.startswith("{")

    def object(self) -> dict[str, Any] | None:
        """The answer's JSON object; of an answer that was cut off only one that is no draft."""
        return find_final_object(self.text) if self.finish == "length" else find_object(self.text)


def parse_body(data: bytes) -> Body:
    """The JSON object that a body is.  Raises ``BadReply``, and ``StatusError`` for an error that
    comes with status 200."""
    try:
        value = json.loads(data.decode(json.detect_encoding(data)).lstrip("\ufeff"))
    except (ValueError, RecursionError):
        text = data[:4096].decode("utf-8", "replace")
        page = is_page(text)
        kind = "a page" if page else "no JSON" if text.strip() else "empty"
        excerpt = reason_of(text).text[:80]
        message = f"the body is {kind}" + (f": {excerpt}" if excerpt else "")
        raise BadReply(message, page=page) from None
    if not isinstance(value, dict):
        kind = "null" if value is None else f"a JSON {type(value).__name__}"
        raise BadReply(f"the body is {kind}, no chat completion")
    return value


def raise_for_error(body: Body, redact: Redact = without_keys) -> None:
    """Raises ``StatusError`` for a body that holds an error and no answer, batch or list."""
    if body.get("choices") and isinstance(body["choices"], list):
        return
    if body.get("object") in ("batch", "list", "file") or "data" in body:
        return  # a batch reports errors of its own
    if isinstance(body.get("error") or body.get("errors"), str | dict | list):
        reason = reason_of(body, redact)
        raise StatusError(_status_of(body, reason), reason, reason.wait, within=True)


def read_reply(body: Body, redact: Redact = without_keys) -> Reply:
    """The answer that a body of ``/chat/completions`` holds.

    Raises ``BadReply``, and ``StatusError`` for an error in its place.
    """
    choice = first_choice(body, redact)
    finish = _finish(choice.get("finish_reason"))
    if choice.get("error") or choice.get("finish_reason") == "error":
        reason = reason_of({"error": choice.get("error")}, redact)
        raise StatusError(_status_of(choice, reason), reason, reason.wait, within=True)
    message = choice.get("message")
    if not isinstance(message, dict):
        message = choice if isinstance(choice.get("text"), str) else None
    if message is None:
        raise BadReply("the body's choice holds no message")
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal.strip():
        return Reply("", "refusal")
    content = message.get("content", message.get("text"))
    answer = without_reasoning(_bounded(redact(_text(content, thoughts=False))))
    aside = _bounded(redact("".join(_text(message.get(f), thoughts=True) for f in _THOUGHT_FIELDS)))
    aside += _bounded(redact(_text(content, thoughts=True))) if isinstance(content, list) else ""
    thought = answer.thought or bool(aside.strip()) or _reasoning_tokens(body) > 0
    if not answer.text.strip() and finish == "stop":
        for place, text in _other_places(message, aside):
            if find_final_object(text) is not None:
                return Reply(text, finish, thought, place=place)
    place = "content" if isinstance(content, str | None) else "parts of content"
    return Reply(answer.text, finish, thought, answer.unfinished, place)


def first_choice(body: Body, redact: Redact = without_keys) -> dict[str, Any]:
    """``choices[0]``.  Raises ``BadReply``, ``StatusError``."""
    raise_for_error(body, redact)
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    excerpt = reason_of(body, redact).text if "choices" not in body else ""
    raise BadReply("the body is no chat completion" + (f": {excerpt[:120]}" if excerpt else ""))


def tokens_of(body: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Tokens of the prompt, of its cached part and of the answer; None where the body does not say,
    or says what cannot be."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
    answer = _count(usage.get("completion_tokens", usage.get("output_tokens")))
    if prompt is None or answer is None:
        return None
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return prompt, min(cached or 0, prompt), answer


def likeliest_of_first(body: Body) -> int:
    """How many likeliest tokens a chat answer gives for its first one; 0 without."""
    logprobs = first_choice(body).get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    tops = first.get("top_logprobs") if isinstance(first, dict) else None
    return sum(isinstance(top, dict) for top in tops) if isinstance(tops, list) else 0


def models_of(body: Body) -> list[str]:
    """Names in a list of models, as far as they can be read."""
    data = body.get("data")
    rows = data if isinstance(data, list) else []
    names = [row.get("id") for row in rows if isinstance(row, dict)]
    return [name for name in names if isinstance(name, str) and name]


# -------------------------------------------------------------------- parts
def _other_places(message: Mapping[str, Any], aside: str) -> Iterator[tuple[str, str]]:
    """Texts outside ``content`` that may be the answer, by where they stand."""
    yield next((name for name in _THOUGHT_FIELDS if message.get(name)), "parts of content"), aside
    calls = message.get("tool_calls")
    for call in [*(calls if isinstance(calls, list) else []), message.get("function_call")]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if isinstance(function, dict):
            yield "a tool call", _bounded(_text_or_json(function.get("arguments")))
    if isinstance(message.get("parsed"), dict):
        yield "parsed", _bounded(_text_or_json(message["parsed"]))


def _text(value: Any, thoughts: bool, depth: int = 6) -> str:
    """The text of a string, a part or a list of parts: what was thought, or what was said.

    Parts of an unknown kind are passed over.
    """
    if isinstance(value, str):
        return value
    if depth == 0:
        return ""
    if isinstance(value, list):
        return "".join(_part(each, thoughts, depth - 1) for each in value)
    if not isinstance(value, dict):
        return ""
    if "type" in value or "text" in value:
        return _part(value, thoughts, depth - 1)
    # Some endpoints hand on the object itself in place of its text.
    return "" if thoughts else _text_or_json(value)


def _part(part: Any, thoughts: bool, depth: int) -> str:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else ""
    kind = part.get("type", "text")
    if kind in _THOUGHT_KINDS if isinstance(kind, str) else False:
        if not thoughts:
            return ""
        fields = ("thinking", "text", "summary", "content")
        return next((_text(part[f], True, depth) for f in fields if part.get(f)), "")
    if kind not in ("text", "output_text"):
        return ""
    text = part.get("text", part.get("content"))
    text = text.get("value") if isinstance(text, dict) else text
    return text if isinstance(text, str) else ""


def _text_or_json(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value) if isinstance(value, dict) else ""
    except (ValueError, RecursionError):
        return ""


def _bounded(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise BadReply(f"the answer is {len(text)} characters long")
    return text


def _finish(value: Any) -> str:
    word = value.lower() if isinstance(value, str) else ""
    return "length" if word in _LENGTH else "content_filter" if word in _FILTERED else "stop"


def _status_of(body: Mapping[str, Any], reason: Reason) -> int:
    """The HTTP status that an error in an answer of status 200 stands for."""
    error = body.get("error")
    for holder in (error, body):
        for key in ("code", "status", "status_code"):
            value = holder.get(key) if isinstance(holder, dict) else None
            if isinstance(value, int | str) and str(value) in _STATUSES:
                return int(value)
    return next((status for word, status in _STATUS_WORDS if word in reason.codes), 500)


_STATUSES = {str(status) for status in range(400, 600)}


def _reasoning_tokens(body: Mapping[str, Any]) -> int:
    usage = body.get("usage")
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    return (_count(details.get("reasoning_tokens")) or 0) if isinstance(details, dict) else 0


def _count(value: Any) -> int | None:
    """A number of tokens: a whole number, or one written as a float or as a string."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value) if len(value) < 16 else None
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_TOKENS:
        return None
    return value
