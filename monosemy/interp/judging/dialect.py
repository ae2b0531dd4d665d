"""What of the OpenAI protocol an endpoint takes, learned from what it refuses."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from monosemy.interp.judging.answers import Schema, as_sent, without_limits
from monosemy.interp.judging.failures import EndpointError
from monosemy.interp.judging.reasons import Reason

log = logging.getLogger(__name__)

Format = Literal["json_schema", "json_object", "text"]
Message = dict[str, str]

_DROPPED = ("temperature", "seed", "top_p", "stop", "n")
"""Parameters that an endpoint may do without."""
_LIMITS = ("max_tokens", "max_completion_tokens", "")
"""Names of the limit of an answer's length, in the order in which they are tried; then none."""
_LEAST_TEMPERATURE = 0.01
"""Stands for 0 where an endpoint wants a positive number."""

_REFUSAL = re.compile(
    r"unsupported|not (?:be )?supported|(?:does|do)(?:n't| not) (?:support|accept|allow|exist)"
    r"|unknown|unrecogni[sz]ed|unexpected|\bextra\b|not (?:permitted|allowed|valid|available)"
    r"|invalid|illegal|forbidden|must (?:be|not)|should be|only the default|deprecated"
    r"|not implemented|incompatible|cannot be|instead|no such|refused?|takes no|remove|disallow"
)
_TOO_LONG = re.compile(
    r"context[ _](?:length|size|window)|too (?:large|long|many)|exceed|at most|less than or equal"
    r"|maximum (?:allowed|number|value)|out of range"
)
_UNSUPPORTED = re.compile(r"unsupported|not supported|not permitted|unrecogni[sz]ed|unknown")
_OFFERED = re.compile(
    r"(?<![a-z])(?<!not )(?:supported|allowed|valid|accepted|available|permitted|known)"
    r" (?:parameters|fields|arguments|keys|options|names)"
)
"""Behind it stands what is taken, not what is refused."""
_SYSTEM = re.compile(
    r"(?:system|developer)[\s_-]*(?:role|messages?|prompts?|instructions?)[^.]{0,60}"
    r"(?:not|n't|unsupported|invalid|unknown)"
    r"|(?:not|n't|unsupported|invalid|unknown)[^.]{0,60}(?:role\W+|['\"`])system\b"
    r"|(?:not|n't|unsupported|invalid|unknown)[^.]{0,40}(?:system|developer)[\s_-]*"
    r"(?:role|message|prompt|instruction)"
    r"|roles? must alternate|must alternate|consecutive[^.]{0,40}(?:roles?|messages?)"
    r"|only (?:support )?user(?:,| and) (?:the )?(?:assistant|model)\b[^.]{0,40}roles?"
    r"|first message must be[^.]{0,20}user"
)
_FORMAT = re.compile(
    r"response_format|json_schema|json_object|json[ _]mode|schema|structured output|guided"
    r"|grammar|constrained"
)


