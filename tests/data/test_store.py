"""The token store: what goes in comes out, rows and splits respect documents."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monosemy.data.store import TokenStore, prepare_text, text_id_of
from monosemy.errors import Cancelled, DataError
from monosemy.models.host import HostModel
from monosemy.progress import Reporter
from monosemy.specs import TextSpec
from monosemy.workspace import Workspace


def write(file: Path, texts: list[str]) -> Path:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(lines.encode()))
    else:
        file.write_text(lines, encoding="utf-8")
    return file


words = st.sampled_from(["the ", "harbour ", "🙂", "日本", "engine ", "\n", "é", "x "])
documents = st.lists(st.lists(words, min_size=1, max_size=60).map("".join), min_size=1, max_size=8)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=documents, context_size=st.integers(8, 40), bos=st.booleans())
def test_tokens_are_conserved_and_rows_stay_in_their_document(
    tiny_host: HostModel, texts: list[str], context_size: int, bos: bool
) -> None:
    distinct = list(dict.fromkeys(text for text in texts if text.strip()))
    with tempfile.TemporaryDirectory() as folder:
        spec = TextSpec(
            source=str(write(Path(folder) / "a.jsonl", texts)),
            context_size=context_size,
            prepend_bos=bos,
        )
        if not distinct:
            with pytest.raises(DataError, match="no tokens"):
                TokenStore.build(spec, tiny_host, Path(folder) / "store")
            return
        store = TokenStore.build(spec, tiny_host, Path(folder) / "store")
        wanted = [
            tiny_host.tokenizer(text, add_special_tokens=False)["input_ids"] for text in distinct
        ]
        assert store.tokens.tolist() == [token for ids in wanted for token in ids]
        assert store.n_documents == len(distinct)
        lengths = np.diff(store.row_start)
        assert lengths.min() >= 1
        assert lengths.max() <= context_size - bos
        for document, ids in enumerate(wanted):
            rows = np.flatnonzero(store.row_document == document)
            assert lengths[rows].sum() == len(ids)
            assert (lengths[rows[:-1]] == context_size - bos).all()
        batch = store.batch(np.arange(store.n_rows))
        assert batch.position_BS[batch.real_BS].tolist() == list(range(store.n_tokens))
        assert batch.ids_BS[batch.real_BS].tolist() == store.tokens.tolist()
        row_BS = np.broadcast_to(np.arange(store.n_rows)[:, None], batch.real_BS.shape)
        assert np.array_equal(store.row_of(batch.position_BS[batch.real_BS]), row_BS[batch.real_BS])
        assert store.token_bytes().decode(store.tokens) == "".join(distinct)


def test_batch_marks_bos_text_and_padding(tiny_store: TokenStore, tiny_host: HostModel) -> None:
    lengths = np.diff(tiny_store.row_start)
    short, full = int(lengths.argmin()), int(lengths.argmax())
    assert lengths[short] < lengths[full]
    batch = tiny_store.batch([full, short])
    assert batch.ids_BS.shape == (2, lengths[full] + 1)
    assert (batch.ids_BS[:, 0] == tiny_host.bos_id).all()
    assert batch.mask_BS.sum(1).tolist() == [lengths[full] + 1, lengths[short] + 1]
    assert batch.real_BS.sum(1).tolist() == [lengths[full], lengths[short]]
    assert not batch.real_BS[:, 0].any()
    padding = batch.mask_BS == 0
    assert (batch.ids_BS[padding] == tiny_host.pad_id).all()
    assert ((batch.position_BS == -1) == ~batch.real_BS).all()
    assert tiny_store.batch([]).ids_BS.shape[0] == 0


def test_heldout_and_training_rows_share_no_document(tiny_store: TokenStore) -> None:
    heldout, training = tiny_store.heldout_rows(), tiny_store.training_rows()
    assert len(heldout)
    assert sorted([*heldout, *training]) == list(range(tiny_store.n_rows))
    heldout_documents = set(tiny_store.row_document[heldout].tolist())
    training_documents = set(tiny_store.row_document[training].tolist())
    assert not heldout_documents & training_documents


def test_duplicates_are_left_out_and_counted(tiny_host: HostModel, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", ["one text", "two texts", "one text", " ", "one text"])
    store = TokenStore.build(TextSpec(source=str(file)), tiny_host, tmp_path / "store")
    assert store.n_documents == 2
    assert store.meta["duplicates"] == 2
    assert store.document_names == ["a.jsonl:1", "a.jsonl:2"]


def test_max_tokens_stops_reading(tiny_host: HostModel, tmp_path: Path) -> None:
    """The broken line behind the border is never reached."""
    file = write(tmp_path / "a.jsonl", [f"the harbour {number}" * 40 for number in range(600)])
    with file.open("a", encoding="utf-8") as stream:
        stream.write("broken\n")
    spec = TextSpec(source=str(file), max_tokens=1234)
    store = TokenStore.build(spec, tiny_host, tmp_path / "store")
    assert store.n_tokens == len(store.tokens) == 1234
    with pytest.raises(DataError, match="line 601"):
        TokenStore.build(TextSpec(source=str(file)), tiny_host, tmp_path / "all")


def test_a_failed_or_cancelled_build_leaves_nothing(tiny_host: HostModel, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "good"}\nbroken\n')
    with pytest.raises(DataError):
        TokenStore.build(TextSpec(source=str(file)), tiny_host, tmp_path / "out" / "store")
    assert list((tmp_path / "out").iterdir()) == []
    asked: list[int] = []

    def stop() -> type[Exception] | None:
        asked.append(1)
        return Cancelled if len(asked) > 1 else None

    good = write(tmp_path / "b.jsonl", ["a good text"])
    with pytest.raises(Cancelled):
        spec = TextSpec(source=str(good))
        TokenStore.build(spec, tiny_host, tmp_path / "out" / "store", Reporter(stop))
    assert list((tmp_path / "out").iterdir()) == []


def test_prepare_text_builds_once_and_again_when_the_file_changes(
    tiny_host: HostModel, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "artifacts")
    file = write(tmp_path / "a.jsonl", ["the first text"])
    spec = TextSpec(source=str(file))
    first = prepare_text(spec, tiny_host, workspace)
    written = (first.folder / "store.json").stat().st_mtime_ns
    again = prepare_text(spec, tiny_host, workspace)
    assert again.folder == first.folder
    assert (again.folder / "store.json").stat().st_mtime_ns == written
    write(file, ["the second text, which is longer"])
    changed = prepare_text(spec, tiny_host, workspace)
    assert changed.text_id != first.text_id
    assert changed.token_bytes().decode(changed.tokens) == "the second text, which is longer"


def test_text_id_follows_what_matters(tmp_path: Path) -> None:
    spec = TextSpec(source="some/dataset")
    names = {
        text_id_of(spec, "a"),
        text_id_of(spec, "b"),
        text_id_of(spec.model_copy(update={"context_size": 64}), "a"),
        text_id_of(spec.model_copy(update={"source": "other/dataset"}), "a"),
        text_id_of(spec.model_copy(update={"prepend_bos": False}), "a"),
    }
    assert len(names) == 5
    assert text_id_of(TextSpec(source="some/dataset"), "a") == text_id_of(spec, "a")


def test_a_tokenizer_without_bos_fills_its_rows(tiny_host: HostModel, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", ["the harbour and the engine " * 20])
    spec = TextSpec(source=str(file), context_size=16, prepend_bos=False)
    store = TokenStore.build(spec, tiny_host, tmp_path / "store")
    assert store.bos_id is None
    assert np.diff(store.row_start)[0] == 16
    assert store.batch([0]).real_BS.all()


@pytest.mark.parametrize("missing", ["store.json", "tokens.u32", "row_start.npy"])
def test_opening_what_is_not_there_says_so(
    tiny_host: HostModel, tmp_path: Path, missing: str
) -> None:
    file = write(tmp_path / "a.jsonl", ["a text"])
    store = TokenStore.build(TextSpec(source=str(file)), tiny_host, tmp_path / "store")
    (store.folder / missing).unlink()
    with pytest.raises(DataError, match=r"no token store in .*store"):
        TokenStore.open(store.folder)


def test_a_damaged_store_is_refused(tiny_host: HostModel, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", ["a text of some length"])
    store = TokenStore.build(TextSpec(source=str(file)), tiny_host, tmp_path / "store")
    os.truncate(store.folder / "tokens.u32", 4)
    with pytest.raises(DataError, match="differ in length"):
        TokenStore.open(store.folder)
    meta = {**store.meta, "format": 99}
    (store.folder / "store.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match="has format 99, not 1 or 2"):
        TokenStore.open(store.folder)
