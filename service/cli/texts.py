"""Files of texts that commands are given."""

from __future__ import annotations

from pathlib import Path

from monosemy.exit_codes import USAGE
from service.cli.output import fail


def text_lines(file: Path | None) -> list[str]:
    """Its lines that are not blank, each a text; none for no file.  Ends the command where it is
    not UTF-8."""
    if file is None:
        return []
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        fail(f"{file} is not UTF-8.", USAGE)
    return [line for line in text.splitlines() if line.strip()]
