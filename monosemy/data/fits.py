"""Whether a host model can read a text as its spec cuts it, asked before anything is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monosemy.errors import DataError
from monosemy.models.vocabulary import named, readable_id
from monosemy.specs import TextSpec

if TYPE_CHECKING:
    from monosemy.models.host import HostModel


def check_fits(text: TextSpec, host: HostModel) -> None:
    """``DataError`` names the limit or the token that ``host`` does not have."""
    limit = host.abilities.positions
    if limit is not None and text.context_size > limit:
        raise DataError(
            f"text.context_size={text.context_size} is more than the {limit} positions of "
            f"{host.name}.",
            f"Set text.context_size={limit} or less.",
        )
    bos = host.tokenizer.bos_token_id
    chats = text.packing.startswith("chat")
    if text.prepend_bos and not chats and bos is not None and host.bos_id is None:
        raise DataError(
            f"The BOS of {host.name}, {named(bos, host.tokenizer)}, is beyond the embedding's "
            f"{host.d_vocab} rows.",
            "Set text.prepend_bos=false, or take the tokenizer that belongs to the model.",
        )
    if text.packing == "packed" and separator_of(host) is None:
        raise DataError(
            f"{host.name} has neither an EOS nor a BOS that it can read to separate documents "
            "with.",
            "Set text.packing=document.",
        )


def separator_of(host: HostModel) -> int | None:
    """EOS, else BOS, which ends a document where the next one follows in the same sequence."""
    eos = readable_id(host.tokenizer.eos_token_id, host.d_vocab)
    return host.bos_id if eos is None else eos
