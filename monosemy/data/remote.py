"""Documents out of a Hugging Face dataset, streamed."""

from __future__ import annotations

import os
from collections.abc import Iterator

from monosemy.data.documents import Document, Holds
from monosemy.data.records import Records
from monosemy.errors import DataError


def read_dataset(
    name: str, subset: str | None, split: str, column: str, holds: Holds = "text"
) -> Iterator[Document]:
    """One document per record of ``split``, downloaded as it is read; ``DataError`` if it fails."""
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"'{name}' is no local file, and Hugging Face datasets need the package datasets.",
            "Run: pip install 'monosemy[train]'",
        ) from None
    try:
        stream = iter(
            datasets.load_dataset(
                name, subset, split=split, streaming=True, trust_remote_code=False
            )
        )
    except Exception as error:  # the hub client raises many unrelated types
        raise _fault(name, error) from error
    records = Records(column, holds)
    number = 0
    while True:
        try:
            record = next(stream)
        except StopIteration:
            return
        except Exception as error:
            raise _fault(name, error) from error
        number += 1
        yield records.document(record, f"{name}, record {number}", f"{name}:{number}")


def _fault(name: str, error: Exception) -> DataError:
    text = str(error).strip().splitlines()
    reason = text[0] if text else type(error).__name__
    advice = "Check the name, subset and split, or name a local .txt, .jsonl or .parquet file."
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        advice = "HF_HUB_OFFLINE=1 forbids downloads; unset it, or name a local file."
    return DataError(f"Cannot read the dataset '{name}': {reason}", advice)
