"""The text of the demo: 106 articles of English Wikipedia (CC BY-SA) that gensim's wheel ships."""

from __future__ import annotations

import bz2
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from monosemy.data.documents import Document
from monosemy.errors import DataError

_SAMPLE = "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
_SHORTEST = 200

_QUOTES = re.compile(r"'{2,5}")
_HEADING = re.compile(r"^[ \t]*=+[ \t]*(.*?)[ \t]*=+[ \t]*$", re.MULTILINE)
_LIST_MARK = re.compile(r"^[ \t]*[*#:;]+[ \t]*", re.MULTILINE)
_TABLE_OR_FILE_LINE = re.compile(r"^[ \t]*(\{\||\|\}|\|-|\||!|(File|Image):).*\n?", re.MULTILINE)
_HOLLOW = re.compile(r"[ \t]+\([\s,;]*\)")
_AFTER_BRACKET = re.compile(r"\([\s,;]+")
_BEFORE_MARK = re.compile(r"[ \t]+([,;)]|\.(?!\w))")
_BLANKS = re.compile(r"[ \t\u00a0]+")
_BLANK_LINES = re.compile(r"[ \t]*\n([ \t]*\n)+")


def read_wikipedia_sample() -> Iterator[Document]:
    """The articles as plain text, one document each; those under 200 characters are left out."""
    file = _sample_file()
    # Only here: gensim pulls in scipy and takes seconds to import.
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    with bz2.open(file, "rb") as stream:
        for title, source, _page in extract_pages(stream, filter_namespaces=("0",)):
            text = clean_wiki(filter_wiki(source or ""))
            if len(text) >= _SHORTEST:
                yield Document(title, text)


def clean_wiki(text: str) -> str:
    """Removes what gensim's filter leaves of wiki markup; headings stay as plain lines."""
    text = _QUOTES.sub("", text)
    text = _TABLE_OR_FILE_LINE.sub("", text)
    text = _HEADING.sub(r"\1", text)
    text = _LIST_MARK.sub("", text)
    # Templates (foreign words, pronunciation) are gone by now and leave their punctuation.
    text = _HOLLOW.sub("", text)
    text = _AFTER_BRACKET.sub("(", text)
    text = _BEFORE_MARK.sub(r"\1", text)
    text = _BLANKS.sub(" ", text)
    return _BLANK_LINES.sub("\n\n", text).strip()


def _sample_file() -> Path:
    module = importlib.util.find_spec("gensim")
    for folder in (module.submodule_search_locations or []) if module else []:
        file = Path(folder) / _SAMPLE
        if file.is_file():
            return file
    raise DataError(
        "The text 'wikipedia-sample' comes with the package gensim, which is not installed.",
        "Run: pip install 'monosemy[demo]', or name a local text.",
    )
