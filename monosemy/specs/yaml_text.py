"""YAML text to plain values, with faults in one line that say where."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.reader import ReaderError


class NotYaml(ValueError):
    """A text that is not YAML.  Its text says why, in one line; ``place`` says where."""

    def __init__(self, reason: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(" ".join(reason.split()))
        self.place = "" if line is None else f"line {line}, column {column}"
        """``line 3, column 5``, both from 1; empty where no place is to blame."""


class _OneTree(yaml.SafeLoader):
    """YAML as a tree: an alias of an alias of ... stands for more than anybody can hold."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(None, None, "anchors and aliases are not taken", mark)
        return super().compose_node(parent, index)


def yaml_of(text: str | bytes, aliases: bool = True) -> Any:
    """The value that ``text`` (UTF-8) holds; JSON is YAML.  Raises ``NotYaml``, unless ``aliases``
    for those too."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return yaml.load(text, yaml.SafeLoader if aliases else _OneTree)
    except UnicodeDecodeError as error:
        line, column = _place(error.object, error.start, b"\n")
        raise NotYaml(
            f"byte 0x{error.object[error.start]:02x} is not UTF-8", line, column
        ) from None
    except ReaderError as error:
        line, column = _place(str(text), error.position, "\n")
        raise NotYaml(f"U+{int(error.character):04X}: {error.reason}", line, column) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "it cannot be read"
        if mark is None:
            raise NotYaml(reason) from None
        raise NotYaml(reason, mark.line + 1, mark.column + 1) from None
    except RecursionError:
        raise NotYaml("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # A value that no date or number can be: 2026-99-99, 5,000 digits.
        raise NotYaml(str(error) or type(error).__name__) from None


def _place(text: Any, position: int, line_end: Any) -> tuple[int, int]:
    """Line and column, from 1, of a position in a text, or of a byte."""
    before = text[:position]
    return before.count(line_end) + 1, position - before.rfind(line_end)
