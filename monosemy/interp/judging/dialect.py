"""What of the OpenAI protocol an endpoint takes, learned from what it refuses."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from monosemy.interp.judging.answers import Schema, as_sent, without_limits

log = logging.getLogger(__name__)

Format = Literal["json_schema", "json_object", "text"]


@dataclass
class Dialect:
    """Of one endpoint, at ``address``."""

    address: str
    format: Format = "json_schema"
    schema_limits: bool = True
    """Lengths and ranges may stand in a schema."""
    limit_name: str = "max_tokens"
    left_out: set[str] = field(default_factory=set)
    """Sampling parameters that the endpoint refuses."""

    def parameters(
        self, schema: Schema, name: str, max_tokens: int, temperature: float, seed: int
    ) -> dict[str, Any]:
        """A request's fields besides model and messages."""
        sent: dict[str, Any] = {self.limit_name: max_tokens, "temperature": temperature}
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

    def learn(self, reason: str, sent: Mapping[str, Any], probing: bool) -> bool:
        """Learns from a refused request what to leave out; False when there is nothing to learn."""
        text = reason.lower()
        if "max_completion_tokens" in text and "max_tokens" in sent:
            self.limit_name = "max_completion_tokens"
            return True
        for parameter in ("temperature", "seed"):
            if parameter in text and parameter in sent:
                self.left_out.add(parameter)
                log.warning("judge at %s takes no '%s'; left out", self.address, parameter)
                return True
        about_format = re.search(r"response_format|json_schema|json_object|json mode|schema", text)
        if "response_format" in sent and (about_format or probing):
            if sent["response_format"]["type"] != self.format:
                pass  # another call has lowered it meanwhile
            elif self.format == "json_schema" and self.schema_limits:
                self.schema_limits = False
            else:
                self.lower_format("refuses it")
            return True
        return False

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
