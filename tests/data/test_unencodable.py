"""Text that cannot be encoded, and records that hold no text: replaced and counted, or refused
with file and line and advice that fits."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monosemy.data.characters import encodable
from monosemy.data.remote import read_dataset
from monosemy.data.sources import open_text
from monosemy.data.store import TokenStore
from monosemy.errors import DataError
from monosemy.interp.host_text import HostText
from monosemy.models.host import HostModel
from monosemy.specs import TextSpec
from service.database.storable import storable_text
from workers.prompts import Prompt, Tokenizing

GOOD = b'{"text": "The captain measured seven lanterns."}\n'


def write(folder: Path, name: str, content: bytes) -> TextSpec:
    file = folder / name
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return TextSpec(source=str(file), context_size=16)


def texts(spec: TextSpec) -> list[str]:
    return [document.text for document in open_text(spec)]


# Replaced and counted


@given(st.text(st.characters(exclude_categories=())))
def test_every_string_becomes_encodable(text: str) -> None:
    encoded, replaced = encodable(text)
    encoded.encode("utf-8")
    halves = sum("\ud800" <= letter <= "\udfff" for letter in text)
    pairs = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    joined = sum(letter > "\uffff" for letter in pairs) - sum(letter > "\uffff" for letter in text)
    assert replaced == halves - 2 * joined
    assert encodable(encoded) == (encoded, 0)
    if not halves:
        assert encoded == text
    assert storable_text(text) == encoded.replace("\x00", "\ufffd")


@pytest.mark.parametrize("name", ["text.jsonl", "text.jsonl.gz"])
def test_half_a_pair_in_one_line_is_replaced_and_counted(
    tiny_host: HostModel, tmp_path: Path, name: str
) -> None:
    lines = [GOOD, b'{"text": "half \\ud83d of a pair \\udc00", "title": "\\ud800"}\n']
    lines.append(b'{"text": "a whole \\ud83d\\ude00"}\n')
    store = TokenStore.build(write(tmp_path, name, b"".join(lines)), tiny_host, tmp_path / "store")
    assert store.n_documents == 3
    assert store.meta["replaced_characters"] == store.summary()["replaced_characters"] == 2
    assert store.document_names[1] == "\ufffd"
    begin, end = store.row_start[1], store.row_start[-1]
    shown = store.token_bytes().decode(store.tokens[begin:end].tolist())
    assert "half \ufffd of a pair \ufffd" in shown and "😀" in shown


def test_clean_text_counts_nothing(tiny_host: HostModel, tmp_path: Path) -> None:
    spec = write(tmp_path, "text.jsonl", GOOD + '{"text": "naïve \ufffd \\u0000"}\n'.encode())
    store = TokenStore.build(spec, tiny_host, tmp_path / "store")
    assert store.meta["replaced_characters"] == 0
    assert "replaced_characters" not in store.summary()


def test_half_a_pair_in_a_dialogue(
    tiny_host: HostModel, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    chat = [{"role": "user", "content": "half \ud83d"}, {"role": "assistant", "content": "yes"}]
    line = json.dumps({"messages": chat}) + "\n"
    spec = write(tmp_path, "chats.jsonl", line.encode()).model_copy(update={"packing": "chat"})
    template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    usual = tiny_tokenizer.chat_template
    tiny_tokenizer.chat_template = template
    try:
        store = TokenStore.build(spec, tiny_host, tmp_path / "store")
    finally:
        tiny_tokenizer.chat_template = usual
    assert store.meta["replaced_characters"] == 1


def test_wherever_the_tokenizer_is_asked(tiny_host: HostModel) -> None:
    """Judges' texts and requests reach it too."""
    expected = HostText(tiny_host).tokens("half \ufffd")
    assert HostText(tiny_host).tokens("half \ud83d") == expected
    words = Tokenizing(tiny_host.tokenizer, "tiny")
    assert tuple(words.encode(Prompt("half \ud83d", None))) == expected


# Refused with file and line


def refusal(spec: TextSpec) -> str:
    with pytest.raises(DataError) as caught:
        texts(spec)
    return str(caught.value)


_RECORDS: list[tuple[Any, list[str]]] = [
    ({"txt": "x"}, ["no column 'text'", "records before it have", "columns: txt.", "null"]),
    ({}, ["no column 'text'", "columns: none"]),
    ({"text": [12, 15, 7]}, ["token ids, not text", "text.column"]),
    ({"text": ["a", "b"]}, ["a list, not text", "One text|one text per record"]),
    ({"text": [{"role": "user", "content": "x"}]}, ["a list, not text", "packing=chat"]),
    ({"text": []}, ["a list, not text"]),
    ({"text": 7}, ["a number, not text", "column of text"]),
    ({"text": 7.5}, ["a number, not text"]),
    ({"text": True}, ["a boolean, not text"]),
    ({"text": {"en": "x"}}, ["an object, not text"]),
    ([1, 2], ["no JSON object but token ids"]),
    ("text", ["no JSON object but a text"]),
    (None, ["no JSON object but null"]),
]


