"""What the GPU worker writes into Postgres: models, SAEs, indexes.

Bulk rows go through COPY.  Everything is idempotent: a step that runs again replaces or finds what
it wrote before.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Column, String, delete, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from monosemy.data.store import TokenStore
from monosemy.formats.saelens import read_provenance
from monosemy.index.example_bytes import examples_from_bytes
from monosemy.index.reader import IndexReader
from monosemy.index.records import iterate_feature_rows
from monosemy.models.host import HostModel
from monosemy.progress import Stage
from monosemy.sae_folder import restamped_model
from monosemy.specs import ModelSpec
from service.database.storable import storable, storable_json, storable_text
from service.database.tables import Feature, Model, Sae
from service.features.columns import STORED
from service.kit.free_names import first_free, lock_names

_HASH = re.compile(r"-[0-9a-f]{8}")
"""Ends the name of a model whose own name was taken by another."""


def publish_model(session: Session, host: HostModel, spec: ModelSpec) -> uuid.UUID:
    """The row of this host model; one of the same name and another content gets a longer name.

    A row with the first form of a fingerprint that is this model's gets the one of today.
    """
    info = host.info()
    shorter, longer = host.name, f"{host.name}-{info['fingerprint'][:8]}"
    like = Model.name.startswith(host.name, autoescape=True)
    for row in session.scalars(select(Model).where(like).order_by(Model.name)):
        suffix = row.name.removeprefix(host.name)
        if (not suffix or _HASH.fullmatch(suffix)) and _is_of(row, host, info["fingerprint"]):
            _mend_tokens(row, host)
            return row.id
    for name in (shorter, longer):
        values = {
            "name": name,
            "spec": spec.model_dump(mode="json"),
            "info": info,
            "token_bytes": host.token_bytes().pack(),
        }
        # Two workers may publish the same model at once: the second finds the first one's row.
        session.execute(insert(Model).values(**values).on_conflict_do_nothing())
        found = session.scalars(select(Model).where(Model.name == name)).one()
        if _is_of(found, host, info["fingerprint"]):
            return found.id
    raise RuntimeError(f"two host models share the name and hash of {host.name}")


def _is_of(row: Model, host: HostModel, fingerprint: str) -> bool:
    if row.info.get("fingerprint") == fingerprint:
        return True
    if "parts" in row.info or row.info.get("fingerprint") != host.sampled_fingerprint:
        return False
    row.info = restamped_model(row.info, host)
    return True


def _mend_tokens(row: Model, host: HostModel) -> None:
    packed = host.token_bytes().pack()
    if row.token_bytes != packed:  # an older version read this vocabulary otherwise
        row.token_bytes = packed


def copy_stamps(session: Session, sae_id: uuid.UUID, folder: Path) -> None:
    """Brings what the SAE's row lacks of stamps over from its folder, whose stamps have been held
    to the row's."""
    sae = session.get(Sae, sae_id, with_for_update=True)
    if sae is None:
        return
    there, kept = read_provenance(folder), dict(sae.provenance)
    lacking = {
        "model": "parts" not in (kept.get("model") or {}),
        "text": "text" in kept and not (kept["text"] or {}).get("tokens_digest"),
        "weights": "weights" not in kept,
    }
    stamps = {name: there[name] for name, lacks in lacking.items() if lacks and name in there}
    if stamps:
        sae.provenance = {**kept, **storable(stamps)}


def free_sae_name(session: Session, wanted: str, sae_id: uuid.UUID) -> str:
    """``wanted``, or ``wanted-2``, ``-3``, ... if another SAE has it; reserved until commit."""
    lock_names(session)
    taken = set(
        session.scalars(
            select(Sae.name).where(Sae.name.startswith(wanted, autoescape=True), Sae.id != sae_id)
        )
    )
    return first_free(wanted, taken)


def free_set_name(session: Session, wanted: str, members: Sequence[uuid.UUID]) -> str:
    """``wanted``, or ``wanted-2``, ... if other SAEs than ``members`` are of such a set; reserved
    until commit."""
    lock_names(session)
    name = Sae.config["set"]["name"].astext
    taken = set(
        session.scalars(
            select(name).where(name.startswith(wanted, autoescape=True), Sae.id.not_in(members))
        )
    )
    return first_free(wanted, taken)


