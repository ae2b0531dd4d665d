"""Packed and block-diagonal rows: layout, batches, and which models can run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monosemy.data.layout import block_sequences, groups, packed_rows
from monosemy.data.store import TokenStore
from monosemy.errors import DataError, ModelError
from monosemy.models import packing
from monosemy.models.activations import ActivationSource
from monosemy.models.host import HostModel
from monosemy.models.packing import block_batch, check_blocks, forward_groups
from monosemy.specs import TextSpec
from tests.support.tiny_chats import chat_host, dialogues, write_chats
from tests.support.tiny_models import CONFIGURATIONS, tiny_model

SITE = "blocks.2.hook_resid_post"

documents = st.lists(st.tuples(st.integers(1, 90), st.booleans()), min_size=1, max_size=40)


@settings(max_examples=150)
@given(documents=documents, capacity=st.integers(7, 40))
def test_packed_rows_fill_their_sequences(documents: list[tuple[int, bool]], capacity: int) -> None:
    lengths = np.array([length for length, _ in documents])
    heldout = np.array([flag for _, flag in documents])
    rows = packed_rows(lengths, heldout, capacity)
    sizes = np.diff(rows.start)
    assert sizes.min() > 0
    assert np.bincount(rows.document, sizes).tolist() == lengths.tolist()
    assert (np.diff(rows.document) >= 0).all(), "flat positions are in the order of the text"
    filled = np.bincount(rows.sequence, sizes)
    splits = np.unique(np.stack([rows.sequence, heldout[rows.document]]), axis=1)
    assert splits.shape[1] == len(filled), "no sequence mixes the splits"
    for split in (False, True):
        own = filled[splits[0][splits[1] == split]]
        assert (own[:-1] == capacity).all()
        assert own.sum() == lengths[heldout == split].sum()


@settings(max_examples=150)
@given(rows=st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=60))
def test_block_sequences_hold_all_rows_in_little_room(rows: list[tuple[int, bool]]) -> None:
    sizes = np.array([size for size, _ in rows], dtype=np.int64)
    heldout = np.array([flag for _, flag in rows], dtype=bool)
    sequence = block_sequences(sizes, heldout, 40)
    if not rows:
        assert len(sequence) == 0
        return
    assert set(sequence.tolist()) == set(range(int(sequence.max()) + 1))
    assert np.bincount(sequence, sizes).max() <= 40
    pairs = set(zip(sequence.tolist(), heldout.tolist(), strict=True))
    assert len(pairs) == sequence.max() + 1
    # First- and best-fit decreasing need at most 11/9 of the optimum and one more; sum / capacity
    # is below the optimum, so the bound is only sure for what cannot be packed better.
    for split in (False, True):
        own = sizes[heldout == split]
        used = len({s for s, flag in pairs if flag == split})
        best = max(-(-int(own.sum()) // 40), int((own > 20).sum()))
        assert used <= 1.7 * best + 1


def test_best_fit_takes_the_fullest_sequence_that_has_room() -> None:
    sizes = np.array([30, 26, 14, 10])
    assert block_sequences(sizes, np.zeros(4, dtype=bool), 40).tolist() == [0, 1, 1, 0]


def test_groups_are_the_places_of_each_label() -> None:
    order, start = groups(np.array([2, 0, 2, 1, 0]))
    members = [order[start[i] : start[i + 1]].tolist() for i in range(3)]
    assert members == [[1, 4], [3], [0, 2]]


@pytest.fixture(scope="module")
def text_stores(
    tiny_host: HostModel, tiny_text: TextSpec, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, TokenStore]:
    folder = tmp_path_factory.mktemp("packings")
    return {
        policy: TokenStore.build(
            tiny_text.model_copy(update={"packing": policy}), tiny_host, folder / policy
        )
        for policy in ("packed", "document_block_diagonal")
    }


@pytest.mark.parametrize("policy", ["packed", "document_block_diagonal"])
def test_splits_of_documents_hold(
    text_stores: dict[str, TokenStore], tiny_store: TokenStore, policy: str
) -> None:
    """The same documents are held out under every policy, and no sequence has both kinds."""
    store = text_stores[policy]
    assert store.meta["format"] == 2
    assert store.document_hash.tolist() == tiny_store.document_hash.tolist()
    heldout, training = store.heldout_rows(), store.training_rows()
    assert sorted([*heldout, *training]) == list(range(store.n_rows))
    wanted = set(tiny_store.row_document[tiny_store.heldout_rows()].tolist())
    assert set(store.row_document[heldout].tolist()) == wanted
    assert not set(store.sequences_of(heldout)) & set(store.sequences_of(training))


def test_a_packed_batch_has_the_sequence_and_marks_what_was_asked(
    text_stores: dict[str, TokenStore], tiny_host: HostModel
) -> None:
    store = text_stores["packed"]
    sequence = int(np.bincount(store.row_sequence).argmax())
    rows = store.rows_of_sequences(np.array([sequence]))
    assert len(rows) >= 2
    batch = store.batch(rows[1:])
    assert len(batch.ids_BS) == 1
    start, end = int(store.row_start[rows[1]]), int(store.row_start[rows[1] + 1])
    assert batch.position_BS[0][batch.real_BS[0]][: end - start].tolist() == list(range(start, end))
    everything = store.batch(rows)
    assert everything.ids_BS.tolist() == batch.ids_BS.tolist()
    assert everything.real_BS.sum() > batch.real_BS.sum()
    assert everything.ids_BS[0, 0] == tiny_host.bos_id
    assert not everything.real_BS[0, 0]
    assert everything.real_BS.sum() == everything.mask_BS.sum() - 1
    assert store.batch([]).ids_BS.shape[0] == 0


def test_documents_end_with_the_separator(
    text_stores: dict[str, TokenStore], tiny_store: TokenStore, tiny_host: HostModel
) -> None:
    store = text_stores["packed"]
    eos = tiny_host.tokenizer.eos_token_id
    assert store.meta["separator_id"] == eos
    last = np.flatnonzero(np.diff(store.row_document, append=-1))
    ends = store.row_start[last + 1] - 1
    assert (store.tokens[ends] == eos).all()
    rest = np.delete(np.asarray(store.tokens), ends)
    assert rest.tolist() == tiny_store.tokens.tolist()
    sizes = np.bincount(store.row_sequence, np.diff(store.row_start))
    assert np.count_nonzero(sizes < store.context_size - 1) <= 2


def test_block_diagonal_documents_are_as_if_alone(
    text_stores: dict[str, TokenStore], tiny_store: TokenStore, tiny_host: HostModel
) -> None:
    """Each with its own BOS: to rounding, the activations of the default policy."""
    store = text_stores["document_block_diagonal"]
    assert store.row_start.tolist() == tiny_store.row_start.tolist()
    assert store.n_sequences < store.n_rows
    rows = np.arange(store.n_rows)
    found_ND, position_N = ActivationSource(tiny_host, store, SITE, None).rows(rows)
    wanted_ND, wanted_N = ActivationSource(tiny_host, tiny_store, SITE, None).rows(rows)
    assert position_N.tolist() == wanted_N.tolist()
    torch.testing.assert_close(found_ND, wanted_ND, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("policy", ["packed", "document_block_diagonal"])
def test_rows_come_in_the_order_asked_for(
    text_stores: dict[str, TokenStore], tiny_host: HostModel, policy: str, tmp_path: Path
) -> None:
    store = text_stores[policy]
    whole_ND, _ = ActivationSource(tiny_host, store, SITE, None).rows(np.arange(store.n_rows))
    rows = np.array([17, 3, 4, 5, 3, store.n_rows - 1, 40])
    for cache in (None, tmp_path / "c"):
        source = ActivationSource(tiny_host, store, SITE, cache, host_rows=2)
        for _ in range(2):
            acts_ND, position_N = source.rows(rows)
            wanted = np.concatenate(
                [np.arange(store.row_start[row], store.row_start[row + 1]) for row in rows]
            )
            assert position_N.tolist() == wanted.tolist()
            bound = 1e-4 if cache is None else 8e-3
            torch.testing.assert_close(acts_ND, whole_ND[wanted], rtol=bound, atol=bound)


def test_a_cached_sequence_is_computed_once(
    text_stores: dict[str, TokenStore], tiny_host: HostModel, tmp_path: Path
) -> None:
    store = text_stores["packed"]
    source = ActivationSource(tiny_host, store, SITE, tmp_path)
    rows = store.rows_of_sequences(np.array([1]))
    source.rows(rows[:1])
    lengths = np.diff(store.row_start)
    assert source.cached_share() == pytest.approx(lengths[rows].sum() / store.n_tokens)
    source.close()
    alone = ActivationSource(None, store, SITE, tmp_path)
    assert len(alone.rows(rows)[1]) == lengths[rows].sum()


def test_parts_of_a_forward_hold_each_row_once_in_few_lines(
    text_stores: dict[str, TokenStore],
) -> None:
    store = text_stores["document_block_diagonal"]
    rows = np.arange(store.n_rows)[::3]
    parts = list(forward_groups(store, rows, 4))
    assert sorted(np.concatenate(parts).tolist()) == rows.tolist()
    lines = [block_batch(store, part).ids_BS.shape for part in parts]
    assert max(shape[0] for shape in lines) <= 5
    assert max(shape[1] for shape in lines) <= store.context_size
    tokens = int((np.diff(store.row_start)[rows] + 1).sum())
    assert tokens / sum(a * b for a, b in lines) > 0.8, "lines are full though sequences are cut"
    asked = np.array([5, 2, 5])
    assert [part.tolist() for part in forward_groups(store, asked, 4)] == [[2, 5]]
    assert list(forward_groups(store, asked[:0], 4)) == []
    packed = text_stores["packed"]
    (part,) = forward_groups(packed, np.array([7]), 4)
    assert part.tolist() == packed.rows_of_sequences(packed.sequences_of(np.array([7]))).tolist()


RUNS_BLOCKS = {
    "llama", "gpt2", "gemma2", "gemma3", "qwen2", "qwen3", "olmo2", "neox-parallel",
    "neox-sequential", "gptj", "mixtral", "granite",
}  # fmt: skip
"""Not ALiBi (bloom), not recurrence (mamba), nor what takes positions from the mask (opt)."""


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_each_model_is_tried_before_it_runs_blocks(tiny_tokenizer: Any, name: str) -> None:
    try:
        host = HostModel.wrap(tiny_model(name, len(tiny_tokenizer)), tiny_tokenizer, name)
    except ModelError:
        pytest.skip("a model that cannot be hooked at all")
    if name in RUNS_BLOCKS:
        check_blocks(host)
    else:
        with pytest.raises(ModelError, match=r"cannot run several texts.*text.packing=chat"):
            check_blocks(host)


def test_the_check_sees_a_leak(tiny_host: HostModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes the positions but not the mask, as older transformers do."""
    host = HostModel.wrap(tiny_host.model, tiny_host.tokenizer, "leaky")
    honest = host.capture_blocks

    def leaky(ids_BS: Any, place_BS: Any, sites: Any) -> Any:
        return honest(ids_BS, torch.arange(ids_BS.shape[1])[None], sites)

    monkeypatch.setattr(host, "capture_blocks", leaky)
    with pytest.raises(ModelError, match="off by"):
        check_blocks(host)
    assert host not in packing._checked


