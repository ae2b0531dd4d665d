"""``monosemy gc``: artifacts that nothing refers to."""

from __future__ import annotations

from typing import Annotated

import typer

from monosemy.exit_codes import FAILED
from service.cli.output import JsonFlag, print_json, print_table, readable_errors, say
from service.settings import settings_with


@readable_errors
def gc(
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove it; without this it is only shown.")
    ] = False,
    grace_hours: Annotated[
        float | None, typer.Option(min=1, help="Keep what was written within this many hours.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Find artifacts on this machine that no SAE and no unfinished run refers to; remove them.

    Example: monosemy gc --delete
    """
    from service.database.session import make_engine
    from service.retention.collector import collect
    from service.retention.rules import Rules

    settings = settings_with(retention_grace_hours=grace_hours)
    engine = make_engine(settings.database_url)
    try:
        done = collect(engine, settings.artifacts, Rules.of(settings), delete)
    finally:
        engine.dispose()
    if as_json:
        print_json(
            {
                "deleted": delete,
                "bytes": done.bytes,
                "kinds": {
                    kind: {"things": number, "bytes": size}
                    for kind, (number, size) in sorted(done.by_kind().items())
                },
                "paths": [each.found.path for each in done.garbage],
                "rows": {
                    "events": done.events,
                    "contexts": done.contexts,
                    "documents": done.documents,
                    "sessions": done.sessions,
                },
                "kept": {**done.kept, "young": done.young},
                "unfinished_runs": done.unfinished,
                "failed": done.failed,
            }
        )
    else:
        rows = [
            (kind, number, _size(size)) for kind, (number, size) in sorted(done.by_kind().items())
        ]
        print_table(("garbage", "things", "size"), rows)
        outcome = "removed" if delete else "would be removed with --delete"
        say(f"{len(done.garbage)} things, {_size(done.bytes)}: {outcome}.")
        if done.events or done.contexts or done.documents or done.sessions:
            say(
                f"Rows: {done.events} events, {done.contexts} contexts, {done.documents} documents"
                f" and {done.sessions} sessions."
            )
        if done.young:
            say(f"{done.young} more are too young to tell.")
        if held := done.kept.get("held"):
            say(f"{held} more stay while {done.unfinished} runs have not ended.")
        for line in done.failed:
            say(line)
    if done.failed:
        raise typer.Exit(FAILED)


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