@pytest.mark.parametrize("name", ["text.jsonl", "text.jsonl.gz"])
@pytest.mark.parametrize(("record", "words"), _RECORDS)
def test_one_record_among_others(tmp_path: Path, name: str, record: Any, words: list[str]) -> None:
    line = json.dumps(record).encode() + b"\n"
    message = refusal(write(tmp_path, name, GOOD * 6 + line + GOOD))
    assert f"{name}, line 7" in message
    assert all(any(word in message for word in each.split("|")) for each in words), message
    if "no column" in message:
        assert "Set text.column" not in message


def test_the_first_record_tells_another_column(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "text.jsonl", b'{"input_ids": [1, 2], "body": "x"}\n'))
    assert "line 1 has no column 'text'; its columns: input_ids, body. Set text.column." in message
    spec = write(tmp_path, "text.jsonl", b'{"input_ids": [1, 2]}\n')
    spec = spec.model_copy(update={"column": "input_ids"})
    assert "token ids, not text" in refusal(spec)
    # Where dialogues are read too, ids are no dialogue either.
    assert "token ids, not text" in refusal(spec.model_copy(update={"packing": "packed"}))


def test_null_and_empty_count_as_nothing(tiny_host: HostModel, tmp_path: Path) -> None:
    content = b'{"text": null}\n\n{"text": ""}\n{"text": "  "}\n' + GOOD
    store = TokenStore.build(write(tmp_path, "text.jsonl", content), tiny_host, tmp_path / "store")
    assert store.n_documents == 1


@pytest.mark.parametrize("name", ["text.txt", "text.jsonl", "text.jsonl.gz"])
@pytest.mark.parametrize("content", [b"", b"\n\n", b"\r\n \r\n", b"\xef\xbb\xbf"])
def test_an_empty_file_says_that_it_holds_no_tokens(
    tiny_host: HostModel, tmp_path: Path, name: str, content: bytes
) -> None:
    with pytest.raises(DataError, match="holds no tokens"):
        TokenStore.build(write(tmp_path, name, content), tiny_host, tmp_path / "store")


_LINE = '{"text": "naïve lanterns"}\n'


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.txt", b"good\nb\xe9d\n", ["line 2: byte 0xe9 is not UTF-8", "WINDOWS-1252"]),
        ("t.txt", "lanterns\n".encode("utf-16"), ["line 1", "iconv -f UTF-16 "]),
        ("t.txt", ("lanterns " * 3000).encode("utf-16"), ["line 1", "iconv -f UTF-16 "]),
        ("t.txt", "lanterns\n".encode("utf-16-le"), ["NUL", "iconv -f UTF-16LE"]),
        ("t.jsonl", GOOD + b'{"text": "b\xe9d"}\n', ["line 2: byte 0xe9", "WINDOWS-1252"]),
        ("t.jsonl.gz", GOOD + b'{"text": "b\xe9d"}\n', ["line 2: byte 0xe9"]),
        ("t.jsonl", _LINE.encode("utf-16"), ["line 1: byte 0xff", "iconv -f UTF-16 "]),
        ("t.jsonl", _LINE.encode("utf-16-le"), ["line 1 is not JSON|not UTF-8", "UTF-16LE|UTF-8"]),
        ("t.jsonl", GOOD + b"[" * 200_000 + b"\n", ["line 2 is not JSON"]),
        ("t.jsonl", GOOD + b'{"text": ' + b"9" * 5000 + b"}\n", ["line 2"]),
        ("t.jsonl", GOOD + b'{"text": "cut\n', ["line 2 is not JSON"]),
        ("t.jsonl", GOOD + b"\x00\x00\x00\n", ["line 2 is not JSON", "UTF-16"]),
    ],
)
def test_bytes_that_are_no_text(
    tmp_path: Path, name: str, content: bytes, words: list[str]
) -> None:
    message = refusal(write(tmp_path, name, content))
    assert name in message
    assert all(any(word in message for word in each.split("|")) for each in words), message


def test_a_gzip_file_cut_short_or_none_at_all(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(GOOD.replace(b"seven", b"%d" % n) for n in range(5000)))
    file = tmp_path / "text.jsonl.gz"
    for content, words in ((whole[:-200], "Is the file whole"), (GOOD, "Cannot read"), (b"", "")):
        file.write_bytes(content)
        if words:
            assert words in refusal(TextSpec(source=str(file)))
        else:
            assert texts(TextSpec(source=str(file))) == []


