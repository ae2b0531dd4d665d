"""Text sources: what they stream, and how they say what is wrong."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

import pytest

from monosemy.data import wikipedia
from monosemy.data.local_files import DOCUMENT_CHARACTERS, WHOLE_FILE_CHARACTERS
from monosemy.data.sources import Document, open_text
from monosemy.errors import DataError
from monosemy.specs import TextSpec


def read(file: Path, **options: str) -> list[Document]:
    return list(open_text(TextSpec(source=str(file), **options)))


def test_a_short_txt_is_one_document(tmp_path: Path) -> None:
    file = tmp_path / "note.txt"
    file.write_bytes("\ufeffFirst.\r\n\r\nSecond é.\r\n".encode())
    assert read(file) == [Document("note.txt", "First.\n\nSecond é.")]


def test_a_long_txt_is_cut_at_blank_lines(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {number}. " + "word " * 150 for number in range(60)]
    file = tmp_path / "book.txt"
    file.write_text("\n\n".join(paragraphs), encoding="utf-8")
    documents = read(file)
    assert len(documents) > 5
    assert documents[0].name == "book.txt part 1"
    assert all(document.text.startswith("Paragraph ") for document in documents)
    assert all(len(document.text) < 2 * DOCUMENT_CHARACTERS for document in documents)
    joined = "\n\n".join(document.text for document in documents)
    assert joined.split() == "\n\n".join(paragraphs).split()


@pytest.mark.parametrize("unit", ["a line of text\n", "word ", "日"])
def test_a_long_txt_without_blank_lines_loses_nothing(tmp_path: Path, unit: str) -> None:
    text = unit * (3 * WHOLE_FILE_CHARACTERS // len(unit))
    file = tmp_path / "flat.txt"
    file.write_text(text, encoding="utf-8")
    documents = read(file)
    assert all(document.text for document in documents)
    assert all(len(document.text) <= 2 * DOCUMENT_CHARACTERS for document in documents)
    joined = "".join(document.text for document in documents)
    assert "".join(joined.split()) == "".join(text.split())


def test_txt_that_is_not_utf8_names_line_and_byte(tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes("good\ncaf\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.txt, line 2: byte 0xe9 is not UTF-8.*iconv"):
        read(file)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_jsonl_streams_lines_with_their_names(tmp_path: Path, ending: str) -> None:
    lines = [
        json.dumps({"body": "one", "title": "First"}),
        "",
        json.dumps({"body": "zwei ü"}),
        json.dumps({"body": None, "id": 7}),
    ]
    data = ("\n".join(lines) + "\n").encode()
    file = tmp_path / f"a{ending}"
    file.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    assert read(file, column="body") == [
        Document("First", "one"),
        Document(f"a{ending}:3", "zwei ü"),
        Document("7", ""),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "cut', r"line 2 is not JSON"),
        (b'["text"]', r"line 2 holds no JSON object but a list"),
        (b'{"body": "x", "n": 1}', r"line 2 has no column 'text'; its columns: body, n"),
        (b'{"text": 5}', r"line 2: 'text' holds a number, not text"),
        (b'{"text": "\xff"}', r"line 2: byte 0xff is not UTF-8"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: bytes, message: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"text": "good"}\n' + line + b"\n")
    stream = open_text(TextSpec(source=str(file)))
    assert next(stream).text == "good"
    with pytest.raises(DataError, match=message):
        next(stream)


def test_a_broken_gzip_is_a_data_error(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"text": "x"}\n' * 1000)[:-20])
    with pytest.raises(DataError, match=r"Cannot read .*a.jsonl.gz"):
        read(file)
    file.write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"Cannot read .*a.jsonl.gz"):
        read(file)


def test_parquet_streams_row_groups(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    file = tmp_path / "a.parquet"
    table = arrow.table(
        {"text": [f"text {n}" for n in range(1000)], "title": [f"t{n}" for n in range(1000)]}
    )
    parquet.write_table(table, file, row_group_size=100)
    documents = read(file)
    assert [document.text for document in documents] == [f"text {n}" for n in range(1000)]
    assert documents[17].name == "t17"
    with pytest.raises(DataError, match=r"no column 'body'; its columns: text, title"):
        read(file, column="body")
    file.write_bytes(b"not parquet at all")
    with pytest.raises(DataError, match="is not a parquet file"):
        read(file)


def test_parquet_of_numbers_is_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    file = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"text": [1, 2]}), file)
    with pytest.raises(DataError, match=r"row 1: 'text' holds a number, not text"):
        read(file)


@pytest.mark.parametrize(
    "name", ["absent.txt", "absent.jsonl", "absent.jsonl.gz", "absent.parquet"]
)
def test_absent_files_are_data_errors_not_datasets(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"no file .*{name}"):
        read(tmp_path / name)


def test_unknown_kinds_of_files_name_the_known_ones(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text\nx\n")
    for source in (file, tmp_path, tmp_path / "absent.doc"):
        with pytest.raises(DataError, match=r"\.txt, \.jsonl, \.jsonl\.gz, \.parquet"):
            read(source)


def test_datasets_stream_and_their_errors_are_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with a data file is a dataset to the datasets library, without any hub."""
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine"
    folder.mkdir()
    lines = [json.dumps({"text": f"text {n}"}) for n in range(5)]
    (folder / "train.jsonl").write_text("\n".join(lines))
    from monosemy.data.remote import read_dataset

    documents = list(read_dataset("mine", None, "train", "text"))
    assert [document.text for document in documents] == [f"text {n}" for n in range(5)]
    with pytest.raises(DataError, match=r"no column 'body'; its columns: text"):
        list(read_dataset("mine", None, "train", "body"))
    with pytest.raises(DataError, match="Cannot read the dataset 'nobody/nothing'"):
        list(read_dataset("nobody/nothing", None, "train", "text"))


def test_wiki_markup_is_cleaned() -> None:
    source = (
        "'''Autism''' is a ''disorder'' ( ; , Greek) of Alan's () .NET .\n\n\n\n"
        "== Causes ==\n* first , second\n:# third\n{| class=x\n|-\n| cell\n|}\n"
        "File:x.jpg|A caption\n=== Deep ===\nEnd"
    )
    assert wikipedia.clean_wiki(source) == (
        "Autism is a disorder (Greek) of Alan's .NET.\n\nCauses\nfirst, second\nthird\nDeep\nEnd"
    )


def test_wikipedia_sample_without_gensim_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"gensim.*not installed.*monosemy\[demo\]"):
        next(open_text(TextSpec()))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gensim") is None, reason="gensim is not installed")
def test_wikipedia_sample_is_over_two_megabytes_of_plain_text() -> None:
    documents = list(open_text(TextSpec()))
    assert len(documents) == 106
    assert documents[0].name == "Anarchism"
    assert sum(len(document.text.encode()) for document in documents) > 2_000_000
    assert min(len(document.text) for document in documents) >= 200
    text = "\n".join(document.text for document in documents)
    # '''' nested in examples of markup is all that may stay.
    for mark, most in (("'''", 5), ("[[", 5), ("{{", 5), ("<ref", 5), ("\n\n\n", 0), ("\n==", 0)):
        assert text.count(mark) <= most, mark