@dataclass
class Dialect:
    """Of one endpoint, at ``address``."""

    address: str
    bounded: bool = False
    """Answers need a limit: without one no budget could be kept."""
    format: Format = "json_schema"
    schema_limits: bool = True
    """Lengths and ranges are allowed in a schema."""
    limit_name: str = "max_tokens"
    """Empty where the endpoint takes none."""
    system: bool = True
    """There may be a system message."""
    least_temperature: float = 0.0
    """Lowest temperature that is taken."""
    left_out: set[str] = field(default_factory=set)
    """Sampling parameters that the endpoint refuses."""

    def parameters(
        self, schema: Schema, name: str, max_tokens: int, temperature: float, seed: int
    ) -> dict[str, Any]:
        """A request's fields besides model and messages."""
        sent: dict[str, Any] = {
            **self.limit(max_tokens),
            "temperature": max(temperature, self.least_temperature),
        }
        if temperature > 0:
            sent["seed"] = seed
        for parameter in self.left_out:
            sent.pop(parameter, None)
        if self.format == "json_schema":
            shape = as_sent(schema) if self.schema_limits else without_limits(schema)
            described = {"name": name, "strict": True, "schema": shape}
            sent["response_format"] = {"type": "json_schema", "json_schema": described}
        elif self.format == "json_object":
            sent["response_format"] = {"type": "json_object"}
        return sent

    def limit(self, max_tokens: int) -> dict[str, int]:
        """The field that limits an answer."""
        return {self.limit_name: max_tokens} if self.limit_name else {}

    def messages(self, messages: Sequence[Message]) -> list[Message]:
        """As this endpoint takes them: without a system role its text goes before the user's, and
        neighbours of one role are one message."""
        if self.system:
            return list(messages)
        result: list[Message] = []
        for message in messages:
            role = "user" if message["role"] == "system" else message["role"]
            if result and result[-1]["role"] == role:
                both = f"{result[-1]['content']}\n\n{message['content']}"
                result[-1] = {**result[-1], "content": both}
            else:
                result.append({**message, "role": role})
        return result

    def copy(self) -> Dialect:
        return replace(self, left_out=set(self.left_out))

    def become(self, other: Dialect) -> None:
        """Takes over all that ``other`` knows."""
        vars(self).update(vars(other.copy()))

    def as_dict(self) -> dict[str, Any]:
        """What is done otherwise than the protocol has it; empty for an endpoint that takes all."""
        values: dict[str, Any] = {"left_out": sorted(self.left_out)} if self.left_out else {}
        if self.limit_name != "max_tokens":
            values["limit"] = self.limit_name or None
        if not self.system:
            values["system_role"] = False
        if self.least_temperature:
            values["least_temperature"] = self.least_temperature
        return values

    # ---------------------------------------------------------------- learning
    @staticmethod
    def too_long(reason: Reason) -> bool:
        """Whether the prompt or the room for its answer was too long, by the reason's words."""
        return _TOO_LONG.search(reason.text.lower()) is not None

    def concerns(self, reason: Reason) -> bool:
        """Whether an error is plainly about the form of a request, whatever its status says."""
        text = reason.text.lower()
        return self.system and _SYSTEM.search(text) is not None

    def learn(
        self,
        reason: Reason,
        sent: Mapping[str, Any],
        messages: Sequence[Message],
        probing: bool = False,
    ) -> str | None:
        """Learns from a refused request what to do otherwise.

        Returns what that is, in words, or None when there is nothing to learn.  ``probing``: where
        the reason names nothing, the answer format is taken for it.  Raises ``EndpointError`` where
        the endpoint takes no limit of an answer's length, and a budget needs one.
        """
        text = _OFFERED.split(f"{reason.codes} {reason.text}".lower())[0]
        about_role = _SYSTEM.search(text) or {"messages", "role"} <= reason.parameters
        if about_role and any(message["role"] == "system" for message in messages):
            self.system = False
            return "takes no system role: its text goes before the user's"
        if _TOO_LONG.search(text) and not _UNSUPPORTED.search(text):
            return None
        named = {name for name in sent if name in reason.parameters} or {
            name for name in sent if _mentions(text, name)
        }
        learned = self._learn_limit(text, named, sent) or self._learn_parameter(text, named, reason)
        if learned is None and "response_format" in sent:
            about_format = "response_format" in named or _FORMAT.search(text)
            if about_format or (probing and not named):
                return self._learn_format(sent)
        return learned

    def _learn_limit(self, text: str, named: set[str], sent: Mapping[str, Any]) -> str | None:
        used = next((name for name in _LIMITS if name and name in sent), None)
        if used is None or not _REFUSAL.search(text):
            return None
        other = next(name for name in _LIMITS if name != used)
        if used not in named and not _mentions(text, other):
            return None
        if used != self.limit_name:
            return f"takes no '{used}'"  # another call has learned it meanwhile
        following = _LIMITS[_LIMITS.index(used) + 1]
        if not following and self.bounded:
            raise EndpointError(
                f"The judge at {self.address} takes no limit of an answer's length, so that no "
                "budget can be kept.",
                "Leave judge.budget out, or ask another judge.",
            )
        self.limit_name = following
        sent_now = f"'{following}' is sent" if following else "none is sent"
        return f"takes no '{used}': {sent_now}"

    def _learn_parameter(self, text: str, named: set[str], reason: Reason) -> str | None:
        for parameter in _DROPPED:
            if parameter not in named:
                continue
            if parameter not in reason.parameters and not _REFUSAL.search(text):
                continue
            positive = re.search(r"positive|greater than 0|> ?0(?!\.\d)", text)
            if parameter == "temperature" and positive and not self.least_temperature:
                self.least_temperature = _LEAST_TEMPERATURE
                return f"takes no temperature of 0: {_LEAST_TEMPERATURE} is sent"
            self.left_out.add(parameter)
            return f"takes no '{parameter}': it is left out"
        return None

    def _learn_format(self, sent: Mapping[str, Any]) -> str:
        if sent["response_format"]["type"] != self.format:
            pass  # another call has lowered it meanwhile
        elif self.format == "json_schema" and self.schema_limits:
            self.schema_limits = False
            return "takes no lengths and ranges in a schema: they are left out"
        else:
            self.lower_format("refuses it")
        return f"takes no response_format '{sent['response_format']['type']}'"

    def lower_format(self, why: str) -> None:
        """The next plainer answer format."""
        lower: Format = "json_object" if self.format == "json_schema" else "text"
        log.warning(
            "judge at %s: response_format %s is not available (%s); using %s with strict parsing",
            self.address,
            self.format,
            why,
            lower,
        )
        self.format = lower


def _mentions(text: str, name: str) -> bool:
    return bool(name) and re.search(rf"(?<![\w.]){name}(?!\w)", text) is not None
