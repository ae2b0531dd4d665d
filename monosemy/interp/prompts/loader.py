"""Prompts as versioned text files, so that an explanation can name the exact words behind it.

A file ``<name>_v<version>.md`` holds sections, each headed by a line ``=== system``, ``=== user``
or ``=== assistant``; ``{{name}}`` is replaced by a value.  The constant sections come first, so
that endpoints can reuse what they computed for the common beginning.  A released file is never
changed: a better wording is a new version.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from monosemy.errors import DataError

_FILE = re.compile(r"([a-z][a-z0-9_]*)_v(\d+)\.md")
_SECTION = re.compile(r"^=== (system|user|assistant)[ \t]*\n", re.MULTILINE)
_FIELD = re.compile(r"\{\{([a-z_]+)\}\}")


@dataclass(frozen=True)
class Prompt:
    name: str
    version: int
    hash: str
    """First 16 hex digits of BLAKE2b over the file."""
    sections: tuple[tuple[str, str], ...]
    """(role, template) in order."""

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(field for _, text in self.sections for field in _FIELD.findall(text))

    def render(self, **values: str) -> list[dict[str, str]]:
        """Chat messages with ``values`` put in, in one pass: braces in a value mean nothing.

        Raises ``DataError`` for a value too few or too many.
        """
        if wrong := self.fields ^ set(values):
            raise DataError(f"Prompt {self.name} v{self.version}: {sorted(wrong)} do not match.")
        return [
            {"role": role, "content": _FIELD.sub(lambda match: values[match[1]], text)}
            for role, text in self.sections
        ]

    def provenance(self) -> dict[str, str | int]:
        return {"name": self.name, "version": self.version, "hash": self.hash}


def versions(name: str) -> list[int]:
    """The versions there are of a prompt, ascending."""
    matches = (_FILE.fullmatch(entry.name) for entry in files(__package__).iterdir())
    return sorted(int(match[2]) for match in matches if match and match[1] == name)


@lru_cache
def load_prompt(name: str, version: int | None = None) -> Prompt:
    """A prompt by name; ``version`` None takes the newest.  Raises ``DataError``."""
    known = versions(name)
    if not known or (version is not None and version not in known):
        raise DataError(f"No prompt '{name}' version {version}; there are {known or 'none'}.")
    version = version if version is not None else known[-1]
    data = (files(__package__) / f"{name}_v{version}.md").read_bytes()
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    head, *rest = _SECTION.split(data.decode())
    if head.strip() or not rest:
        raise DataError(f"Prompt {name} v{version} must begin with a line '=== system'.")
    sections = tuple((role, text.strip()) for role, text in zip(rest[::2], rest[1::2], strict=True))
    return Prompt(name, version, digest, sections)
