"""Bytes of tokens, and text that is right across token borders."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import DataError


@st.composite
def cut_bytes(draw: st.DrawFn) -> list[bytes]:
    """Text with emoji, or bytes that are no text at all, cut anywhere into tokens."""
    parts = draw(st.lists(st.one_of(st.text(max_size=6).map(str.encode), st.binary(max_size=4))))
    data = b"".join(parts)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(cut_bytes())
def test_pieces_join_to_the_decoded_text(parts: list[bytes]) -> None:
    table = TokenBytes(parts)
    ids = range(len(parts))
    pieces = table.pieces(ids)
    assert len(pieces) == len(parts)
    assert "".join(pieces) == table.decode(ids)
    assert table.decode(ids) == b"".join(parts).decode("utf-8", errors="replace")


@given(cut_bytes(), st.integers(0, 12))
def test_each_character_stands_at_the_token_of_its_first_byte(
    parts: list[bytes], count: int
) -> None:
    """Later tokens may complete a character but never move those that are complete already."""
    table = TokenBytes(parts)
    head = range(min(count, len(parts)))
    text = b"".join(parts[i] for i in head)
    complete = text.decode("utf-8", errors="ignore").encode() == text
    if complete:
        assert table.pieces(range(len(parts)))[: len(head)] == table.pieces(head)


@pytest.mark.parametrize(
    ("parts", "pieces"),
    [
        ([b"\xf0\x9f", b"\x99", b"\x82", b"!"], ["🙂", "", "", "!"]),
        ([b"a\xc3", b"\xa9b"], ["aé", "b"]),
        ([b"\xa9", b"x"], ["\ufffd", "x"]),
        ([b"\xf0\x9f", b"x"], ["\ufffd", "x"]),
        ([b"", b""], ["", ""]),
        ([], []),
    ],
)
def test_cut_characters_stand_whole_at_their_first_token(
    parts: list[bytes], pieces: list[str]
) -> None:
    assert TokenBytes(parts).pieces(range(len(parts))) == pieces


@given(st.lists(st.binary(max_size=9)))
def test_pack_round_trip(table: list[bytes]) -> None:
    again = TokenBytes.unpack(TokenBytes(table).pack())
    assert [again[i] for i in range(len(again))] == table


@pytest.mark.parametrize("data", [b"", b"MTB1", b"nonsense", TokenBytes([b"ab", b"c"]).pack()[:-1]])
def test_unpack_refuses_what_is_damaged(data: bytes) -> None:
    with pytest.raises(DataError, match="token table"):
        TokenBytes.unpack(data)


TEXTS = [
    "Hello, world",
    "naïve café — 日本語",
    "👩‍🚀 flew 🙂",
    "tab\tnew\nline  two spaces",
    "\x00\x7f",
]


@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_vocabulary_gives_the_text_back(tiny_tokenizer: Any, text: str) -> None:
    table = TokenBytes.from_tokenizer(tiny_tokenizer)
    ids = tiny_tokenizer(text, add_special_tokens=False)["input_ids"]
    assert table.decode(ids) == text
    assert "".join(table.pieces(ids)) == text


def test_some_characters_really_are_cut(tiny_tokenizer: Any) -> None:
    """Else the tests above would prove nothing."""
    table = TokenBytes.from_tokenizer(tiny_tokenizer)
    ids = tiny_tokenizer("🧬", add_special_tokens=False)["input_ids"]
    assert len(ids) > 1
    assert table.pieces(ids) == ["🧬", *[""] * (len(ids) - 1)]


def test_special_tokens_are_their_own_text(tiny_tokenizer: Any) -> None:
    table = TokenBytes.from_tokenizer(tiny_tokenizer)
    assert [table[i] for i in range(3)] == [b"<s>", b"</s>", b"<pad>"]
    assert table[len(table)] == b""
    assert table[-1] == b""


@pytest.fixture(scope="module")
def sentencepiece_style() -> Any:
    """A Llama-2-like tokenizer: spaces as U+2581, unknown characters as ``<0xNN>``."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=120, show_progress=False)
    trained.train_from_iterator(["the cat sat on the mat and the hat"] * 3, trainer)
    pieces = [piece for piece, _ in sorted(trained.get_vocab().items(), key=lambda item: item[1])]
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", *byte_tokens, *pieces])}
    backend = Tokenizer(models.BPE(vocabulary, _merges(trained), byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


def _merges(trained: Any) -> list[tuple[str, str]]:
    import json

    merges = json.loads(trained.to_str())["model"]["merges"]
    return [tuple(merge) for merge in merges]


@pytest.mark.parametrize("text", ["the cat", "  the  hat", "a 🙂 on the mat", "日本 sat\n"])
def test_sentencepiece_vocabulary_gives_the_text_back(sentencepiece_style: Any, text: str) -> None:
    table = TokenBytes.from_tokenizer(sentencepiece_style)
    ids = sentencepiece_style(text, add_special_tokens=False)["input_ids"]
    assert table.decode(ids) == text == sentencepiece_style.decode(ids)
    assert "".join(table.pieces(ids)) == text


def test_sentencepiece_byte_tokens_are_bytes(sentencepiece_style: Any) -> None:
    table = TokenBytes.from_tokenizer(sentencepiece_style)
    ids = sentencepiece_style("🙂", add_special_tokens=False)["input_ids"]
    assert [table[i] for i in ids] == [b"\xf0", b"\x9f", b"\x99", b"\x82"]
    assert table.pieces(ids) == ["🙂", "", "", ""]


def test_no_torch_and_no_transformers_needed() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'tokenizers'): sys.modules[name] = None\n"
        "import monosemy.data.token_bytes, monosemy.data.splits, monosemy.data.store\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
