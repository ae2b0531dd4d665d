"""Which token ids a host model has a row for.  Neither torch nor transformers is imported.

Tokenizers declare tokens that the embedding has no row for (a padding token added later, those of
another release).  Declaring them does no harm; reading one is an index beyond the table.
"""

from __future__ import annotations

from typing import Any

from monosemy.errors import DataError, ModelError


def pad_id(tokenizer: Any, d_vocab: int) -> int:
    """The first of PAD, EOS and BOS that the embedding has a row for, else 0.

    Padding is masked or lies behind the text, so any id that can be read serves.
    """
    for value in (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id):
        if value is not None and 0 <= int(value) < d_vocab:
            return int(value)
    return 0


def readable_id(value: Any, d_vocab: int) -> int | None:
    """``value`` as an id, None where it is None or beyond the embedding."""
    return None if value is None or not 0 <= int(value) < d_vocab else int(value)


def check_range(least: int, largest: int, tokenizer: Any, d_vocab: int, where: str = "") -> None:
    """``DataError`` unless ids from ``least`` to ``largest`` have rows; ``where`` begins it."""
    if least >= 0 and largest < d_vocab:
        return
    token = least if least < 0 else largest
    raise DataError(
        f"{where}{named(token, tokenizer)} is beyond the embedding's {d_vocab} rows.",
        "Leave it out of the text, or take the tokenizer that belongs to the model.",
    )


def named(token: int, tokenizer: Any) -> str:
    """``token 50257 '<pad>'``, or the bare number where the tokenizer has no such token."""
    text = None
    if 0 <= token < 2**31:
        try:
            text = tokenizer.convert_ids_to_tokens(int(token))
        except (IndexError, KeyError, OverflowError, TypeError, ValueError):
            text = None
    return f"token {token}" if text is None else f"token {token} {str(text)[:80]!r}"


def check_tokenizer(tokenizer: Any, d_vocab: int, name: str) -> None:
    """``ModelError`` for the tokenizer of another model.

    Its ordinary vocabulary goes beyond the embedding; added tokens may (see the module).
    """
    added = getattr(tokenizer, "added_tokens_decoder", {})
    beyond = [
        index for index in tokenizer.get_vocab().values() if index >= d_vocab and index not in added
    ]
    if beyond:
        raise ModelError(
            f"The tokenizer of {name} is that of another model: {len(beyond)} of its ordinary "
            f"tokens, such as {named(min(beyond), tokenizer)}, are beyond the embedding's "
            f"{d_vocab} rows.",
            "Put the model's own tokenizer files beside its weights.",
        )
