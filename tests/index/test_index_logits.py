"""Logit effects against the direct formula on a real (tiny) host model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch

from monosemy.index import logits
from monosemy.index.logits import LogitLens
from monosemy.specs.hooks import Hooks

if TYPE_CHECKING:
    from monosemy.models.host import HostModel

SITE = "blocks.2.hook_resid_post"


@pytest.fixture
def uneven_host(tiny_host: HostModel) -> Iterator[HostModel]:
    """The final norm's gain is far from one, so leaving it out shows."""
    weight = tiny_host.model.model.norm.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight.copy_(torch.linspace(0.2, 3.0, len(weight)))
    yield tiny_host
    with torch.no_grad():
        weight.copy_(before)


def _direct(host: HostModel, residual: torch.Tensor) -> torch.Tensor:
    """Through the model's own modules: (direction * gain) @ W_U, less its mean."""
    scaled = residual * host.model.model.norm.weight.detach()
    effects = torch.nn.functional.linear(scaled, host.model.lm_head.weight.detach())
    return effects - effects.mean(dim=1, keepdim=True)


def test_effects_equal_the_direct_formula(
    uneven_host: HostModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logits, "BLOCK_BYTES", 4 * 400 * 7)  # blocks of 7 directions
    directions = torch.randn(25, 32, generator=torch.Generator().manual_seed(0))
    effects = LogitLens(uneven_host, Hooks.at(SITE), 9).effects(directions)
    direct = _direct(uneven_host, directions)
    up, up_ids = direct.topk(9, dim=1)
    down, down_ids = direct.topk(9, dim=1, largest=False)
    torch.testing.assert_close(effects.promoted, up, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(effects.suppressed, down, rtol=1e-4, atol=1e-5)
    assert torch.equal(effects.promoted_ids, up_ids)
    assert torch.equal(effects.suppressed_ids, down_ids)
    torch.testing.assert_close(effects.std, direct.std(dim=1, correction=0))
    normal = direct / direct.std(dim=1, correction=0, keepdim=True)
    torch.testing.assert_close(effects.skew, (normal**3).mean(dim=1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(effects.kurtosis, (normal**4).mean(dim=1) - 3, rtol=1e-3, atol=1e-3)
    # Without the gain the answer is another.
    plain = torch.nn.functional.linear(directions, uneven_host.model.lm_head.weight.detach())
    assert not torch.equal(plain.topk(9, dim=1).indices, up_ids)


def test_attention_features_go_through_the_output_matrix(uneven_host: HostModel) -> None:
    site = "blocks.1.attn.hook_z"
    directions = torch.randn(5, uneven_host.site_width(site))
    output = uneven_host.model.model.layers[1].self_attn.o_proj.weight.detach()
    direct = _direct(uneven_host, directions @ output.T)
    effects = LogitLens(uneven_host, Hooks.at(site), 4).effects(directions)
    torch.testing.assert_close(effects.promoted, direct.topk(4, dim=1).values, rtol=1e-4, atol=1e-5)


def test_a_small_step_along_a_direction_moves_the_real_logits_that_way(
    uneven_host: HostModel,
) -> None:
    """At the last block's output, with the norm's scale frozen, the effect is exact."""
    site = "blocks.3.hook_resid_post"
    ids = torch.tensor([[0, 40, 41, 42]])
    mask = torch.ones_like(ids)
    x = uneven_host.capture(ids, mask, [site])[site][0, -1].float()
    direction = torch.randn(32, generator=torch.Generator().manual_seed(3))
    # Orthogonal to x: to first order the norm's scale does not change.
    direction -= (direction @ x) / (x @ x) * x
    step = 1e-2
    clean = uneven_host.logits(ids, mask)[0, -1]
    moved = uneven_host.logits(ids, mask, {site: lambda acts: acts + step * direction})[0, -1]
    change = (moved - clean) / step * x.pow(2).mean().sqrt()
    change = change - change.mean()
    effects = LogitLens(uneven_host, Hooks.at(site), 5).effects(direction[None])
    torch.testing.assert_close(
        change[effects.promoted_ids[0]], effects.promoted[0], rtol=2e-2, atol=0.05
    )


def test_a_zero_direction_has_no_shape(uneven_host: HostModel) -> None:
    effects = LogitLens(uneven_host, Hooks.at(SITE), 3).effects(torch.zeros(1, 32))
    assert effects.std.item() == effects.kurtosis.item() == effects.skew.item() == 0.0
