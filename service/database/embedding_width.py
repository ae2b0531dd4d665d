"""How many numbers the embedding of an explanation has: a setting, and the width of a column.

Embeddings of two widths cannot be compared, so that another width is another set of embeddings:
what is stored is never thrown away unasked.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from monosemy.errors import MonosemyError
from service.database.migrate import MIGRATION_LOCK
from service.database.session import make_engine


def stored_width(connection: Connection) -> int:
    """Of the column, in numbers."""
    query = "SELECT atttypmod FROM pg_attribute WHERE attrelid = 'explanations'::regclass"
    return int(connection.execute(text(f"{query} AND attname = 'embedding'")).scalar_one())


def check_width(connection: Connection, width: int) -> None:
    """Raises ``MonosemyError`` where the column has not the width that the deployment is set to."""
    stored = stored_width(connection)
    if stored != width:
        raise MonosemyError(
            f"The database holds embeddings of {stored} numbers; MONOSEMY_EMBEDDING_WIDTH is"
            f" {width}.",
            "Run 'monosemy migrate', which says what to do.",
        )


def set_width(url: str | None, width: int, discard: bool = False) -> bool:
    """Gives the column the width ``wanted``; whether it had another.

    Raises ``MonosemyError`` where embeddings of another width are stored.  With ``discard`` all
    embeddings are thrown away, of whichever width: their explanations stay, and are found by words
    until they are embedded anew.
    """
    engine = make_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            stored = stored_width(connection)
            if not discard:
                if stored == width:
                    return False
                _refuse_loss(connection, stored, width)
            connection.execute(
                text(
                    "ALTER TABLE explanations ALTER COLUMN embedding"
                    f" TYPE halfvec({int(width)}) USING NULL"
                )
            )
            return stored != width
    finally:
        engine.dispose()


def _refuse_loss(connection: Connection, stored: int, width: int) -> None:
    count = connection.execute(text("SELECT count(embedding) FROM explanations")).scalar_one()
    if count:
        raise MonosemyError(
            f"The database holds {count:,} embeddings of {stored} numbers;"
            f" MONOSEMY_EMBEDDING_WIDTH is {width}.",
            f"Set it back to {stored}, or run 'monosemy reembed': it throws these away and has the"
            " embedder make new ones of all explanations.",
        )
