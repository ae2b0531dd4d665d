"""What stands behind explanations and scores: texts, prompts, files and their digests."""

from __future__ import annotations

import uuid
from typing import Any

from monosemy.specs.described import Described
from monosemy.specs.rest.explanations import ExplanationView
from monosemy.specs.rest.page import Page


class TextWindow(Described):
    """A place in the indexed text."""

    row: int
    """Row of the token store."""
    position: int
    """Position in the token store of the token that it is about."""
    document: int | None
    """null where the row is not stored."""
    document_name: str | None
    tokens: list[str]
    """Text of each token; empty where the row is not stored in the database."""
    token_ids: list[int]
    focus: int
    """Which of `tokens` it is about."""
    activations: list[float] | None
    """Of the feature on each token; null where the files of the index are not at hand."""


class JudgedText(Described):
    """One text of a score, with what was said of it and what is so."""

    number: int
    """From 1, in the order in which they were judged."""
    text: TextWindow
    tier: str
    """`activating`, or the kind of negative it is."""
    stratum: int | None
    """Of an activating text: its stratum of activation, 0 the weakest."""
    truth: bool
    """Whether the feature fires in it; for fuzzing, whether the right words were marked."""
    answer: bool | None
    """What the judge said; null where no usable answer came, and for scorers that say no yes or
    no."""
    value: float | None
    """What a scorer gave that grades."""
    right: bool | None
    """null where there is no answer."""
    failed: bool
    """No usable answer came."""


class JudgedTexts(Page[JudgedText]):
    """A page of a score's single judgements."""

    n: int
    """Judgements that count."""
    n_failed: int


class PromptSection(Described):
    role: str
    """`system`, `user` or `assistant`."""
    text: str
    """`{{name}}` stands for what is put in."""


class PromptView(Described):
    """The exact words that a judge is asked with."""

    name: str
    version: int
    hash: str
    """First 16 hex digits of BLAKE2b over the file."""
    sections: list[PromptSection]


class ExplainedText(Described):
    """A text that an explainer was shown."""

    id: str
    """What the explainer calls it, such as `e1`."""
    group: str
    """`top`, or a stratum of activation, 0 the weakest."""
    cited: bool
    """Whether the explainer named it as evidence."""
    text: TextWindow


class Link(Described):
    """Two digests that should be the same thing's."""

    what: str
    here: str | None
    """As the later step noted it."""
    there: str | None
    """As the earlier step has it now."""

    @property
    def equal(self) -> bool:
        return self.here is not None and self.here == self.there


class ExplanationProvenance(Described):
    """The way from an explanation back to the text that everything was made from."""

    explanation: ExplanationView
    prompt: PromptView | None
    """null for a person's, for an explainer without one, and for a prompt that is not here."""
    judge: dict[str, Any] | None
    """Model, address, sampling, format; null for a person's."""
    usage: dict[str, float]
    """Calls, tokens and seconds that it took."""
    examples: list[ExplainedText]
    """The texts that were shown."""
    index: dict[str, Any] | None
    """The SAE's current index: text_id, tokens, sae_digest."""
    sae: str
    """Name of the SAE."""
    sae_id: uuid.UUID
    weights: str | None
    """Digest of its weights and options."""
    model: str
    """Name of the host model."""
    model_fingerprint: str | None
    text: dict[str, Any]
    """What the SAE was trained on: text_id, tokens, documents, tokens_digest."""
    source: dict[str, Any]
    """Where that text is from, as the training's spec names it."""
    links: list[Link]
    """What one step notes of the step before it, beside what that is now."""
