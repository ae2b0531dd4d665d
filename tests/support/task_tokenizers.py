"""Tokenizers of two kinds that read most words of the tasks as single tokens."""

from __future__ import annotations

from functools import cache
from typing import Any

from monosemy.data.tasks.words import ARGUMENTS, EVENTS, NAMES, OBJECTS, PLACES

UNREAD = ("Abigail", "Zoe", "Vanessa", "museum")
"""Words that they never saw."""
WORDS = tuple(
    word for word in (*NAMES, *PLACES, *OBJECTS, *EVENTS, *ARGUMENTS) if word not in UNREAD
)


def _corpus() -> list[str]:
    texts = [f"then {word} then" for word in (*WORDS, "to") for _ in range(8)]
    texts += [f"the year {century}{year:02d}" for century in range(11, 18) for year in range(100)]
    return texts * 2


def _wrapped(backend: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )


@cache
def two_digit_tokenizer() -> Any:
    """Byte-level BPE that reads a year as two numbers of two digits."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d{1,2}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=["<s>", "</s>", "<pad>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_corpus(), trainer)
    return _wrapped(backend)


@cache
def one_digit_tokenizer() -> Any:
    """BPE with a mark for spaces, as sentencepiece has it, that reads digits one by one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="first"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation(),
        ]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=["<s>", "</s>", "<pad>", "<unk>"],
        initial_alphabet=[*map(chr, range(32, 127)), "\n"],
        show_progress=False,
    )
    backend.train_from_iterator(_corpus(), trainer)
    return _wrapped(backend)
