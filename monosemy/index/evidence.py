"""What is known of a feature without any LLM, and the label that follows from it.

No torch and no numpy: the API reads these values out of the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from monosemy.errors import DataError
from monosemy.index.evidence_label import evidence_label
from monosemy.index.strongest_words import WordCount

__all__ = [
    "HISTOGRAM_BINS",
    "QUANTILES",
    "STRONGEST",
    "ClassShare",
    "FeatureEvidence",
    "Neighbour",
    "PlaceEvidence",
    "TokenEffect",
    "TokenShare",
    "WordCount",
    "evidence_label",
]

HISTOGRAM_BINS = 40
"""Bins of equal width over (0, max_activation]; bin i holds (i, i + 1] / 40 of the maximum."""

STRONGEST = 16
"""Documents whose strongest firing counts in ``strongest_words``."""

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""Of the positive activations, nearest rank."""


@dataclass(frozen=True)
class TokenShare:
    """A token and how much of the feature falls on it (or right after it)."""

    id: int
    text: str
    """The token's text; for a token that is only some bytes of a character, the whole character as
    it stood where the feature fired most strongly."""
    share: float
    """Share of the feature's total activation."""
    count: int
    """Firings."""
    fires: float
    """Share of all occurrences of this token on which (or after which) the feature fires."""


@dataclass(frozen=True)
class ClassShare:
    """A class of tokens (or a word ending, or a place) and how much of the feature falls on it."""

    name: str
    share: float
    """Share of the feature's total activation."""
    base: float
    """Share of all tokens that belong to the class."""


@dataclass(frozen=True)
class TokenEffect:
    """A token and the feature's direct effect on its logit, centred over the vocabulary."""

    id: int
    text: str
    effect: float


@dataclass(frozen=True)
class Neighbour:
    feature: int
    value: float


@dataclass(frozen=True)
class PlaceEvidence:
    """What a feature does at one place of an SAE that has several; lengths are in the units of
    activations, of a crosscoder in those that training gave the places."""

    place: str
    """A site as `blocks.9.hook_mlp_out`, of another host model `ROLE:blocks...`."""
    reads: float | None = None
    """Length of its encoder row there; None where it does not read."""
    writes: float | None = None
    """Length of its decoder row there; None where it does not write."""
    promoted: list[TokenEffect] = field(default_factory=list)
    """What it writes there promotes, strongest first; of the places that it writes most, where it
    writes several."""

    @classmethod
    def from_dict(cls, promoted: Any = (), **values: Any) -> PlaceEvidence:
        """The reverse of ``as_dict``, of the keys of one place."""
        return cls(**values, promoted=[TokenEffect(**item) for item in promoted])


@dataclass(frozen=True)
class FeatureEvidence:
    """Everything measured about one feature.

    Figures on tokens, classes and endings come from documents of explanation split 0 alone
    (``tokens_from == "train"``), so that nothing shown to an explainer or printed in a label was
    counted on the documents that score it.  A feature that never fires there takes them from all
    documents (``"all"``).  Everything else counts all documents.
    """

    feature: int
    count: int
    """Tokens on which it fires."""
    density: float
    """That, as a share of all indexed tokens."""
    max_activation: float
    mean_activation: float
    """Mean of the positive activations."""
    quantiles: list[float] = field(default_factory=list)
    """Positive activations at ``QUANTILES``; empty if it never fired."""
    histogram: list[int] = field(default_factory=list)
    """Firings in ``HISTOGRAM_BINS`` equal bins over (0, max_activation]."""
    tokens_from: str = "train"
    token_firings: int = 0
    """Firings that the figures on tokens are made of."""
    distinct_tokens: int = 0
    top_tokens: list[TokenShare] = field(default_factory=list)
    """Tokens on which it fires, largest share of activation first."""
    previous_tokens: list[TokenShare] = field(default_factory=list)
    """The same for the token before."""
    strongest_firings: int = 0
    """Documents, of the same ones, whose strongest firing is looked at: the strongest ``STRONGEST``
    of them.  0 in an index of an earlier version."""
    strongest_words: list[WordCount] = field(default_factory=list)
    """Words in which those firings lie, commonest first: what it fires on most strongly, which need
    not be what it fires on most often."""
    classes: list[ClassShare] = field(default_factory=list)
    """Token classes and places with at least a tenth of the activation, largest first."""
    ending: ClassShare | None = None
    """The word ending (2 to 4 letters) that most of the activation shares, if any."""
    promoted: list[TokenEffect] = field(default_factory=list)
    suppressed: list[TokenEffect] = field(default_factory=list)
    logit_std: float = 0.0
    """Standard deviation of the effects over the vocabulary."""
    logit_kurtosis: float = 0.0
    """Excess kurtosis of the effects: large for features that act on few output tokens."""
    logit_skew: float = 0.0
    cosine_neighbours: list[Neighbour] = field(default_factory=list)
    """Nearest features by cosine of decoder rows."""
    coactive_neighbours: list[Neighbour] = field(default_factory=list)
    """Features that fire on the same tokens: Jaccard index of the two sets of tokens."""
    places: list[PlaceEvidence] = field(default_factory=list)
    """Where it reads and writes, where its SAE has several places; those where it does neither are
    left out.  Empty in an index of an earlier version."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, rounded to four significant digits, under 3 KB and some 80 bytes for each of
        ``places``; read by ``from_dict``."""
        values = {name: _plain(getattr(self, name)) for name in _NAMES}
        return values if self.places else {k: v for k, v in values.items() if k != "places"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FeatureEvidence:
        """Rebuilds it from ``as_dict``; unknown keys are left out; ``DataError`` if it cannot."""
        known = {f.name for f in fields(cls)}
        values = {key: value for key, value in data.items() if key in known}
        try:
            for key, kind in _PARTS.items():
                values[key] = [kind(**item) for item in values.get(key, [])]
            ending = values.get("ending")
            values["ending"] = None if ending is None else ClassShare(**ending)
            return cls(**values)
        except (TypeError, AttributeError) as error:
            raise DataError(f"This is no feature evidence: {error}.") from None


_PARTS: dict[str, Any] = {
    "top_tokens": TokenShare,
    "previous_tokens": TokenShare,
    "strongest_words": WordCount,
    "classes": ClassShare,
    "promoted": TokenEffect,
    "suppressed": TokenEffect,
    "cosine_neighbours": Neighbour,
    "coactive_neighbours": Neighbour,
    "places": PlaceEvidence.from_dict,
}


_NAMES = tuple(f.name for f in fields(FeatureEvidence))


def _plain(value: Any) -> Any:
    """Rounded and without dataclasses; ``dataclasses.asdict`` copies deeply, at 1 ms a feature."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, (TokenShare, WordCount, ClassShare, TokenEffect, Neighbour)):
        return {key: _plain(item) for key, item in vars(value).items()}
    if isinstance(value, PlaceEvidence):
        return {key: _plain(item) for key, item in vars(value).items() if item}
    return value
