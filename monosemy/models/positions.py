"""How many tokens a host model can read at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from monosemy.models.architecture import text_config

_TABLES = (
    "wpe",
    "embed_positions",
    "position_embeddings",
    "position_embedding",
    "positions_embed",
    "pos_embed",
)
"""What families call the table of learned positions."""


def position_limit(model: Any) -> int | None:
    """Tokens of one row, a BOS included; None where nothing limits them.

    What the configuration declares, and never more than a table of learned positions has rows for.
    A rotary model could be run beyond it, on positions that it has not seen in training; it is not.
    ALiBi and recurrent models that declare nothing have no limit.
    """
    config = text_config(model)
    limits = []
    declared = getattr(config, "max_position_embeddings", None)
    if isinstance(declared, int) and declared > 0 and not getattr(config, "alibi", False):
        limits.append(declared)
    limits += [
        _usable_rows(owner, table)
        for owner in _text_modules(model)
        for name, table in owner.named_children()
        if name in _TABLES and isinstance(table, nn.Embedding)
    ]
    return min(limits, default=None)


def _text_modules(model: Any) -> Iterator[nn.Module]:
    """All modules but those of other parts of a multimodal model, which have their own config."""
    own = {type(model.config), type(text_config(model))}
    waiting: list[nn.Module] = [model]
    while waiting:
        module = waiting.pop()
        yield module
        waiting += [
            child
            for child in module.children()
            if type(getattr(child, "config", model.config)) in own
        ]


def _usable_rows(owner: nn.Module, table: nn.Embedding) -> int:
    """Rows without those before the first position: OPT keeps two, RoBERTa those up to padding."""
    first = getattr(table, "offset", 0)
    if hasattr(owner, "create_position_ids_from_input_ids") and table.padding_idx is not None:
        first = table.padding_idx + 1
    return table.num_embeddings - int(first)
