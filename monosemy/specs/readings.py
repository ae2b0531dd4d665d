"""What is read of a training while it runs: one vocabulary for files, progress, API and pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from monosemy.specs.part import MOST_TOKENS, Part

BASELINE = "frozen_decoder_baseline"
"""What the frozen-decoder baseline is called in readings and metrics, as in ``TrainingSpec``."""
BASELINE_FVU = f"{BASELINE}_fvu"
"""Its FVU among the metrics of progress, which are flat."""

Figure = Annotated[float, Field(ge=-1e300, le=1e300)]
"""Finite."""


class TrainingFigures(Part):
    """Running means over the last (about fifty) training batches, and the dead latents by then."""

    fvu: Figure
    """Fraction of variance unexplained, of each batch's own variance."""
    l0: Figure | None = None
    """Latents that are active on a token. Null, here and below, where nobody noted it."""
    loss: Figure | None = None
    """FVU and terms together."""
    dead_share: Figure | None = None
    """Share of latents that have not fired for `dead_after_tokens`."""
    terms: dict[str, Figure] = Field(default_factory=dict)
    """What is added to the FVU, by the architecture's names, as it is weighted in the loss."""


class TrainingReading(TrainingFigures):
    """One reading of an SAE in training."""

    step: int | None = Field(None, ge=0, le=MOST_TOKENS)
    """Steps done."""
    tokens: int = Field(ge=0, le=MOST_TOKENS)
    """Tokens trained on."""
    seconds: Figure | None = None
    """Time spent training, of all attempts."""
    learning_rate: Figure | None = None
    """Of the last step."""
    frozen_decoder_baseline: TrainingFigures | None = None
    """The same of the frozen-decoder baseline, where there is one."""

    def flat(self) -> dict[str, float]:
        """The figures that are there in one level, keys joined by dots: ``terms.auxk``."""
        values: dict[str, float] = {}
        for name, value in self.model_dump(exclude_none=True).items():
            values |= _flat(name, value)
        return values


def _flat(name: str, value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        return {name: value}
    parts = [_flat(f"{name}.{key}", each) for key, each in value.items()]
    return {path: each for part in parts for path, each in part.items()}


def figures(values: Mapping[str, float]) -> dict[str, Any]:
    """Fields of ``TrainingFigures`` from flat values, in which terms stand beside the others."""
    fields = {name: value for name, value in values.items() if name in TrainingFigures.model_fields}
    return {
        **fields,
        "terms": {name: value for name, value in values.items() if name not in fields},
    }


def stored_reading(data: Mapping[str, Any]) -> TrainingReading:
    """A reading as it was stored, by this or an earlier version; ``ValueError`` for anything else.

    Earlier ones had the terms beside the other figures, and of the baseline the FVU alone.
    """
    words: dict[str, Any] = current_words(data)
    if "terms" in words:
        return TrainingReading(**words)
    baseline = words.pop(BASELINE_FVU, None)
    fields = {name: value for name, value in words.items() if name in TrainingReading.model_fields}
    terms = {name: value for name, value in words.items() if name not in fields}
    if baseline is not None:
        fields[BASELINE] = {"fvu": baseline}
    return TrainingReading(**fields, terms=terms)


def current_words(value: Any) -> Any:
    """Stored JSON with figures of a training in it, in today's words.

    Earlier versions wrote ``baseline`` for the figures of the frozen-decoder baseline,
    ``baseline_fvu``, and in progress ``dead`` for ``dead_share``.
    """
    if isinstance(value, list):
        return [current_words(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    words: dict[str, Any] = {}
    for name, each in value.items():
        word = _current_word(name, each, value)
        words[name if word in value else word] = current_words(each)
    return words


def _current_word(name: str, value: Any, beside: Mapping[str, Any]) -> str:
    if name == "baseline" and isinstance(value, Mapping) and "fvu" in value:
        return BASELINE
    if name == "baseline_fvu":
        return BASELINE_FVU
    return "dead_share" if name == "dead" and "fvu" in beside else name


StoredFigures = Annotated[dict[str, Any], BeforeValidator(current_words)]
"""JSON that may have been stored by an earlier version."""
