"""Windows embedded once, and negatives that are truly the nearest silent ones."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from monosemy.data.splits import TEST, explanation_split
from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import Cancelled, DataError
from monosemy.index.examples import Example
from monosemy.index.sampling import PER_DOCUMENT, Sampler
from monosemy.interp.near_negatives import NearNegatives, _descending
from monosemy.interp.texts import FeatureTexts
from monosemy.interp.tools import Tools
from monosemy.interp.window_embeddings import (
    BATCH,
    WindowEmbeddings,
    embed_windows,
    fixed_windows,
)
from monosemy.progress import Reporter, StageProgress
from monosemy.specs import IndexingSpec, ScoringSpec
from tests.support.planted_index import PlantedStore, plant

N_DOCUMENTS, WIDTH = 60, 16


class Store(PlantedStore):
    folder: Path

    def token_bytes(self) -> TokenBytes:
        return TokenBytes([f" w{i}".encode() for i in range(50)])


class FakeEmbedder:
    """Random unit vectors that depend on the text alone; remembers what it was asked."""

    def __init__(self, salt: str = "", fails_after: int | None = None) -> None:
        self.salt, self.fails_after = salt, fails_after
        self.asked: list[list[str]] = []

    async def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if self.fails_after is not None and len(self.asked) > self.fails_after:
            raise ConnectionError("gone")
        self.asked.append(list(texts))
        await asyncio.sleep(0)
        return np.stack([self.one(text) for text in texts])

    def one(self, text: str) -> npt.NDArray[np.float32]:
        digest = hashlib.blake2b((self.salt + text).encode(), digest_size=8).digest()
        vector = np.random.default_rng(int.from_bytes(digest, "big")).normal(size=WIDTH)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> FeatureTexts:
    """Rows of 3 to 90 tokens, one to six in a document; eight features of various density."""
    rng = np.random.default_rng(5)
    documents = np.repeat(np.arange(N_DOCUMENTS), rng.integers(1, 7, N_DOCUMENTS))
    lengths = rng.integers(3, 91, len(documents)).tolist()
    n = sum(lengths)
    dense = np.where(
        rng.random((n, 8)) < [0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.2, 0.5],
        rng.gamma(2.0, 3.0, (n, 8)) + 0.1,
        -1.0,
    )
    folder = tmp_path_factory.mktemp("near")
    store: Any = Store(rng.integers(0, 50, n), lengths, documents.tolist())
    store.folder = folder / "text"
    planted = plant(dense, lengths, documents.tolist())._replace(store=store)
    planted.source.store = store
    reader = planted.build(folder / "index", IndexingSpec(window=16))
    return FeatureTexts(reader, store)


def scoring_rows(texts: FeatureTexts) -> npt.NDArray[np.int64]:
    return texts.reader.rows_of_split(texts.store, TEST)


def built(
    texts: FeatureTexts, embed: Any, folder: Path, reporter: Reporter | None = None
) -> WindowEmbeddings:
    work = embed_windows(
        texts.store, scoring_rows(texts), embed, folder, reporter or Reporter(), size=8
    )
    return asyncio.run(work)


def files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir())


# -------------------------------------------------------------------- the file
def test_windows_tile_their_rows() -> None:
    row_start = np.cumsum([0, 5, 0, 32, 33, 64, 100, 1])
    windows = fixed_windows(row_start, np.array([0, 1, 2, 3, 5, 6]), 32)
    lengths = windows.ends - windows.starts
    assert lengths.tolist() == [5, 32, 16, 17, 25, 25, 25, 25, 1]
    assert windows.rows.tolist() == [0, 2, 3, 3, 5, 5, 5, 5, 6]
    covered = np.concatenate(
        [np.arange(a, b) for a, b in zip(windows.starts, windows.ends, strict=True)]
    )
    wanted = np.concatenate(
        [np.arange(row_start[row], row_start[row + 1]) for row in (0, 1, 2, 3, 5, 6)]
    )
    assert covered.tolist() == wanted.tolist()
    holding = windows.holding(np.arange(row_start[-1]))
    for position, window in enumerate(holding.tolist()):
        assert (window >= 0) == (position in covered)
        assert window < 0 or windows.starts[window] <= position < windows.ends[window]


def test_no_rows_no_windows() -> None:
    windows = fixed_windows(np.array([0, 4]), np.array([], np.int64))
    assert len(windows) == 0
    assert windows.holding(np.array([0, 3])).tolist() == [-1, -1]


def test_windows_are_embedded_once(texts: FeatureTexts, tmp_path: Path) -> None:
    first, again = FakeEmbedder(), FakeEmbedder()
    embeddings = built(texts, first, tmp_path)
    assert isinstance(embeddings.vectors.base, np.memmap)
    assert embeddings.vectors.dtype == np.float16
    words = [f" w{token}" for token in texts.store.tokens]
    for i, (start, end) in enumerate(
        zip(embeddings.windows.starts, embeddings.windows.ends, strict=True)
    ):
        expected = first.one("".join(words[start:end]))
        np.testing.assert_allclose(embeddings.vectors[i], expected, atol=1e-3)
    asked = first.asked[1:]
    assert [len(batch) for batch in asked[:-1]] == [BATCH] * (len(asked) - 1)
    assert sum(map(len, asked)) == len(embeddings.windows) > 3 * BATCH
    same = built(texts, again, tmp_path)
    assert len(again.asked) == 1  # only to see which embedder it is
    np.testing.assert_array_equal(same.vectors, embeddings.vectors)
    assert files(tmp_path) == [".f16", ".json", ".lock"]


def test_a_build_goes_on_where_it_was_stopped(texts: FeatureTexts, tmp_path: Path) -> None:
    whole = built(texts, FakeEmbedder(), tmp_path / "whole")
    with pytest.raises(ConnectionError):
        built(texts, FakeEmbedder(fails_after=2), tmp_path)
    [part] = tmp_path.glob("*.part")
    assert part.stat().st_size == 2 * BATCH * WIDTH * 2
    with part.open("ab") as file:
        file.write(b"half a vector")
    second = FakeEmbedder()
    progress: list[StageProgress] = []

    class Watching(Reporter):
        def update(self, at: StageProgress) -> None:
            progress.append(StageProgress(**vars(at)))

    embeddings = built(texts, second, tmp_path, Watching())
    np.testing.assert_array_equal(embeddings.vectors, whole.vectors)
    assert sum(map(len, second.asked[1:])) == len(whole.windows) - 2 * BATCH
    assert (progress[0].done, progress[0].total) == (2 * BATCH, len(whole.windows))
    assert progress[-1].done == len(whole.windows)
    assert progress[0].unit == "windows"


def test_a_build_stops_when_asked(texts: FeatureTexts, tmp_path: Path) -> None:
    embed = FakeEmbedder()
    stopping = Reporter(lambda: Cancelled if len(embed.asked) > 2 else None)
    with pytest.raises(Cancelled):
        built(texts, embed, tmp_path, stopping)
    assert len(embed.asked) == 3
    assert len(built(texts, FakeEmbedder(), tmp_path).vectors) > 0  # and nobody holds the lock


def test_who_comes_second_waits(texts: FeatureTexts, tmp_path: Path) -> None:
    embedders = [FakeEmbedder() for _ in range(3)]

    async def together() -> list[WindowEmbeddings]:
        rows = scoring_rows(texts)
        return await asyncio.gather(
            *(embed_windows(texts.store, rows, each, tmp_path, size=8) for each in embedders)
        )

    embeddings = asyncio.run(together())
    assert sorted(len(each.asked) for each in embedders)[:2] == [1, 1]
    for other in embeddings[1:]:
        np.testing.assert_array_equal(other.vectors, embeddings[0].vectors)


def test_every_embedder_and_every_set_of_rows_has_its_file(
    texts: FeatureTexts, tmp_path: Path
) -> None:
    one, other = FakeEmbedder(), FakeEmbedder("other")
    first, second = built(texts, one, tmp_path), built(texts, other, tmp_path)
    assert np.abs((first.vectors * second.vectors).sum(1)).mean() < 0.5
    for embed, wanted in ((FakeEmbedder(), first), (FakeEmbedder("other"), second)):
        np.testing.assert_array_equal(built(texts, embed, tmp_path).vectors, wanted.vectors)
        assert len(embed.asked) == 1
    some = scoring_rows(texts)[::2]
    fewer = asyncio.run(embed_windows(texts.store, some, FakeEmbedder(), tmp_path, size=8))
    assert set(fewer.windows.rows.tolist()) == set(some.tolist())
    assert len(list(tmp_path.glob("*.f16"))) == 3


def test_what_is_no_embedding_is_refused(texts: FeatureTexts, tmp_path: Path) -> None:
    async def short(asked: Sequence[str]) -> Any:
        return np.ones((len(asked) - 1, 4))

    async def broken(asked: Sequence[str]) -> Any:
        return np.full((len(asked), 4), np.nan)

    for embed, fault in ((short, "for 3 texts"), (broken, "not finite")):
        with pytest.raises(DataError, match=fault):
            built(texts, embed, tmp_path)
    built(texts, FakeEmbedder(), tmp_path)
    [final] = tmp_path.glob("*.f16")
    final.write_bytes(final.read_bytes()[:-1])
    with pytest.raises(DataError, match="damaged"):
        built(texts, FakeEmbedder(), tmp_path)


# -------------------------------------------------------------------- the search
def brute_force(
    texts: FeatureTexts, embeddings: WindowEmbeddings, feature: int, count: int, yes: list[Example]
) -> list[tuple[int, int]]:
    """(start, end) of what the rules in words say, one window after another, in plain loops."""
    store, windows = texts.store, embeddings.windows
    fires = set(texts.reader.postings(feature)[0].tolist())
    vectors = np.asarray(embeddings.vectors, np.float64)
    seen = texts.sampler.seen_before(feature, TEST)
    seen.add(np.array([e.start for e in yes]), np.array([e.end for e in yes]))
    taken: list[tuple[int, int]] = []
    rows, documents = {e.row for e in yes}, Counter[int]()
    for slot in range(count):
        query = yes[slot % len(yes)]
        length = query.end - query.start
        [own] = [
            i for i in range(len(windows)) if windows.starts[i] <= query.position < windows.ends[i]
        ]
        candidates: list[tuple[float, int, int]] = []
        for i in range(len(windows)):
            row = int(windows.rows[i])
            first, last = int(store.row_start[row]), int(store.row_start[row + 1])
            start = (int(windows.starts[i]) + int(windows.ends[i]) - length) // 2
            start = max(first, min(start, last - length))
            reach = [*range(start, start + length), *range(windows.starts[i], windows.ends[i])]
            if (
                start + length <= last
                and row not in rows
                and documents[int(store.row_document[row])] < PER_DOCUMENT
                and not any(position in fires for position in reach)
            ):
                candidates.append((-float(vectors[i] @ vectors[own]), start, row))
        for _, start, row in sorted(candidates):
            batch = seen.batch(np.array([start]), np.array([start + length]))
            if batch.take(0):
                batch.close()
                taken.append((start, start + length))
                rows.add(row)
                documents[int(store.row_document[row])] += 1
                break
    return taken


@pytest.mark.parametrize("feature", range(8))
@pytest.mark.parametrize("count", [4, 25])
def test_near_negatives_are_the_nearest_silent_windows(
    texts: FeatureTexts, tmp_path: Path, feature: int, count: int
) -> None:
    embeddings = built(texts, FakeEmbedder(), tmp_path)
    yes = Sampler(texts.reader, texts.store).examples(feature, TEST, 4, 0)
    near = NearNegatives(texts.sampler, embeddings)(feature, count, 0, yes)
    assert [(e.start, e.end) for e in near] == brute_force(texts, embeddings, feature, count, yes)
    if feature < 5:
        assert len(near) >= 4
    splits = explanation_split(texts.store.document_hash)
    assert {int(splits[e.document]) for e in near} <= {TEST}
    assert not {e.row for e in near} & {e.row for e in yes}
    shapes = {(e.position - e.start, e.end - e.position) for e in yes}
    assert {(e.position - e.start, e.end - e.position) for e in near} <= shapes


def test_other_negatives_are_kept_clear_of_but_not_searched_by(
    texts: FeatureTexts, tmp_path: Path
) -> None:
    embeddings = built(texts, FakeEmbedder(), tmp_path)
    near = NearNegatives(texts.sampler, embeddings)
    yes = Sampler(texts.reader, texts.store).examples(3, TEST, 4, 0)
    first = near(3, 4, 0, yes)
    second = near(3, 4, 0, [*yes, *first])
    assert len(first) == len(second) == 4
    assert not {e.row for e in first} & {e.row for e in second}
    # The same queries: what comes next is what a longer list would have had next.
    assert (
        len({(e.start, e.end) for e in near(3, 12, 0, yes)} & {(e.start, e.end) for e in second})
        >= 3
    )


def test_what_reads_like_an_activating_example_is_no_negative(tmp_path: Path) -> None:
    """Every document stands twice, and the feature fires in one of the two only."""
    rng = np.random.default_rng(2)
    n, length = 80, 20
    tokens = np.tile(rng.integers(0, 50, (n, length)), (2, 1)).ravel()
    dense = np.full((2 * n * length, 2), -1.0)
    dense[np.arange(n) * length + 10, 0] = 1 + rng.random(n)
    lengths, documents = [length] * (2 * n), list(range(2 * n))
    store: Any = Store(tokens, lengths, documents)
    store.folder = tmp_path
    planted = plant(dense, lengths, documents)._replace(store=store)
    planted.source.store = store
    texts = FeatureTexts(planted.build(tmp_path / "index", IndexingSpec(window=16)), store)
    embeddings = asyncio.run(
        embed_windows(store, scoring_rows(texts), FakeEmbedder(), tmp_path / "windows")
    )
    yes = Sampler(texts.reader, store).examples(0, TEST, 6, 0)
    near = NearNegatives(texts.sampler, embeddings)(0, 6, 0, yes)
    assert len(near) == len(yes) == 6
    shown = {e.row % n for e in yes}
    twins = set(scoring_rows(texts).tolist()) & {row + n for row in shown}
    assert twins  # they were there to be taken, and nothing lies nearer
    assert not {e.row % n for e in near} & shown


def test_without_activating_examples_there_is_nothing_to_be_near(
    texts: FeatureTexts, tmp_path: Path
) -> None:
    near = NearNegatives(texts.sampler, built(texts, FakeEmbedder(), tmp_path))
    assert near(0, 5, 0, []) == []


def test_lazy_sorting_sorts_everything() -> None:
    rng = np.random.default_rng(0)
    for size in (0, 5, 256, 257, 3000):
        values = rng.integers(0, 40, size).astype(float)  # many equal ones
        values[rng.random(size) < 0.2] = -np.inf
        wanted = [i for i in np.argsort(-values, kind="stable").tolist() if np.isfinite(values[i])]
        assert list(_descending(values)) == wanted


# -------------------------------------------------------------------- the tier
def test_the_tier_is_there_once_prepared(texts: FeatureTexts) -> None:
    fresh = FeatureTexts(texts.reader, texts.store)
    spec = ScoringSpec(tiers=("embedding_near",), positives=6, negatives=5)
    with pytest.raises(DataError, match="Call prepare with the sentence embedder first"):
        fresh.to_score(3, spec, spec.tiers)
    with pytest.raises(DataError, match="needs the sentence embedder"):
        asyncio.run(fresh.prepare(spec.tiers, Tools()))
    asyncio.run(fresh.prepare(("random",), Tools()))  # needs nothing
    embed = FakeEmbedder()
    asyncio.run(fresh.prepare(spec.tiers, Tools(embed=embed)))
    before = len(embed.asked)
    shown = fresh.to_score(3, spec, spec.tiers)
    assert len(shown.negatives["embedding_near"]) == 5
    assert max(example.peak for example in shown.negatives["embedding_near"]) == 0
    asyncio.run(fresh.prepare(spec.tiers, Tools(embed=embed)))
    assert len(embed.asked) == before  # neither features nor a second call cost embeddings
    assert fresh.to_score(3, spec, spec.tiers) == shown
    assert list((texts.store.folder / "window_embeddings").glob("*.f16"))
