"""Garbage collection of the artifact root: what no row and no unfinished run refers to, goes.

Candidates are judged once to report them, and again right before each is moved away, while no run
can begin: whatever takes up work afterwards finds the thing gone, never half gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from monosemy.errors import MonosemyError
from monosemy.workspace import Kind
from service.database.session import transaction
from service.retention import trash
from service.retention.artifacts import (
    KINDS,
    Extent,
    Found,
    entries,
    extent,
    index_of,
    is_run_id,
    within,
)
from service.retention.references import References, ended_runs, hold_runs, read_references
from service.retention.rows import ended_sessions, old_events, orphaned_texts
from service.retention.rules import Rules, Verdict, forgotten_cache, ripe, verdict

_AT_ONCE = 50
"""Things moved away while runs are held: renames take no time, the walk over them some."""
TEMPORARY = "temporary"


@dataclass(frozen=True)
class Garbage:
    """A thing that may go."""

    kind: str
    """As in ``artifacts.KINDS``, or ``temporary``."""
    found: Found
    size: Extent


@dataclass
class Collection:
    """What was found, and what became of it."""

    garbage: list[Garbage] = field(default_factory=list)
    """With ``delete``, what was removed."""
    kept: dict[Verdict, int] = field(default_factory=dict)
    """How many things stayed, by why: live, held, unknown (not of our making)."""
    young: int = 0
    """Things nobody refers to that were written within the grace period."""
    unfinished: int = 0
    """Runs that have not ended: for their sake ``held`` things stay."""
    events: int = 0
    contexts: int = 0
    documents: int = 0
    sessions: int = 0
    """Rows of old events, of texts that no SAE is indexed over, and of sessions that ended."""
    failed: list[str] = field(default_factory=list)
    """What could not be looked at or removed, and why."""

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """(things, bytes) of each kind that there is garbage of."""
        sums: dict[str, tuple[int, int]] = {}
        for each in self.garbage:
            number, size = sums.get(each.kind, (0, 0))
            sums[each.kind] = number + 1, size + each.size.bytes
        return sums

    @property
    def bytes(self) -> int:
        return sum(each.size.bytes for each in self.garbage)


def collect(engine: Engine, root: Path, rules: Rules, delete: bool = False) -> Collection:
    """Finds the garbage of ``root`` and of the database; removes it if ``delete``.

    Raises ``MonosemyError`` when ``root`` is no folder, or when the runs cannot be held.
    """
    if not root.is_dir():
        raise MonosemyError(
            f"There is no folder {root}.", "Run this where the workers keep their artifacts."
        )
    root = root.resolve()
    done = Collection()
    with transaction(engine) as session:
        judge = _Judge(session, root, rules)
        done.unfinished = judge.references.unfinished
        for entry in _candidates(root, judge):
            _look(judge, entry, done)
    if delete:
        done.garbage = _remove(engine, root, rules, done.garbage, done.failed)
        done.failed += trash.empty(root)
    if rules.events is not None:
        done.events = old_events(engine, rules.events, remove=delete)
    done.contexts, done.documents = orphaned_texts(engine, remove=delete)
    done.sessions = ended_sessions(engine, remove=delete)
    return done


class _Judge:
    """The rules at one moment of the database."""

    def __init__(self, session: Session, root: Path, rules: Rules) -> None:
        self.root, self.rules, self.now = root, rules, time.time()
        self.references: References = read_references(session)
        runs = [each.name for each in entries(root, Kind.RUNS) if is_run_id(each.name)]
        self.ended = ended_runs(session, runs)
        # What a notebook indexed in the same root is nobody's row, and its text is in use.
        foreign = [each.name for each in entries(root, Kind.INDEXES) if index_of(each.name) is None]
        self.kept_texts = frozenset(name.rpartition("-")[2] for name in foreign)

    def __call__(self, entry: Found) -> Verdict:
        return verdict(entry, self.references, self.ended, self.rules, self.kept_texts)

    def may_go(self, entry: Found, size: Extent) -> bool:
        """Garbage, and old enough."""
        if not ripe(self.rules, size, self.now):
            return False
        forgotten = forgotten_cache(entry, self.references, self.rules, size, self.now)
        return forgotten or self(entry) == "garbage"


def _candidates(root: Path, judge: _Judge) -> Iterator[Found]:
    for kind in KINDS:
        for entry in entries(root, kind):
            yield entry
            if kind == "runs" and entry.name in judge.ended:
                yield from within(root, entry)


def _look(judge: _Judge, entry: Found, done: Collection) -> None:
    decision = judge(entry)
    caches = judge.rules.activations is not None and entry.kind == "activations"
    if decision != "garbage" and not caches:
        done.kept[decision] = done.kept.get(decision, 0) + 1
        return
    try:
        size = extent(judge.root, entry)
    except FileNotFoundError:
        return
    except OSError as error:
        done.failed.append(f"{entry.path}: {error.strerror}")
        return
    if judge.may_go(entry, size):
        kind = TEMPORARY if entry.temporary else entry.kind
        done.garbage.append(Garbage(kind, entry, size))
    elif decision == "garbage":
        done.young += 1
    else:
        done.kept[decision] = done.kept.get(decision, 0) + 1


def _remove(
    engine: Engine, root: Path, rules: Rules, garbage: Sequence[Garbage], failed: list[str]
) -> list[Garbage]:
    """What was moved into the trash; what has come into use since stays."""
    removed = []
    for start in range(0, len(garbage), _AT_ONCE):
        with transaction(engine) as session:
            hold_runs(session)
            judge = _Judge(session, root, rules)
            for each in garbage[start : start + _AT_ONCE]:
                try:
                    if judge.may_go(each.found, extent(root, each.found)):
                        trash.discard(root, each.found.parts)
                        removed.append(each)
                except FileNotFoundError:
                    continue  # another collector was faster
                except OSError as error:
                    failed.append(f"{each.found.path}: {error.strerror}")
    return removed
