"""An SAE with random weights is as sparse as the one it stands beside, and knows nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from monosemy.errors import DataError
from monosemy.formats.load import open_sae
from monosemy.formats.saelens import load_sae, save_sae
from monosemy.saes import random_weights as module
from monosemy.saes.base import SAE, fired_counts
from monosemy.saes.random_weights import random_weights
from monosemy.saes.registry import create
from monosemy.specs import BatchTopKSpec, ReLUSpec, TopKSpec, TranscoderSpec

N, D, F = 3000, 24, 96


def activations(seed: int = 0) -> torch.Tensor:
    """Far from the origin and much wider in some directions than in others."""
    generator = torch.Generator().manual_seed(seed)
    return 5.0 + torch.randn(N, D, generator=generator) * torch.linspace(0.1, 4.0, D)


def made(spec: Any) -> SAE:
    sae = create(spec, D)
    sae.initialise(torch.Generator().manual_seed(7))
    with torch.no_grad():
        sae.b_dec.copy_(activations().mean(0))
        sae.b_enc.add_(torch.linspace(-7, 1, F))  # some fire often, some never
    return sae


def fired(sae: SAE, x: torch.Tensor) -> torch.Tensor:
    return fired_counts(sae.encode(x), sae.d_sae)


@pytest.mark.parametrize("spec", [TopKSpec(d_sae=F, k=6), ReLUSpec(d_sae=F)])
def test_every_latent_fires_as_often(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 10 * N)  # several blocks
    x, like = activations(), made(spec)
    twin = random_weights(like, x)
    wanted, of_twin = fired(like, x), fired(twin, x)
    assert 0 < wanted.sum() < N * F and wanted.min() < 0.01 * N
    # Sums in blocks of another shape may round across a cut, which lies between two values.
    assert (wanted - of_twin).abs().max() <= 1
    l0 = float(twin.encode(x).l0().float().mean())
    assert l0 == pytest.approx(wanted.sum().item() / N, rel=1e-3)


def test_new_tokens_have_nearly_the_same_l0() -> None:
    like = made(BatchTopKSpec(d_sae=F, k=6))
    like.calibrate(activations())
    twin = random_weights(like, activations())
    fresh = activations(1)
    mean = float(twin.encode(fresh).l0().float().mean())
    assert mean == pytest.approx(float(like.encode(fresh).l0().float().mean()), rel=0.1)


def test_its_directions_are_random_and_seeded() -> None:
    x, like = activations(), made(TopKSpec(d_sae=F, k=6))
    one, again, other = (random_weights(like, x, seed) for seed in (1, 1, 2))
    assert torch.equal(one.W_dec, again.W_dec)
    for weights in (other.W_dec, like.W_dec):
        assert (one.W_dec * weights).sum(1).abs().max().item() < 0.8
    torch.testing.assert_close(one.W_dec.norm(dim=1), torch.ones(F))
    torch.testing.assert_close(one.W_enc, one.W_dec.T)
    assert torch.equal(one.b_dec, like.b_dec)


def test_latents_that_always_or_never_fire() -> None:
    x, like = activations(), made(ReLUSpec(d_sae=F))
    with torch.no_grad():
        like.b_enc[:2] = 1e4
        like.b_enc[2:4] = -1e4
    wanted = fired(like, x)
    shares = fired(random_weights(like, x), x)
    assert torch.equal(shares[wanted == N], wanted[wanted == N])
    assert torch.equal(shares[wanted == 0], wanted[wanted == 0])
    assert (wanted[:2] == N).all() and (wanted[2:4] == 0).all()


def test_it_is_written_and_read_as_any_other(tmp_path: Path) -> None:
    x = activations()
    twin = random_weights(made(TopKSpec(d_sae=F, k=6)), x)
    site = "blocks.0.hook_resid_post"
    save_sae(twin, tmp_path / "twin", {"hook_name": site}, {"spec": {}})
    opened = open_sae(str(tmp_path / "twin"))  # as an import run does
    assert opened.metadata["hook_name"] == site
    assert torch.equal(opened.sae.W_dec, twin.W_dec)
    back = load_sae(tmp_path / "twin")
    torch.testing.assert_close(back.encode(x).dense(F), twin.encode(x).dense(F))


def test_what_has_no_twin() -> None:
    like = made(TopKSpec(d_sae=F, k=6))
    with pytest.raises(DataError, match="need activations"):
        random_weights(like, torch.zeros(0, D))
    spec = TranscoderSpec(d_sae=F, k=6, target_site="blocks.0.hook_mlp_out")
    with pytest.raises(DataError, match="transcodes"):
        random_weights(create(spec, D, D), activations())
