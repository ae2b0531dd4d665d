"""Hard negatives: the same token without a firing, and text of the nearest features."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from monosemy.data.splits import TEST, explanation_split
from monosemy.errors import DataError
from monosemy.index import token_positions
from monosemy.index.examples import Example
from monosemy.index.hard_negatives import (
    nearest_features,
    neighbour_negatives,
    same_token_negatives,
)
from monosemy.index.reader import IndexReader
from monosemy.index.sampling import Sampler
from monosemy.index.token_positions import TokenPositions
from monosemy.specs.parts import IndexingSpec
from tests.support.planted_index import Planted, plant

ROW, WINDOW = 20, 4
OFTEN, SELDOM, ALWAYS, NEAR, TWIN, ALONE = 0, 1, 2, 3, 4, 5


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Planted, Sampler, TokenPositions]:
    """``OFTEN`` fires on 80 % of tokens 10 and 40 % of tokens 20, ``SELDOM`` never, ``ALWAYS`` on
    each token 30.  ``NEAR`` points almost where ``OFTEN`` does and fires elsewhere; ``TWIN`` fires
    on half of what ``OFTEN`` fires on and on as many other tokens."""
    rng = np.random.default_rng(0)
    n_rows = 900
    tokens = rng.integers(0, 50, n_rows * ROW)
    n = len(tokens)
    dense = np.full((n, 6), -1.0)
    chance = np.where(tokens == 10, 0.8, np.where(tokens == 20, 0.4, 0.0))
    dense[rng.random(n) < chance, OFTEN] = 2.0
    dense[tokens == 30, ALWAYS] = 1.0
    dense[(tokens == 40) & (rng.random(n) < 0.5), NEAR] = 1.5
    half = (dense[:, OFTEN] > 0) & (rng.random(n) < 0.5)
    dense[half | ((tokens == 45) & (rng.random(n) < 0.6)), TWIN] = 1.0
    dense[(tokens == 5) & (rng.random(n) < 0.7), ALONE] = 3.0
    planted = plant(dense, [ROW] * n_rows, (np.arange(n_rows) // 3).tolist(), tokens)
    directions = torch.eye(6)
    directions[NEAR] = directions[OFTEN] * 0.9 + directions[NEAR] * 0.1
    planted.sae.W_dec.data = directions
    folder = tmp_path_factory.mktemp("hard")
    planted.store.folder = folder
    reader = planted.build(folder / "index", IndexingSpec(window=WINDOW, neighbours=3))
    return planted, Sampler(reader, planted.store), TokenPositions.of(planted.store)


def check(planted: Planted, feature: int, negatives: list[Example], like: list[Example]) -> None:
    """What every tier of negatives promises."""
    splits = explanation_split(planted.store.document_hash)
    starts = planted.store.row_start
    shapes = {(e.position - e.start, e.end - e.position) for e in like}
    for e in negatives:
        assert (planted.dense[e.start : e.end, feature] <= 0).all()
        assert splits[e.document] == TEST and planted.store.row_document[e.row] == e.document
        assert starts[e.row] <= e.start and e.end <= starts[e.row + 1]
        assert (e.position - e.start, e.end - e.position) in shapes
        assert e.offsets == () and e.activation == 0.0
    rows = [e.row for e in negatives]
    assert len(set(rows)) == len(rows) and not set(rows) & {e.row for e in like}
    assert max(Counter(e.document for e in negatives).values(), default=0) <= 3


def test_the_middle_is_a_token_on_which_it_often_fires(
    built: tuple[Planted, Sampler, TokenPositions],
) -> None:
    planted, sampler, tokens = built
    like = sampler.examples(OFTEN, TEST, 30, seed=0, n_strata=10)
    negatives = same_token_negatives(sampler, tokens, OFTEN, TEST, 30, 0, like)
    check(planted, OFTEN, negatives, like)
    assert len(negatives) == 30
    kinds = Counter(int(planted.store.tokens[e.position]) for e in negatives)
    # As often as it fires on each (two to one), as far as there are silent ones.
    assert set(kinds) == {10, 20} and kinds[10] >= 10
    again = same_token_negatives(sampler, tokens, OFTEN, TEST, 30, 0, like)
    other = same_token_negatives(sampler, tokens, OFTEN, TEST, 30, 1, like)
    assert negatives == again and negatives != other


def test_a_token_that_always_fires_has_no_such_negatives(
    built: tuple[Planted, Sampler, TokenPositions],
) -> None:
    _, sampler, tokens = built
    like = sampler.examples(ALWAYS, TEST, 10, seed=0)
    assert len(like) == 10
    assert same_token_negatives(sampler, tokens, ALWAYS, TEST, 10, 0, like) == []
    assert same_token_negatives(sampler, tokens, SELDOM, TEST, 10, 0, like) == []


def test_all_silent_occurrences_are_found_if_they_are_wanted(
    built: tuple[Planted, Sampler, TokenPositions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one candidate per token at first, the second look must bring the rest."""
    planted, sampler, tokens = built
    monkeypatch.setattr("monosemy.index.hard_negatives.OCCURRENCES", (1, 4096))
    like = sampler.examples(ALONE, TEST, 10, seed=0)
    negatives = same_token_negatives(sampler, tokens, ALONE, TEST, 12, 0, like)
    check(planted, ALONE, negatives, like)
    assert len(negatives) == 12
    assert {int(planted.store.tokens[e.position]) for e in negatives} == {5}


