"""A record of a text source as a document.  Its types are whatever somebody wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monosemy.data.chats import messages_of
from monosemy.data.documents import Document, Holds, column_of, name_of
from monosemy.errors import DataError


class Records:
    """The records of one source, in their order: what earlier ones held fits the advice."""

    def __init__(self, column: str, holds: Holds = "text") -> None:
        self.column, self.holds = column, holds
        self._had: set[str] = set()

    def document(self, record: Any, where: str, name: str) -> Document:
        """The document in one record; null counts as empty.

        ``where`` (file and line) begins every ``DataError``, ``name`` is the document's if the
        record has none.
        """
        if not isinstance(record, Mapping):
            raise DataError(f"{where} holds no JSON object but {_named(record)}.")
        column = column_of(record.keys(), self.column, self.holds)
        if column not in record:
            raise self._missing(where, column, record)
        value = record[column]
        self._had.add(column)
        dialogue = self.holds == "either" and isinstance(value, list) and not _are_ids(value)
        if self.holds == "chat" or dialogue:
            return Document(name_of(record, name), "", messages_of(value, column, where))
        if value is not None and not isinstance(value, str):
            raise DataError(f"{where}: '{column}' holds {_named(value)}, not text.", _advice(value))
        return Document(name_of(record, name), value or "")

    def _missing(self, where: str, column: str, record: Mapping[Any, Any]) -> DataError:
        had = self._had & {column, self.column}
        if not had:
            return missing_column(where, column, list(record))
        known = ", ".join(map(str, record)) or "none"
        return DataError(
            f"{where} has no column '{min(had)}'; its columns: {known}. The records before it have "
            "it.",
            "Mend or remove it; a record may hold null instead.",
        )


def missing_column(where: str, column: str, there: list[Any]) -> DataError:
    """The error that names the columns which are there."""
    known = ", ".join(map(str, there)) or "none"
    return DataError(f"{where} has no column '{column}'; its columns: {known}.", "Set text.column.")


def _are_ids(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(item, int) and not isinstance(item, bool) for item in value[:8])


def _named(value: Any) -> str:
    """What a person calls a value of this type."""
    if _are_ids(value):
        return "token ids"
    names = {dict: "an object", list: "a list", str: "a text", bytes: "bytes", type(None): "null"}
    names |= {bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def _advice(value: Any) -> str:
    if _are_ids(value):
        return (
            "Name the column of the text they were made from (text.column): it is tokenised here."
        )
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return "Write one text per record, or join them."
    if isinstance(value, list):
        return "For chats set text.packing=chat."
    if isinstance(value, bytes):
        return "Store it as a string."
    return "Set text.column to a column of text, or mend this record."
