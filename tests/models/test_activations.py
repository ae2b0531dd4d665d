"""The activation source and its cache: right values, right order, safe against crashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monosemy import stages
from monosemy.data.store import TokenStore
from monosemy.errors import DataError, UnknownSite
from monosemy.models import activation_cache
from monosemy.models.activations import ActivationSource
from monosemy.models.host import HostModel
from monosemy.progress import Reporter
from monosemy.specs import ModelSpec, TextSpec, TrainRun
from monosemy.specs.hooks import HOST
from monosemy.workspace import Workspace

SITE = "blocks.2.hook_resid_post"


def by_hand(host: HostModel, store: TokenStore, row: int, site: str = SITE) -> Tensor:
    """One row alone, without the store's batching."""
    tokens = store.tokens[store.row_start[row] : store.row_start[row + 1]].astype(np.int64)
    ids_BS = torch.tensor([[host.bos_id, *tokens.tolist()]])
    return host.capture(ids_BS, torch.ones_like(ids_BS), [site])[site][0, 1:]


class CountingHost(HostModel):
    """Counts the rows that it is asked for."""

    computed = 0

    def capture(self, ids_BS, mask_BS, sites):  # type: ignore[no-untyped-def]
        self.computed += len(ids_BS)
        return super().capture(ids_BS, mask_BS, sites)


@pytest.fixture
def counting(tiny_host: HostModel) -> CountingHost:
    return CountingHost(tiny_host.model, tiny_host.tokenizer, "counting")


@pytest.mark.parametrize("cached", [False, True])
def test_rows_come_in_order_with_their_positions(
    tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path, cached: bool
) -> None:
    source = ActivationSource(
        tiny_host, tiny_store, SITE, tmp_path / "c" if cached else None, host_rows=3
    )
    rows = np.array([17, 3, 4, 5, 3, tiny_store.n_rows - 1, 40])
    for _ in range(2):  # the second time out of the cache
        acts_ND, position_N = source.rows(rows)
        wanted = [
            np.arange(tiny_store.row_start[row], tiny_store.row_start[row + 1]) for row in rows
        ]
        assert position_N.tolist() == np.concatenate(wanted).tolist()
        expected_ND = torch.cat([by_hand(tiny_host, tiny_store, row) for row in rows])
        assert acts_ND.dtype == torch.float32
        # Batched and single forwards differ by float32 rounding, bfloat16 keeps 8 bits.
        bound = 8e-3 if cached else 1e-4
        torch.testing.assert_close(acts_ND, expected_ND, rtol=bound, atol=bound)


@pytest.mark.parametrize("cached", [False, True])
def test_raw_rows_are_the_same_values_in_the_dtype_they_come_in(
    tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path, cached: bool
) -> None:
    folder = tmp_path / "cache" if cached else None
    source = ActivationSource(tiny_host, tiny_store, SITE, folder)
    rows = np.array([5, 2, 2, 9])
    raw = source.raw_rows(rows)
    assert raw.dtype == source.dtype == (torch.bfloat16 if cached else tiny_host.dtype)
    assert torch.equal(raw.float(), source.rows(rows)[0])


def test_wide_sites_have_their_own_width(tiny_host: HostModel, tiny_store: TokenStore) -> None:
    source = ActivationSource(tiny_host, tiny_store, "blocks.1.mlp.hook_post", None)
    assert source.width == 64
    acts_ND, position_N = source.rows([0, 1])
    assert acts_ND.shape == (len(position_N), 64)
    assert source.cached_share() == 0


def test_no_rows_are_no_error(tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path) -> None:
    for cache in (None, tmp_path / "c"):
        acts_ND, position_N = ActivationSource(tiny_host, tiny_store, SITE, cache).rows([])
        assert acts_ND.shape == (0, 32)
        assert len(position_N) == 0


def test_every_row_is_computed_once(
    counting: CountingHost, tiny_store: TokenStore, tmp_path: Path
) -> None:
    source = ActivationSource(counting, tiny_store, SITE, tmp_path / "c", host_rows=5)
    first, _ = source.rows([1, 2, 2, 9])
    second, _ = source.rows([9, 1, 2, 2])
    assert counting.computed == 3
    assert torch.equal(first.sum(0), second.sum(0))
    lengths = np.diff(tiny_store.row_start)
    assert source.cached_share() == pytest.approx(lengths[[1, 2, 9]].sum() / tiny_store.n_tokens)
    source.rows(np.arange(tiny_store.n_rows))
    assert counting.computed == tiny_store.n_rows
    assert source.cached_share() == 1


def test_a_cache_needs_no_host_and_gives_the_same_bits(
    tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path
) -> None:
    source = ActivationSource(tiny_host, tiny_store, SITE, tmp_path / "c")
    first_ND, _ = source.rows(np.arange(20))
    source.close()
    alone = ActivationSource(None, tiny_store, SITE, tmp_path / "c")
    assert alone.width == 32
    again_ND, _ = alone.rows(np.arange(20))
    assert torch.equal(first_ND, again_ND)
    with pytest.raises(DataError, match="no host model was given"):
        alone.rows([21])


def test_the_host_is_loaded_on_the_first_row_that_needs_it(
    tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path
) -> None:
    filled = ActivationSource(tiny_host, tiny_store, SITE, tmp_path / "c")
    filled.rows(np.arange(8))
    filled.close()
    loads: list[int] = []

    def load() -> HostModel:
        loads.append(1)
        return tiny_host

    source = ActivationSource(load, tiny_store, SITE, tmp_path / "c")
    source.rows(np.arange(8))
    assert loads == []
    source.rows([9])
    source.rows([10])
    assert loads == [1]