def test_neighbours_text_in_which_the_feature_is_silent(
    built: tuple[Planted, Sampler, TokenPositions],
) -> None:
    planted, sampler, _ = built
    nearest = nearest_features(sampler, OFTEN)
    assert [feature for feature, _ in nearest[:2]] == [NEAR, TWIN]
    assert nearest[0][1].startswith(f"neighbour {NEAR} cosine 0.99")
    assert nearest[1][1].startswith(f"neighbour {TWIN} jaccard 0.")
    like = sampler.examples(OFTEN, TEST, 24, seed=0, n_strata=10)
    negatives = neighbour_negatives(sampler, OFTEN, TEST, 24, 0, like)
    check(planted, OFTEN, negatives, like)
    assert len(negatives) == 24
    for e in negatives:
        neighbour = int(str(e.group).split()[1])
        assert neighbour != OFTEN and planted.dense[e.position, neighbour] > 0
    few = neighbour_negatives(sampler, OFTEN, TEST, 5, 0, like)
    assert [str(e.group).split()[1] for e in few].count(str(NEAR)) == 3
    assert [str(e.group).split()[1] for e in few].count(str(TWIN)) == 2
    assert negatives == neighbour_negatives(sampler, OFTEN, TEST, 24, 0, like)


def test_a_feature_without_neighbours_has_none(
    built: tuple[Planted, Sampler, TokenPositions],
) -> None:
    _, sampler, _ = built
    like = sampler.examples(OFTEN, TEST, 5, seed=0)
    assert nearest_features(sampler, SELDOM) == []
    assert neighbour_negatives(sampler, SELDOM, TEST, 5, 0, like) == []


def test_positions_by_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact, over several chunks and blocks, and made once."""
    monkeypatch.setattr(token_positions, "_READ", 97)
    monkeypatch.setattr(token_positions, "_BLOCK", 50)
    ids = np.random.default_rng(0).integers(0, 30, 1000).astype(np.uint32)
    ids[ids == 11] = 12
    store = SimpleNamespace(tokens=ids, n_tokens=1000, folder=tmp_path)
    positions = TokenPositions.of(store)  # type: ignore[arg-type]
    for token in range(31):
        assert positions(token).tolist() == np.flatnonzero(ids == token).tolist()
    assert positions(-1).tolist() == [] and len(positions(10**6)) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["positions"]
    made = (tmp_path / "positions" / "positions.npy").stat().st_mtime_ns
    TokenPositions.of(store)  # type: ignore[arg-type]
    assert (tmp_path / "positions" / "positions.npy").stat().st_mtime_ns == made


def test_a_second_builder_takes_the_first_ones_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.arange(20, dtype=np.uint32) % 3
    store = SimpleNamespace(tokens=ids, n_tokens=20, folder=tmp_path)
    build = token_positions._build

    def late(store: object, folder: Path) -> None:
        build(store, folder)  # type: ignore[arg-type]
        build(store, folder)  # type: ignore[arg-type]

    monkeypatch.setattr(token_positions, "_build", late)
    assert TokenPositions.of(store)(1).tolist() == list(range(1, 20, 3))  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["positions"]


def test_damage_is_reported(tmp_path: Path) -> None:
    ids = np.arange(20, dtype=np.uint32) % 3
    store = SimpleNamespace(tokens=ids, n_tokens=20, folder=tmp_path)
    TokenPositions.of(store)  # type: ignore[arg-type]
    store.n_tokens = 21
    with pytest.raises(DataError, match="another text"):
        TokenPositions.of(store)  # type: ignore[arg-type]
    (tmp_path / "positions" / "positions.npy").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read"):
        TokenPositions.of(store)  # type: ignore[arg-type]


def test_reader_and_sampler_agree(built: tuple[Planted, Sampler, TokenPositions]) -> None:
    reader: IndexReader = built[1].reader
    firings = reader.firings(OFTEN)
    positions, values = reader.postings(OFTEN)
    assert firings.positions.tolist() == positions.tolist()
    assert firings.values(slice(None)).tolist() == values.tolist()