@pytest.mark.parametrize("change", [
    lambda lines: b"\xef\xbb\xbf" + lines,
    lambda lines: lines.replace(b"\n", b"\r\n"),
    lambda lines: lines.rstrip(b"\n"),
])  # fmt: skip
def test_marks_and_line_ends_do_not_matter(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    for name, lines in (("t.jsonl", GOOD * 2), ("t.jsonl.gz", GOOD * 2), ("t.txt", b"a\nb\n")):
        plain, changed = write(tmp_path, f"1{name}", lines), write(tmp_path, name, change(lines))
        assert texts(changed) == texts(plain)


def test_one_very_long_line(tiny_host: HostModel, tmp_path: Path) -> None:
    long = "lantern " * 100_000
    lines = json.dumps({"text": long}).encode()
    assert texts(write(tmp_path, "t.jsonl", lines)) == [long]
    assert "".join(texts(write(tmp_path, "t.txt", long.encode()))).count("lantern") == 100_000


# Parquet and datasets


def parquet(folder: Path, **columns: Any) -> TextSpec:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    file = folder / "t.parquet"
    pyarrow.parquet.write_table(arrow.table(columns), file)
    return TextSpec(source=str(file))


def test_parquet_columns_of_other_types(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    message = refusal(parquet(tmp_path, text=[[1, 2, 3]]))
    assert "row 1: 'text' holds token ids" in message
    assert "row 2: 'text' holds a number" not in refusal(parquet(tmp_path, text=[1.5, 2.5]))
    assert "row 1: 'text' holds bytes" in refusal(parquet(tmp_path, text=[b"x", b"y"]))
    assert "no column 'text'; its columns: body" in refusal(parquet(tmp_path, body=["x"]))
    assert texts(parquet(tmp_path, text=["a", None, "c"])) == ["a", "", "c"]
    large = arrow.array(["a", "b"], arrow.large_string())
    assert texts(parquet(tmp_path, text=large)) == ["a", "b"]
    assert texts(parquet(tmp_path, text=large.dictionary_encode())) == ["a", "b"]


def test_parquet_text_that_is_not_utf8_names_its_row(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    broken = arrow.array([b"good"] * 300 + [b"b\xe9d"]).cast(arrow.binary())
    as_text = arrow.Array.from_buffers(arrow.string(), len(broken), broken.buffers())
    message = refusal(parquet(tmp_path, text=as_text))
    assert "row 301: 'text' cannot be read" in message


def test_a_parquet_file_that_is_damaged_within(tmp_path: Path) -> None:
    spec = parquet(tmp_path, text=[f"document {n}" * 50 for n in range(2000)])
    file = Path(spec.source)
    content = bytearray(file.read_bytes())
    content[len(content) // 4 : len(content) // 2] = b"\xff" * (
        len(content) // 2 - len(content) // 4
    )
    file.write_bytes(bytes(content))
    assert str(file) in refusal(spec)


def test_records_of_a_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    records = [{"text": "good"}, {"text": [5, 6]}]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_args, **_options: records)
    with pytest.raises(DataError, match="owner/set, record 2: 'text' holds token ids"):
        list(read_dataset("owner/set", None, "train", "text"))
    records[1] = {"other": "x"}
    with pytest.raises(
        DataError, match=r"record 2 has no column 'text'; its .* records before it have it"
    ):
        list(read_dataset("owner/set", None, "train", "text"))


# Dialogues


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"content": "x"}], "message 1 of 'messages' has no role and content"),
        ([{"role": None, "content": "x"}], "the role of message 1 of 'messages' is no text"),
        ([{"role": 3, "content": "x"}], "is no text"),
        ([{"role": " ", "content": "x"}], "is no text"),
        ([{"from": "human", "value": "x"}], "Rename 'from' to 'role'"),
        (["hello"], "one text per record"),
        ([5, 6], "Token ids are no messages"),
        ("hello", "holds str, not a list of messages"),
        ({"role": "user"}, "holds dict, not a list of messages"),
    ],
)
def test_dialogues_of_another_form(tmp_path: Path, messages: Any, words: str) -> None:
    good = json.dumps({"messages": [{"role": "user", "content": "x"}]}).encode() + b"\n"
    line = json.dumps({"messages": messages}).encode() + b"\n"
    spec = write(tmp_path, "chats.jsonl", good + line).model_copy(update={"packing": "chat"})
    message = refusal(spec)
    assert "chats.jsonl, line 2" in message and words in message