def test_rows_whose_data_was_not_flushed_are_not_believed(
    tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path
) -> None:
    """A process that dies leaves written data and unwritten marks, never the reverse."""
    source = ActivationSource(tiny_host, tiny_store, SITE, tmp_path / "c")
    source.rows([0, 1])
    source.flush()
    source.rows([2, 3])  # dies here: nothing more is flushed
    survivor = ActivationSource(tiny_host, tiny_store, SITE, tmp_path / "c")
    lengths = np.diff(tiny_store.row_start)
    assert survivor.cached_share() == pytest.approx(lengths[:2].sum() / tiny_store.n_tokens)


def test_data_reaches_the_disk_before_its_marks(
    tiny_host: HostModel,
    tiny_store: TokenStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = ActivationSource(tiny_host, tiny_store, SITE, tmp_path / "c")
    source.rows([0, 1])
    marks: list[bytes] = []

    def sync(descriptor: int) -> None:
        marks.append((tmp_path / "c" / "rows.u1").read_bytes()[:3])

    monkeypatch.setattr(activation_cache.os, "fsync", sync)
    source.flush()
    assert marks == [b"\0\0\0", b"\1\1\0"]


def test_full_buffers_flush_by_themselves(
    tiny_host: HostModel,
    tiny_store: TokenStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activation_cache, "FLUSH_BYTES", 1)
    ActivationSource(tiny_host, tiny_store, SITE, tmp_path / "c").rows([0, 5])
    done = np.frombuffer((tmp_path / "c" / "rows.u1").read_bytes(), dtype=np.uint8)
    assert np.flatnonzero(done).tolist() == [0, 5]


def test_two_writers_fill_one_cache(
    tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path
) -> None:
    one = ActivationSource(tiny_host, tiny_store, SITE, tmp_path / "c")
    two = ActivationSource(tiny_host, tiny_store, SITE, tmp_path / "c")
    one.rows(np.arange(0, 30))
    two.rows(np.arange(30, 60))
    one.close()
    two.close()
    both = ActivationSource(None, tiny_store, SITE, tmp_path / "c")
    acts_ND, _ = both.rows(np.arange(60))
    wanted_ND, _ = ActivationSource(tiny_host, tiny_store, SITE, None).rows(np.arange(60))
    torch.testing.assert_close(acts_ND, wanted_ND, rtol=8e-3, atol=8e-3)


@pytest.mark.parametrize("damage", ["site", "description", "size", "text"])
def test_a_cache_that_does_not_fit_is_begun_anew(
    tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "c"
    source = ActivationSource(tiny_host, tiny_store, SITE, folder)
    source.rows(np.arange(10))
    source.close()
    site = SITE
    if damage == "site":
        site = "blocks.0.hook_resid_post"
    elif damage == "description":
        (folder / "cache.json").write_text("{")
    elif damage == "size":
        (folder / "acts.bf16").write_bytes(b"")
    else:
        data = json.loads((folder / "cache.json").read_text())
        (folder / "cache.json").write_text(json.dumps({**data, "text_id": "other"}))
    with pytest.raises(DataError):
        ActivationSource(None, tiny_store, site, folder)
    fresh = ActivationSource(tiny_host, tiny_store, site, folder)
    assert fresh.cached_share() == 0
    acts_ND, _ = fresh.rows([4])
    torch.testing.assert_close(
        acts_ND, by_hand(tiny_host, tiny_store, 4, site), rtol=8e-3, atol=8e-3
    )


def test_a_full_disk_is_said(tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path) -> None:
    source = ActivationSource(tiny_host, tiny_store, SITE, tmp_path / "c")

    class FullDisk:
        def seek(self, at: int) -> None: ...

        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    source._caches[SITE]._data = FullDisk()  # type: ignore[assignment]
    with pytest.raises(DataError, match=r"No space left.*cache_activations=false"):
        source.rows([0])
    assert source.cached_share() == 0


class Logged(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def log(self, message: str, **fields: Any) -> None:
        self.lines.append((message, fields))


def test_a_training_says_how_much_need_not_be_computed(
    counting: CountingHost, tiny_text: TextSpec, tmp_path: Path
) -> None:
    model = ModelSpec(dtype="float32", device="cpu")
    spec = TrainRun(model=model, text=tiny_text, site=SITE)
    home, reporter = Workspace(tmp_path), Logged()
    store, source = stages.open_stream([spec], {HOST: counting}, home, reporter)
    assert not any("cached" in message for message, _ in reporter.lines)
    source.rows(np.arange(store.n_rows // 2))
    source.close()
    _, again = stages.open_stream([spec], {HOST: counting}, home, reporter)
    message, fields = reporter.lines[-1]
    lengths = np.diff(store.row_start)
    share = lengths[: store.n_rows // 2].sum() / store.n_tokens
    assert "cached already" in message and fields == {"share": pytest.approx(share, abs=1e-3)}
    again.close()


def test_unknown_sites_are_refused_at_once(tiny_host: HostModel, tiny_store: TokenStore) -> None:
    with pytest.raises(UnknownSite, match="blocks 0-3"):
        ActivationSource(tiny_host, tiny_store, "blocks.9.hook_resid_post", None)