def publish_sae(session: Session, **columns: Any) -> None:
    """Inserts the SAE, or brings the row of the same id up to date."""
    statement = insert(Sae).values(**columns)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[Sae.id], set_={k: v for k, v in columns.items() if k != "id"}
        )
    )


def store_evaluation(session: Session, sae_id: uuid.UUID, evaluation: dict[str, Any]) -> None:
    sae = session.get(Sae, sae_id, with_for_update=True)
    if sae is not None:
        sae.metrics = {**sae.metrics, "evaluation": storable(evaluation)}


def publish_index(
    session: Session,
    sae_id: uuid.UUID,
    reader: IndexReader,
    store: TokenStore,
    path: str,
    stage: Stage,
) -> dict[str, Any]:
    """Replaces the SAE's feature rows by those of ``reader``; contexts are shared, kept once.

    Returns what ``saes.index`` holds: path, text_id, tokens, documents, features, alive, postings,
    sae_digest, bytes_per_feature (the feature's row and its share of the contexts).
    """
    session.execute(delete(Feature).where(Feature.sae_id == sae_id))
    rows = iterate_feature_rows(reader)
    used: set[int] = set()
    columns = [column.name for column in STORED]
    copy_rows(session, "features", columns, _feature_rows(sae_id, rows, used, stage))
    context_bytes = _publish_contexts(session, store, sorted(used))
    index = {
        "path": path,
        "text_id": store.text_id,
        "tokens": reader.n_tokens,
        "documents": store.n_documents,
        "features": reader.n_features,
        "alive": int((reader.counts > 0).sum()),
        "postings": reader.n_postings,
        "sae_digest": reader.meta.get("sae_digest"),
        "bytes_per_feature": round(rows.bytes_per_feature + context_bytes / reader.n_features, 1),
    }
    session.execute(update(Sae).where(Sae.id == sae_id).values(index=index))
    return index


def _feature_rows(
    sae_id: uuid.UUID, rows: Iterable[dict[str, Any]], used: set[int], stage: Stage
) -> Iterator[Sequence[Any]]:
    for row in rows:
        used.update(example.row for example in examples_from_bytes(row["examples"]))
        values = {"sae_id": sae_id, **row}
        yield [_stored(column, values[column.name]) for column in STORED]
        stage.advance()


def _stored(column: Column[Any], value: Any) -> Any:
    if isinstance(column.type, JSONB):
        return storable_json(value)
    return storable_text(value) if isinstance(column.type, String) else value


def _publish_contexts(session: Session, store: TokenStore, used: list[int]) -> int:
    """Writes the rows that examples refer to, and all documents; returns the bytes of the rows."""
    start = np.asarray(store.row_start)
    total = 0

    def contexts() -> Iterator[Sequence[Any]]:
        nonlocal total
        for row in used:
            ids = np.asarray(store.tokens[start[row] : start[row + 1]], dtype="<u4").tobytes()
            total += len(ids)
            yield store.text_id, row, int(store.row_document[row]), int(start[row]), ids

    names = (
        (store.text_id, number, storable_text(name))
        for number, name in enumerate(store.document_names)
    )
    columns = ["text_id", "row", "document", "start", "token_ids"]
    _copy_new(session, "contexts", columns, contexts())
    _copy_new(session, "documents", ["text_id", "document", "name"], names)
    return total


def _copy_new(
    session: Session, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """COPY that leaves rows alone which are there already."""
    connection = session.connection()
    fresh = f"new_{table}"
    connection.exec_driver_sql(f"CREATE TEMP TABLE {fresh} (LIKE {table}) ON COMMIT DROP")
    copy_rows(session, fresh, columns, rows)
    connection.exec_driver_sql(f"INSERT INTO {table} SELECT * FROM {fresh} ON CONFLICT DO NOTHING")
    connection.exec_driver_sql(f"DROP TABLE {fresh}")


def copy_rows(
    session: Session, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Streams rows into ``table`` within the session's transaction."""
    connection = session.connection().connection.driver_connection
    assert connection is not None
    names = ", ".join(f'"{name}"' for name in columns)
    statement = f"COPY {table} ({names}) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
