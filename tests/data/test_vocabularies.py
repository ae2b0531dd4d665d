"""Text out of tokens, for every family of tokenizers: made on the spot, without any download."""

from __future__ import annotations

import functools
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monosemy.data.token_bytes import TokenBytes

WORDS = "the cat sat on the mat and the hat of cats matted"


@functools.cache
def byte_level() -> Any:
    """GPT-2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    made.train_from_iterator([WORDS] * 3, trainer)
    return made


@functools.cache
def clip() -> Any:
    """Bytes, and a suffix that ends a word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e</w>"), ("c", "a"), ("ca", "t</w>")]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in merges)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix="</w>"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", behavior="removed"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    return made


@functools.cache
def gpt1() -> Any:
    """Plain BPE with an end-of-word suffix."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=80,
        special_tokens=["<unk>"],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    made.train_from_iterator([WORDS] * 3, trainer)
    return made


@functools.cache
def wordpiece(prefix: str = "##", decoder: bool = True) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(set(WORDS.replace(" ", "")))
    tokens = [
        "[UNK]",
        "the",
        "cat",
        "mat",
        "hat",
        *letters,
        *(f"{prefix}{each}" for each in [*letters, "ted"]),
    ]
    made = Tokenizer(
        models.WordPiece(
            {token: i for i, token in enumerate(tokens)},
            unk_token="[UNK]",
            continuing_subword_prefix=prefix,
            max_input_chars_per_word=100,
        )
    )
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if decoder:
        made.decoder = decoders.WordPiece(prefix=prefix, cleanup=False)
    return made


@functools.cache
def metaspace(replacement: str = "\u2581", byte_fallback: bool = True) -> Any:
    """A unigram vocabulary, as XGLM's and Gemma's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    r = replacement
    pieces = [("<unk>", 0.0), ("<s>", 0.0)]
    pieces += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)] if byte_fallback else []
    pieces += [(f"{r}the", -2.0), (f"{r}cat", -3.0), (r, -4.0), ("s", -5.0)]
    pieces += [(letter, -8.0) for letter in "abcdefghijklmnopqrtuvwxyz.,"]
    made = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=byte_fallback))
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement=r, prepend_scheme="never")
    made.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Metaspace(replacement=r, prepend_scheme="never"),
            decoders.Fuse(),
        ]
    )
    return made


def read(tokenizer: Any, text: str) -> tuple[TokenBytes, list[int]]:
    return TokenBytes.from_tokenizer(tokenizer), tokenizer.encode(text).ids


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(texts)
@settings(max_examples=60, deadline=None)
def test_byte_level_gives_any_text_back(text: str) -> None:
    table, ids = read(byte_level(), text)
    assert table.decode(ids) == text == "".join(table.pieces(ids))


@given(
    st.lists(st.text(st.sampled_from("thecatsmoné🙂日\x00"), min_size=1), min_size=1, max_size=6)
)
@settings(max_examples=60, deadline=None)
def test_a_suffix_ends_a_word_of_bytes(words: list[str]) -> None:
    """CLIP's vocabulary: characters are cut, and </w> is the blank."""
    table, ids = read(clip(), " ".join(words))
    assert table.decode(ids) == "".join(f"{word} " for word in words)
    assert "</w>" not in "".join(table.pieces(ids))


def test_gpt1_words_end_in_a_blank() -> None:
    table, ids = read(gpt1(), "the cats sat")
    assert table.decode(ids) == "the cats sat "
    assert table.pieces(ids)[0] == "the "


@pytest.mark.parametrize("prefix", ["##", "~~"])
@pytest.mark.parametrize("decoder", [True, False])
def test_wordpiece_continues_words(prefix: str, decoder: bool) -> None:
    table, ids = read(wordpiece(prefix, decoder), "the cats matted")
    assert table.pieces(ids) == [" the", " cat", "s", " mat", "ted"]


@given(texts)
@settings(max_examples=60, deadline=None)
def test_byte_fallback_gives_any_text_back(text: str) -> None:
    text = text.replace("\u2581", "")  # which is a blank to it
    table, ids = read(metaspace(), text)
    assert table.decode(ids) == text == "".join(table.pieces(ids))


