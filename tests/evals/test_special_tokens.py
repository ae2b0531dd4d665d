"""Errors of special tokens: known answers, and the two ways of averaging."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from monosemy.data.store import TokenStore
from monosemy.evals.special_tokens import SpecialTokenSums, special_token_metrics, token_groups
from monosemy.models.columns import Columns
from monosemy.models.host import HostModel
from monosemy.specs import TextSpec

WIDTH = 4


class Vectors:
    """A source of given vectors, one per token of the store."""

    width = WIDTH

    def __init__(self, store: TokenStore, x_ND: Tensor) -> None:
        self.store, self.x = store, x_ND

    def rows(self, rows: np.ndarray) -> tuple[Tensor, np.ndarray]:
        spans = [np.arange(self.store.row_start[r], self.store.row_start[r + 1]) for r in rows]
        position_N = np.concatenate(spans)
        return self.x[position_N], position_N

    def flush(self) -> None: ...


@pytest.fixture(scope="module")
def store(tiny_host: HostModel, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Texts with <s> and </s> (ids 0 and 1) written out, of different lengths and shares."""
    folder = tmp_path_factory.mktemp("marks")
    texts = [
        "<s>the harbour</s>",
        "<s>the captain measured seven lanterns</s> in winter</s>",
        "no mark at all",
        "<s></s>",
    ]
    file = folder / "a.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    spec = TextSpec(source=str(file), context_size=16)
    return TokenStore.build(spec, tiny_host, folder / "store")


def vectors(store: TokenStore) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_ND = torch.randn(store.n_tokens, WIDTH, generator=generator) + 2
    return x_ND, x_ND + 0.1 * torch.randn(store.n_tokens, WIDTH, generator=generator)


def by_hand(
    store: TokenStore, x_ND: Tensor, y_ND: Tensor, ids: set[int] | None
) -> dict[str, float]:
    """Straight from the formula, token by token."""
    per_document: dict[int, list[float]] = {}
    members = []
    for position, token in enumerate(store.tokens.tolist()):
        if ids is None or token in ids:
            document = int(store.row_document[store.row_of([position])[0]])
            error = float((x_ND[position] - y_ND[position]).double().pow(2).sum()) / WIDTH
            per_document.setdefault(document, []).append(error)
            members.append(x_ND[position].double())
    errors = [error for each in per_document.values() for error in each]
    own = torch.stack(members)
    means = [sum(each) / len(each) for each in per_document.values()]
    return {
        "tokens": len(errors),
        "documents": len(per_document),
        "mse": sum(errors) / len(errors),
        "mse_per_document": sum(means) / len(means),
        "fvu": sum(errors) * WIDTH / float((own - own.mean(0)).pow(2).sum()),
    }


@pytest.mark.parametrize(("group", "ids"), [("all", None), ("special", {0, 1, 2})])
def test_the_formulas_token_by_token(store: TokenStore, group: str, ids: set[int] | None) -> None:
    x_ND, y_ND = vectors(store)
    sums = SpecialTokenSums(store, WIDTH)
    for part in np.array_split(np.arange(store.n_tokens), 3):
        sums.add(x_ND[part], y_ND[part], part)
    metrics = sums.metrics()[group]
    wanted = by_hand(store, x_ND, y_ND, ids)
    assert {name: metrics[name] for name in wanted} == pytest.approx(wanted)
    assert metrics["log2_mse"] == pytest.approx(math.log2(wanted["mse"]))
    assert metrics["log2_mse_per_document"] == pytest.approx(math.log2(wanted["mse_per_document"]))
    assert abs(metrics["mse"] / metrics["mse_per_document"] - 1) > 1e-3, "the two ways differ"


def test_an_error_on_marks_alone_shows_there(store: TokenStore) -> None:
    """Every mark off by 1 in every dimension: their MSE is exactly 1, the whole's their share."""
    x_ND, _ = vectors(store)
    special = torch.from_numpy(np.isin(store.tokens, [0, 1, 2]))
    sums = SpecialTokenSums(store, WIDTH)
    sums.add(x_ND, x_ND + special[:, None], np.arange(store.n_tokens))
    metrics = sums.metrics()
    assert metrics["special"]["mse"] == pytest.approx(1)
    assert metrics["special"]["log2_mse"] == pytest.approx(0, abs=1e-6)
    assert metrics["special"]["documents"] == 3
    assert metrics["all"]["mse"] == pytest.approx(int(special.sum()) / store.n_tokens)


def test_what_is_missing_is_none(store: TokenStore) -> None:
    x_ND, _ = vectors(store)
    sums = SpecialTokenSums(store, WIDTH, {"none": np.array([399]), "one": np.array([0])})
    position = np.flatnonzero(store.tokens == 0)[:1]
    sums.add(x_ND[position], x_ND[position], position)
    metrics = sums.metrics()
    assert metrics["none"]["mse"] is None
    assert metrics["none"]["tokens"] == 0
    assert metrics["one"] == {
        "tokens": 1,
        "documents": 1,
        "mse": 0,
        "mse_per_document": 0,
        "log2_mse": None,
        "log2_mse_per_document": None,
        "fvu": None,
    }


def test_the_pass_over_rows_leaves_outliers_out_and_counts_them(store: TokenStore) -> None:
    x_ND, _ = vectors(store)
    first = store.row_start[:-1]
    loud = first[np.asarray(store.tokens)[first] == 0]
    assert len(loud) == 3
    x_ND[loud] *= 1000
    source = Vectors(store, x_ND)
    rows = np.arange(store.n_rows)
    seen: list[int] = []
    off = {"one": lambda x: x + 1, "three": lambda x: x + 3}
    quiet = Columns((slice(0, source.width),), None, (100.0,))
    results = special_token_metrics(off, source, store, rows, 10**6, seen.append, quiet)
    metrics = results["one"]
    assert metrics["all"]["left_out"] == metrics["special"]["left_out"] == 3
    assert metrics["all"]["tokens"] == sum(seen) == store.n_tokens - 3
    assert metrics["special"]["mse"] == pytest.approx(1)
    assert results["three"]["special"]["mse"] == pytest.approx(9)
    few = special_token_metrics({"x": lambda x: x}, source, store, np.repeat(rows, 40), 5)
    assert few["x"]["all"]["tokens"] < 20 * store.n_tokens, "stops once there are enough"


def test_a_transcoder_is_held_to_its_target(store: TokenStore) -> None:
    """Reads the first two columns, writes the others."""
    x_ND, _ = vectors(store)
    source, rows = Vectors(store, x_ND), np.arange(store.n_rows)
    columns = Columns((slice(0, 2),), (slice(2, 4),))
    made = {"x": lambda x: x}
    metrics = special_token_metrics(made, source, store, rows, 10**6, columns=columns)["x"]["all"]
    assert metrics["mse"] == pytest.approx(float((x_ND[:, 2:] - x_ND[:, :2]).pow(2).mean()))


def test_groups_of_a_store(store: TokenStore, tmp_path: Path) -> None:
    groups = token_groups(store)
    assert groups["all"] is None
    assert groups["special"].tolist() == [0, 1, 2]  # type: ignore[union-attr]
    roles = set(store.role_ids.values())
    assert set(groups["special_and_roles"].tolist()) == {0, 1, 2} | roles  # type: ignore[union-attr]
