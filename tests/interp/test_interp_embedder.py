from pathlib import Path

import numpy as np
import pytest

from monosemy.errors import ModelError
from monosemy.interp.embedder import Embedder


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.load()


def test_like_sentences_lie_close(embedder: Embedder) -> None:
    vectors = embedder.embed(
        [
            "The cat sat on the mat.",
            "A kitten rested on a rug.",
            "Shares fell two percent after the bank's results.",
            "The stock market went down.",
        ]
    )
    assert vectors.shape == (4, embedder.width) == (4, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    cosine = vectors @ vectors.T
    assert cosine[0, 1] > 0.5 > cosine[0, 2] + 0.3
    assert cosine[2, 3] > cosine[1, 3] + 0.3


def test_batches_and_order_do_not_matter(embedder: Embedder) -> None:
    texts = ["short", "a somewhat longer sentence about music", "", "mid length text"] * 3
    alone = np.concatenate([embedder.embed([text]) for text in texts])
    np.testing.assert_allclose(embedder.embed(texts, batch_size=5), alone, atol=2e-6)
    assert embedder.embed([]).shape == (0, 384)


def test_long_texts_are_cut(embedder: Embedder) -> None:
    long = "music " * 400
    first, second = embedder.embed([long, long + "banking " * 50])
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no embedding model in"):
        Embedder.load(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        Embedder.load(str(tmp_path))
