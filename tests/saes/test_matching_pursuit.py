"""Matching pursuit: known answers, exact identities, gradients, and SAELens' own class."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from sae_lens.saes.matching_pursuit_sae import (
    MatchingPursuitSAE as TheirSAE,
)
from sae_lens.saes.matching_pursuit_sae import (
    MatchingPursuitSAEConfig as TheirConfig,
)
from torch import Tensor

from monosemy.errors import DataError
from monosemy.saes.base import StepInfo
from monosemy.saes.matching_pursuit import MatchingPursuitSAE
from monosemy.saes.pursuit import merge_repeats, pursue
from monosemy.specs import MatchingPursuitSpec

NONE_DEAD = StepInfo(0, 1, torch.empty(0, dtype=torch.int64))


@pytest.fixture(autouse=True, params=["native", "torch"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything holds with the compiled kernels (where there is a compiler) and without."""
    monkeypatch.setenv("MONOSEMY_NATIVE", "1" if request.param == "native" else "0")
    yield


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unit_rows(n: int, d: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.nn.functional.normalize(random(n, d, seed=seed, dtype=dtype), dim=1)


def make(d_sae: int = 64, d_in: int = 16, **options: object) -> MatchingPursuitSAE:
    sae = MatchingPursuitSAE(MatchingPursuitSpec(d_sae=d_sae, **options), d_in)  # type: ignore[arg-type]
    sae.initialise(torch.Generator().manual_seed(9))
    with torch.no_grad():
        sae.b_dec.copy_(random(d_in, seed=2) * 0.3)
    return sae


def plain(x: Tensor, rows: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """The loop of the paper, with ordinary autograd."""
    r, indices, values = x, [], []
    for _ in range(steps):
        i = (r @ rows.T).argmax(1)
        v = (r * rows[i]).sum(1).relu()
        r = r - v[:, None] * rows[i]
        indices.append(i)
        values.append(v)
    return torch.stack(indices, 1), torch.stack(values, 1), r


def test_a_pursuit_by_hand() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]])
    picks = pursue(torch.tensor([[2.0, 1.5], [-1.0, -3.0], [-1.0, 0.0]]), rows, 3)
    # First: 2.4 of row 1 leave (.56, -.42), .56 of row 0 leave (0, -.42), .42 of row 2 nothing.
    # Second: 3 of row 2 leaves (-1, 0), which no row points at.  Third: nothing at all.
    assert picks.indices.tolist() == [[1, 0, 2], [2, 0, 0], [0, 0, 0]]
    expected = torch.tensor([[2.4, 0.56, 0.42], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(picks.values, expected)
    left = torch.tensor([[0.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    torch.testing.assert_close(picks.residual, left, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("n", "d", "d_sae", "steps"), [(40, 16, 64, 8), (33, 100, 523, 32)])
def test_picks_are_those_of_the_plain_loop(n: int, d: int, d_sae: int, steps: int) -> None:
    x, rows = random(n, d), unit_rows(d_sae, d)
    indices, values, residual = plain(x, rows, steps)
    picks = pursue(x, rows, steps)
    positive = values > 0
    assert torch.equal(picks.indices[positive], indices[positive])
    torch.testing.assert_close(picks.values, values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(picks.residual, residual, atol=1e-5, rtol=1e-5)


def test_invariants_of_unit_rows() -> None:
    x, rows = random(50, 24), unit_rows(80, 24)
    picks = pursue(x, rows, 12)
    again = torch.einsum("nkd,nk->nd", rows[picks.indices], picks.values) + picks.residual
    torch.testing.assert_close(again, x)
    energy = x.pow(2).sum(1) - picks.values.pow(2).sum(1)
    torch.testing.assert_close(picks.residual.pow(2).sum(1), energy, atol=1e-4, rtol=1e-4)
    last = rows[picks.indices[:, -1]]
    assert (picks.residual * last).sum(1).abs().max() < 1e-5


def test_fewer_picks_are_the_beginning_of_more() -> None:
    x, rows = random(50, 24), unit_rows(80, 24)
    more = pursue(x, rows, 20)
    for steps in (1, 7, 20):
        fewer = pursue(x, rows, steps)
        assert torch.equal(fewer.indices, more.indices[:, :steps])
        assert torch.equal(fewer.values, more.values[:, :steps])


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
def test_stop_is_a_share_of_each_tokens_length(share: float) -> None:
    x, rows = random(60, 12) * torch.linspace(0.01, 100, 60)[:, None], unit_rows(200, 12)
    length = x.norm(dim=1)
    full, stopped = pursue(x, rows, 30), pursue(x, rows, 30, length * share)
    made = (stopped.values > 0).sum(1)
    assert (made > 0).all() and made.min() < 30
    kept = torch.arange(30) < made[:, None]
    assert torch.equal(stopped.values, full.values * kept)
    assert torch.equal(stopped.indices, full.indices * kept)
    for n in range(60):  # the last pick made was needed, and was enough
        before = pursue(x[n : n + 1], rows, int(made[n]) - 1).residual if made[n] > 1 else x[n]
        assert before.norm() > length[n] * share * 0.9999
        assert stopped.residual[n].norm() <= length[n] * share * 1.0001 or made[n] == 30


@pytest.mark.parametrize("steps", [1, 6, 25])
def test_gradients_are_those_of_autograd_in_float64(steps: int) -> None:
    x = random(9, 12, dtype=torch.float64).requires_grad_()
    rows = (unit_rows(40, 12, dtype=torch.float64) * 1.1).requires_grad_()  # any length will do
    a, b = random(9, steps, dtype=torch.float64), random(9, 12, seed=5, dtype=torch.float64)
    _, values, residual = plain(x, rows, steps)
    expected = torch.autograd.grad((a * values).sum() + (b * residual.pow(2)).sum(), [x, rows])
    picks = pursue(x, rows, steps)
    given = torch.autograd.grad(
        (a * picks.values).sum() + (b * picks.residual.pow(2)).sum(), [x, rows]
    )
    for ours, theirs in zip(given, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("through", ["values", "residual", "both"])
def test_gradients_in_float32(through: str) -> None:
    x, rows = random(70, 40).requires_grad_(), unit_rows(300, 40).requires_grad_()
    a, b = random(70, 16, seed=4), random(70, 40, seed=5)

    def loss(values: Tensor, residual: Tensor) -> Tensor:
        parts = {"values": (a * values).sum(), "residual": (b * residual.pow(2)).sum()}
        return sum(parts.values()) if through == "both" else parts[through]  # type: ignore[return-value]

    expected = torch.autograd.grad(loss(*plain(x, rows, 16)[1:]), [x, rows])
    picks = pursue(x, rows, 16)
    given = torch.autograd.grad(loss(picks.values, picks.residual), [x, rows])
    for ours, theirs in zip(given, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


def test_repeats_are_summed_at_the_first() -> None:
    indices = torch.tensor([[5, 2, 5, 5, 2], [1, 0, 0, 0, 0]])
    values = torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0], [3.0, 0.0, 0.0, 0.0, 0.0]])
    expected = torch.tensor([[13.0, 18.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(merge_repeats(indices, values), expected)


def test_codes_accumulate_and_decode_to_what_the_pursuit_took() -> None:
    sae, x = make(d_sae=20, d_in=16, k=30), random(40, 16)
    picks = pursue(x - sae.b_dec, sae.W_dec, 30)
    codes = sae.encode(x)
    assert (codes.l0() < (picks.values > 0).sum(1)).any()  # some latent was picked again
    for row, kept in zip(codes.indices, codes.values > 0, strict=True):
        assert len(set(row[kept].tolist())) == int(kept.sum())
    torch.testing.assert_close(sae.decode(codes), x - picks.residual, atol=1e-5, rtol=1e-5)


def test_budgets() -> None:
    sae, x = make(d_sae=128, k=4), random(40, 16)
    assert sae.encode(x).indices.shape == (40, 4)
    assert sae.encode(x, 9).indices.shape == (40, 9)
    with torch.no_grad():
        wholes = [sae.decode(sae.encode(x, k)) for k in (1, 2, 4, 8, 16)]
    errors = [float((whole - x).pow(2).sum()) for whole in wholes]
    assert errors == sorted(errors, reverse=True)
    codes = sae.encode(x, 0.3)
    relative = (x - sae.decode(codes)).norm(dim=1) / (x - sae.b_dec).norm(dim=1)
    assert relative.max() < 0.301 and (codes.values[:, -1] > 0).any()
    scaled = make(d_sae=128, k=4)
    with torch.no_grad():
        scaled.b_dec.mul_(1000)
    torch.testing.assert_close(scaled.encode(x * 1000, 0.3).values, codes.values * 1000)
    for wrong in (0, -1, 1.0, 0.0, True):
        with pytest.raises(ValueError, match="budget"):
            sae.encode(x, wrong)


def test_it_has_no_encoder_of_its_own() -> None:
    sae = make()
    assert set(sae.state_dict()) == {"W_dec", "b_dec"}
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(64))
    empty = sae.encode(torch.zeros(0, 16))
    assert empty.indices.shape == (0, 32) and sae.decode(empty).shape == (0, 16)
    assert sae.encode(torch.zeros(0, 16), 0.5).indices.shape[0] == 0


def test_a_training_pass_is_the_plain_loop() -> None:
    sae, x = make(d_sae=100, d_in=24, k=10), random(80, 24)
    out = sae.training_pass(x, x, NONE_DEAD)
    assert not out.terms
    (out.reconstruction - x).pow(2).mean().backward()
    ours = {name: p.grad for name, p in sae.named_parameters()}
    indices, values, _ = plain(x - sae.b_dec, sae.W_dec, 10)
    dense = torch.zeros(80, 100).scatter_add(1, indices, values)
    reconstruction = dense @ sae.W_dec + sae.b_dec
    torch.testing.assert_close(out.reconstruction, reconstruction, atol=1e-5, rtol=1e-5)
    expected = torch.autograd.grad((reconstruction - x).pow(2).mean(), [sae.W_dec, sae.b_dec])
    for grad, name in zip(expected, ["W_dec", "b_dec"], strict=True):
        torch.testing.assert_close(ours[name], grad, atol=1e-6, rtol=1e-5)
    assert torch.equal(out.fired_F, (dense > 0).sum(0).float())
    torch.testing.assert_close(out.l0, (dense > 0).sum(1).float().mean())


def test_dead_latents_learn_from_what_is_left_at_any_scale() -> None:
    x = random(80, 24)
    shares = []
    for scale in (1.0, 1e4):
        sae = make(d_sae=100, d_in=24, k=3)
        with torch.no_grad():
            sae.b_dec.mul_(scale)
        dead = torch.tensor([4, 17, 60])
        given = x * scale + sae.b_dec.detach()
        out = sae.training_pass(given, given, StepInfo(0, 1, dead))
        shares.append(out.terms["aux"])
        out.terms["aux"].backward()
        reached = sae.W_dec.grad.norm(dim=1) > 0  # type: ignore[union-attr]
        assert reached[dead].all() and int(reached.sum()) == 3
        assert sae.b_dec.grad is None  # what is left is a given
    torch.testing.assert_close(shares[0], shares[1])
    assert 0 < shares[0].item() < 1 / 32


@pytest.mark.parametrize(
    "options",
    [{"k": 12}, {"k": 12, "stop_on_repeat": True}, {"k": 40, "residual_floor": 1.5}],
)
def test_saelens_computes_the_same(options: dict[str, object]) -> None:
    sae, x = make(d_sae=30, d_in=16, **options), random(60, 16)
    keys, tensors = sae.saelens_export()
    config = TheirConfig.from_dict({"d_in": 16, "d_sae": 30, "dtype": "float32", **keys})
    theirs = TheirSAE(config)
    theirs.load_state_dict(tensors)
    dense = theirs.encode(x)
    codes = sae.encode(x)
    torch.testing.assert_close(codes.dense(30), dense, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae.decode(codes), theirs.decode(dense), atol=1e-5, rtol=1e-5)
    again = MatchingPursuitSAE.saelens_import({"d_in": 16, "d_sae": 30, **keys}, tensors)
    assert again.spec == sae.spec
    assert torch.equal(again.encode(x).values, codes.values)


def test_saelens_defaults_are_understood() -> None:
    tensors = {"W_dec": unit_rows(30, 16) * 1.07, "b_dec": torch.zeros(16)}
    theirs = TheirSAE(TheirConfig(d_in=16, d_sae=30))
    theirs.load_state_dict(tensors)
    ours = MatchingPursuitSAE.saelens_import(theirs.cfg.to_dict(), tensors)
    x = random(60, 16)
    torch.testing.assert_close(ours.encode(x).dense(30), theirs.encode(x), atol=1e-5, rtol=1e-5)
    with pytest.raises(DataError, match="apply_b_dec_to_input"):
        MatchingPursuitSAE.saelens_import(
            {**theirs.cfg.to_dict(), "apply_b_dec_to_input": False}, tensors
        )


def test_training_stops_where_inference_does() -> None:
    for options in ({"stop_on_repeat": True}, {"residual_stop": 0.4}):
        sae, x = make(d_sae=30, d_in=16, k=25, **options), random(60, 16)
        out = sae.training_pass(x, x, NONE_DEAD)
        codes = sae.encode(x)
        torch.testing.assert_close(out.reconstruction, sae.decode(codes), atol=1e-5, rtol=1e-5)
        assert float(out.l0) == float(codes.l0().float().mean()) < 25


def test_rescale_is_exact() -> None:
    sae, x = make(k=20, residual_floor=1.5), random(40, 16)
    scaled = sae(x * 8.0)
    sae.rescale(8.0, 8.0)
    torch.testing.assert_close(sae(x) * 8.0, scaled)
    with pytest.raises(ValueError, match="transcodes"):
        sae.rescale(8.0, 4.0)