def test_chats_need_a_template(tiny_host: HostModel, tmp_path: Path) -> None:
    file = write_chats(tmp_path / "chats.jsonl", dialogues(3))
    for policy in ("chat", "chat_block_diagonal", "packed"):
        with pytest.raises(DataError, match="tiny-llama has no chat template"):
            TokenStore.build(TextSpec(source=str(file), packing=policy), tiny_host, tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("name", ["gemma2", "qwen3", "gpt2"])
def test_sliding_windows_and_learned_positions_restart(tiny_tokenizer: Any, name: str) -> None:
    """Texts longer than the window, in blocks and alone."""
    host = chat_host(tiny_tokenizer, name)
    if hasattr(host.model.config, "sliding_window"):
        host.model.config.sliding_window = 8
    lengths = [20, 3, 31]
    ids = [torch.randint(3, 300, (n,), generator=torch.Generator().manual_seed(n)) for n in lengths]
    place_BS = torch.cat([torch.arange(n) for n in lengths])[None]
    together = host.capture_blocks(torch.cat(ids)[None], place_BS, [SITE])[SITE][0]
    for own, packed in zip(ids, together.split(lengths), strict=True):
        wanted = host.capture(own[None], torch.ones_like(own[None]), [SITE])[SITE][0]
        torch.testing.assert_close(packed, wanted, rtol=1e-4, atol=1e-4)
