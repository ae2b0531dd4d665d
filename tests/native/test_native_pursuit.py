"""The compiled pursuit picks what the loop of dense products picks, also where that is hard."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from monosemy.native import pursuit as native
from monosemy.native.build import library
from monosemy.saes.pursuit import by_products, gradients, pursue

pytestmark = pytest.mark.skipif(library("pursuit") is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit_rows(n: int, d: int) -> Tensor:
    return torch.nn.functional.normalize(random(n, d, seed=1), dim=1)


@pytest.fixture(autouse=True, params=["gram", "products"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either way of finding picks must do."""
    monkeypatch.setattr(native, "_cache", native._Cache())
    if request.param == "products":
        monkeypatch.setattr(native, "MAX_GRAM_BYTES", 0)


def both(x: Tensor, rows: Tensor, steps: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    ours = native.pursue(x, rows, steps, None)
    assert ours is not None
    return ours, by_products(x, rows, steps, None)


@pytest.mark.parametrize(
    ("n", "d", "d_sae"), [(1, 1, 2), (5, 7, 31), (33, 64, 32), (100, 129, 700), (65, 48, 2000)]
)
def test_any_shape(n: int, d: int, d_sae: int) -> None:
    steps = 20
    ours, loop = both(random(n, d), unit_rows(d_sae, d), steps)
    large = loop[1] > 1e-5  # what is left after that is rounding
    assert torch.equal(ours[0][large], loop[0][large])
    torch.testing.assert_close(ours[1], loop[1], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(ours[2], loop[2], atol=2e-6, rtol=1e-5)


def same_reach(x: Tensor, rows: Tensor, steps: int) -> None:
    """Picks may part at near ties in float32, so compare what they achieve, pick by pick."""
    ours, loop = both(x, rows, steps)
    scale = x.double().norm(dim=1)
    residual = x.double()
    for t in range(steps):
        products = residual @ rows.double().T
        value = products.gather(1, ours[0][:, t, None]).squeeze(1)
        best = products.max(1).values.clamp_min(0)
        assert ((best - value.clamp_min(0)) / scale).max() < 1e-6
        residual = residual - ours[1][:, t, None].double() * rows.double()[ours[0][:, t]]
    assert ((residual - ours[2]).norm(dim=1) / scale).max() < 1e-5
    assert ((ours[2].norm(dim=1) - loop[2].norm(dim=1)).abs() / scale).max() < 1e-3


def test_a_massive_coordinate_in_the_tokens() -> None:
    x, rows = random(64, 48), unit_rows(600, 48)
    x[:, 5] *= 1e4  # 16 bits leave nothing of the other coordinates
    same_reach(x, rows, 24)


def test_concentrated_and_long_and_missing_rows() -> None:
    rows = unit_rows(600, 48)
    rows[:200] = torch.eye(48)[torch.arange(200) % 48]  # also: many ties
    rows[200:300] *= torch.linspace(0.9, 1.1, 100)[:, None]
    rows[300] = 0
    same_reach(random(64, 48), rows, 24)


def test_more_equals_than_candidates() -> None:
    rows = torch.nn.functional.normalize(torch.ones(700, 16) + random(700, 16) * 1e-6, dim=1)
    same_reach(random(64, 16).abs(), rows, 3)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_any_scale(scale: float) -> None:
    x, rows = random(64, 48), unit_rows(600, 48)
    ours, scaled = native.pursue(x, rows, 12, None), native.pursue(x * scale, rows, 12, None)
    assert ours is not None and scaled is not None
    assert torch.equal(ours[0], scaled[0])
    torch.testing.assert_close(scaled[1] / scale, ours[1])


def test_nothing_left_ends_a_token() -> None:
    rows = torch.eye(16).repeat(4, 1)
    picks = native.pursue(torch.stack([rows[3] * 2, torch.zeros(16), -rows[1]]), rows, 40, None)
    assert picks is not None
    assert picks[1].count_nonzero(dim=1).tolist() == [1, 0, 0]
    assert picks[0][0, 0] % 16 == 3 and (picks[0][1:] == 0).all()


def test_the_number_of_threads_changes_no_bit() -> None:
    x, rows = random(150, 40), unit_rows(500, 40)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        picks = native.pursue(x, rows.clone(), 16, None)
        assert picks is not None
        gradients = native.gradients(*picks, rows, random(150, 16), random(150, 40))
        assert gradients is not None
        results.append((*picks, *gradients))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("with_values", [False, True])
@pytest.mark.parametrize("chunk_bytes", [1, 100_000, 1 << 24])
def test_gradients_are_those_of_the_loop(
    with_values: bool, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_CHUNK_BYTES", chunk_bytes)
    x, rows = random(90, 40), unit_rows(60, 40)  # few latents: many picks of each
    picks = native.pursue(x, rows, 16, x.norm(dim=1) * 0.6)
    assert picks is not None and (picks[1] == 0).any()
    d_values = random(90, 16, seed=6) if with_values else None
    ours = native.gradients(*picks, rows, d_values, random(90, 40, seed=7))
    loop = gradients(*picks, rows, d_values, random(90, 40, seed=7))
    assert ours is not None
    for a, b in zip(ours, loop, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


def test_a_dictionary_is_prepared_once_and_anew_when_it_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, rows = random(64, 48), torch.nn.Parameter(unit_rows(600, 48))
    calls = []
    prepare = native._prepare
    monkeypatch.setattr(native, "_prepare", lambda *given: calls.append(1) or prepare(*given))
    with torch.no_grad():
        for _ in range(3):
            pursue(x, rows, 8)
        assert len(calls) == 1
        rows.copy_(unit_rows(600, 48).flip(0))
        flipped = pursue(x, rows, 8)
        assert len(calls) == 2
        rows.data.copy_(unit_rows(600, 48))  # which no version counter tells
        assert torch.equal(pursue(x, rows, 8).indices, 599 - flipped.indices)
        assert len(calls) == 3


def test_both_ways_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "MAX_GRAM_BYTES", 1 << 30)
    x, rows = random(150, 40), unit_rows(500, 40)
    stop = x.norm(dim=1) * 0.3
    by_gram = native.pursue(x, rows, 16, stop)
    assert native._cache.prepared is not None and native._cache.prepared.gram is not None
    monkeypatch.setattr(native, "MAX_GRAM_BYTES", 1000)
    by_products = native.pursue(x, rows.clone(), 16, stop)
    assert native._cache.prepared.gram is None
    assert by_gram is not None and by_products is not None
    assert all(torch.equal(a, b) for a, b in zip(by_gram, by_products, strict=True))
    assert (by_gram[1] == 0).any() and (by_gram[1][:, 8] > 0).any()


def test_many_small_batches_are_worth_a_gram_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "MAX_GRAM_BYTES", 1 << 30)
    x, rows = random(40, 16), unit_rows(1024, 16)
    whole, made = [], []
    for part in x.split(4):
        picks = native.pursue(part, rows, 16, None)
        assert picks is not None and native._cache.prepared is not None
        whole.append(picks[1])
        made.append(native._cache.prepared.gram is not None)
    assert made == [False] * 8 + [True] * 2  # 512 picks, half of the latents, were not enough
    at_once = native.pursue(x, rows, 16, None)
    assert at_once is not None and torch.equal(torch.cat(whole), at_once[1])


def test_other_numbers_go_without() -> None:
    rows = unit_rows(64, 16)
    assert native.pursue(random(64, 16).double(), rows.double(), 4, None) is None
    assert native.pursue(random(64, 16).bfloat16(), rows.bfloat16(), 4, None) is None
    assert native.pursue(random(0, 16), rows, 4, None) is None


def test_threads_of_python_do_not_disturb_each_other() -> None:
    x = random(200, 40)
    dictionaries = [unit_rows(500, 40).roll(shift, 0) for shift in range(4)]
    expected = [by_products(x, rows, 16, None)[0] for rows in dictionaries]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda rows: native.pursue(x, rows, 16, None), dictionaries * 5))
    for i, picks in enumerate(results):
        assert picks is not None and torch.equal(picks[0], expected[i % 4])
