"""Host models as the API shows them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from pydantic import ConfigDict

from monosemy.specs.described import Described


class ModelSummary(Described):
    """A host model: the language model under study."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    name: str
    spec: dict[str, Any]
    """How it is loaded: name, revision, dtype, device."""
    info: dict[str, Any]
    """architecture, n_layers, d_model, d_vocab, sites, fingerprint, has_chat_template; `abilities`:
    whether it has causality, logits, generation, a cache and an unembedding, how many heads, which
    text embedding, and the `reasons` for what it has not."""
    created_at: dt.datetime
    saes: int
    """SAEs trained on it."""
