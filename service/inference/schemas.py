"""Live activations as the API takes and gives them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.saes.schemas import SaeSummary

MAX_CHARACTERS = 20_000


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ActivationsRequest(_Part):
    """A text whose tokens are to be shown with the features that fire on them."""

    sae: str = Field(min_length=1, max_length=200, examples=["demo"])
    """Id or unique name of the SAE."""
    text: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    """Read by the host model as one context; the server says so where that is too short."""
    top_k: int = Field(5, ge=1, le=100)
    """Strongest features given per token."""
    features: list[Annotated[int, Field(ge=0, lt=2**31)]] | None = Field(
        None, min_length=1, max_length=200
    )
    """Only these features; null takes all."""


class FiringFeature(_Part):
    index: int
    activation: float
    label: str | None
    """Its best explanation's label, else its evidence label; null when it is not indexed."""


class TokenActivations(_Part):
    id: int
    text: str
    features: list[FiringFeature]
    """Strongest first."""


class ActivationsResponse(_Part):
    """Top features of every token."""

    sae: SaeSummary
    tokens: list[TokenActivations]
