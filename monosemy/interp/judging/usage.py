"""What calls to a judge cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass
class Usage:
    """A ledger of calls; ledgers add up, so an item, a feature and a run each have theirs.

    ``prompt_tokens`` counts the cached ones too.  ``calls`` are HTTP requests that were answered,
    ``retries`` those made once more (after an error or a useless answer), ``failures`` the items
    given up.  ``seconds`` sums the time calls were under way, waiting for retries included.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    calls: int = 0
    retries: int = 0
    failures: int = 0
    seconds: float = 0.0
    reused: int = 0
    """Answers that were there from before."""

    def add(self, other: Usage) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def count(self, tokens: tuple[int, int, int] | None) -> None:
        """Adds the tokens of a prompt, of its cached part and of its answer; None: unknown."""
        prompt, cached, answer = tokens or (0, 0, 0)
        self.prompt_tokens += prompt
        self.cached_tokens += cached
        self.completion_tokens += answer

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def most_tokens(text: str) -> int:
    """No tokenizer makes more tokens than there are bytes, and each message has a frame."""
    return len(text.encode("utf-8", "surrogatepass")) + 16