@pytest.mark.parametrize("replacement", ["\u2581", "_", "\u00b7"])
@pytest.mark.parametrize("fallback", [True, False])
def test_metaspace_of_any_character(replacement: str, fallback: bool) -> None:
    made = metaspace(replacement, fallback)
    table, ids = read(made, "cats the cat")
    assert table.decode(ids) == "cats the cat" == made.decode(ids)


def test_only_byte_tokens_of_byte_fallback_are_bytes() -> None:
    """A text about hexadecimal numbers stays one."""
    table, ids = read(byte_level(), "a <0x41> b")
    assert table.decode(ids) == "a <0x41> b"


def test_added_blanks_are_blanks_and_special_tokens_are_literal() -> None:
    """As in Gemma's vocabulary."""
    from tokenizers import AddedToken

    made = metaspace.__wrapped__()
    made.add_tokens([AddedToken("\u2581\u2581\u2581", normalized=False)])
    made.add_special_tokens([AddedToken("<turn\u2581of>", normalized=False)])
    table = TokenBytes.from_tokenizer(made)
    blanks, turn = made.token_to_id("\u2581\u2581\u2581"), made.token_to_id("<turn\u2581of>")
    assert (table[blanks], table[turn]) == (b"   ", "<turn\u2581of>".encode())


def test_whole_words_are_set_apart() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = sorted(set(WORDS.split()))
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    table, ids = read(made, "the cat sat")
    assert table.decode(ids) == " the cat sat"


def test_single_characters_are_not() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = sorted(set(WORDS))
    made = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(letters)}))
    made.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    table, ids = read(made, "the cat")
    assert table.decode(ids) == "the cat"


@pytest.mark.parametrize("name", ["ByT5Tokenizer", "PerceiverTokenizer"])
@given(text=texts)
@settings(max_examples=40, deadline=None)
def test_bytes_as_tokens(name: str, text: str) -> None:
    table, tokenizer = _of_bytes(name)
    data = text.encode()
    ids = tokenizer.convert_tokens_to_ids([chr(byte) for byte in data])
    assert table.decode(ids) == text == "".join(table.pieces(ids))
    assert table[tokenizer.pad_token_id] == tokenizer.pad_token.encode()


@functools.cache
def _of_bytes(name: str) -> Any:
    import transformers

    tokenizer = getattr(transformers, name)()
    return TokenBytes.from_tokenizer(tokenizer), tokenizer


def slow(vocabulary: dict[Any, int]) -> Any:
    """A tokenizer of which nothing but the vocabulary is known."""
    return SimpleNamespace(get_vocab=lambda: vocabulary, added_tokens_decoder={})


@pytest.mark.parametrize(
    ("tokens", "ids", "text"),
    [
        ([b"a", b"\xc3", b"\xa9 ", b"\xff"], [0, 1, 2, 3], "aé \ufffd"),  # tiktoken's
        (["the", "ca@@", "ts", "m@@", "at"], [0, 1, 2, 3, 4], "the cats mat "),  # CTRL's
        (["the</w>", "ca", "ts</w>", "a"], [0, 1, 2], "the cats "),
        (["\u2581the", "\u2581cat", "s", "<0xC3>", "<0xA9>"], [0, 1, 2, 3, 4], " the catsé"),
        (["the", "\u0120cat", "s", "\u010a"], [0, 1, 2, 3], "the cats\n"),
        (["a", "\ud800", "b"], [0, 1, 2], "a\ufffdb"),  # CANINE's code points
        (["a", "b"], [1, 0, 7, -1], "ba"),
        ([], [0], ""),
    ],
)
def test_nothing_but_a_vocabulary(tokens: list[Any], ids: list[int], text: str) -> None:
    table = TokenBytes.from_tokenizer(slow({token: i for i, token in enumerate(tokens)}))
    assert table.decode(ids) == text


def test_the_families_are_told_by_what_is_saved() -> None:
    """The tests above would prove little if the tokenizers had other parts than they claim."""
    saved = json.loads(clip().to_str())
    assert saved["model"]["end_of_word_suffix"] == "</w>"
    assert json.loads(metaspace().to_str())["model"]["byte_fallback"] is True
    assert any(token.endswith("</w>") for token in clip().get_vocab())
