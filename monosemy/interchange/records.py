"""One feature as other tools' layouts have it: plain values, without a database or an index."""

from __future__ import annotations

from dataclasses import dataclass

MOST_FEATURES = 10**8
"""An index beyond that is no feature's."""


@dataclass(frozen=True)
class JudgedRecord:
    """One example, judged."""

    activating: bool
    answer: bool | None
    """None where no usable answer came."""
    stratum: int
    """Of an activating example, 1 the weakest; -1 for another."""
    tokens: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoreRecord:
    """A score of an explanation."""

    scorer: str
    judged: tuple[JudgedRecord, ...]

    @property
    def balanced_accuracy(self) -> float | None:
        """Over the judged ones that have an answer; None where one class has none."""
        shares = []
        for truth in (True, False):
            answers = [
                each.answer == truth
                for each in self.judged
                if each.activating == truth and each.answer is not None
            ]
            if not answers:
                return None
            shares.append(sum(answers) / len(answers))
        return sum(shares) / 2


@dataclass(frozen=True)
class ExplanationRecord:
    """What somebody says of a feature."""

    text: str
    author: str = ""
    """Model that wrote it; empty for a person or where it is not recorded."""
    method: str = ""
    """Explainer's name."""
    scores: tuple[ScoreRecord, ...] = ()


@dataclass(frozen=True)
class ExampleRecord:
    """A window of text with its activations, one per token."""

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    focus: int
    """Index of the token that it is about."""
    quantile: int | None = None
    """None for a top example."""


@dataclass(frozen=True)
class FeatureRecord:
    """A feature with what is known of it."""

    feature: int
    density: float = 0.0
    """Share of tokens on which it fires."""
    max_activation: float = 0.0
    promoted: tuple[tuple[str, float], ...] = ()
    """Tokens with their logit effects, the strongest first."""
    suppressed: tuple[tuple[str, float], ...] = ()
    explanations: tuple[ExplanationRecord, ...] = ()
    examples: tuple[ExampleRecord, ...] = ()
