"""Entries of the navigation, and which of them stand in the menu of another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Nav:
    """An entry of the navigation."""

    title: str
    place: int
    """Entries are shown in the order of their places."""
    key: str | None = None
    """Pressed after ``g`` it goes there."""
    scope: str = "read"
    """Who lacks it is not shown the entry."""
    also: tuple[str, ...] = ()
    """Further paths whose pages belong to it, with those below them."""
    below: str = ""
    """Title of the entry whose menu it stands in; empty: it stands by itself."""
    path: str = ""
    """Where it leads; the page fills it in."""

    def holds(self, path: str) -> bool:
        """Whether the page at ``path`` belongs to it."""
        return any(path == each or path.startswith(f"{each}/") for each in (self.path, *self.also))


def menus(entries: list[Nav]) -> list[tuple[Nav, list[Nav]]]:
    """Entries that stand by themselves, each with those below it; where the one above is not shown
    those below it stand by themselves too."""
    heads = {entry.title for entry in entries if not entry.below}
    alone = [entry for entry in entries if entry.below not in heads]
    return [(head, [each for each in entries if each.below == head.title]) for head in alone]
