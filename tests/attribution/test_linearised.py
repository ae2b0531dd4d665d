"""The linearised host is the host, affine in its leaves, and refuses what is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monosemy.attribution.linearised import FINAL, STREAM, linearise
from monosemy.errors import DataError, ModelError
from monosemy.models.host import HostModel
from tests.support.attribution import some_ids, tiny_host_of
from tests.support.tiny_models import tiny_model

FAMILIES = ("llama", "gpt2", "gemma2", "gemma3", "qwen3", "neox-parallel")


@pytest.mark.parametrize("architecture", FAMILIES)
def test_it_reproduces_the_host_and_moves_by_its_gradient(
    architecture: str, tiny_tokenizer: Any
) -> None:
    host = tiny_host_of(architecture, tiny_tokenizer)
    ids = some_ids(host)
    line = linearise(host, ids)
    row, last = torch.tensor([ids]), "blocks.2.hook_resid_post"
    sites = ["blocks.1.attn.hook_z", last]
    clean = host.capture(row, torch.ones_like(row), sites)
    for site, value in line.forward(sites).items():
        torch.testing.assert_close(value, clean[site], rtol=1e-4, atol=1e-5)

    leaves = {name: leaf.clone().requires_grad_() for name, leaf in line.leaves.items()}
    direction = torch.randn(host.d_model, generator=torch.Generator().manual_seed(1))
    target = line.forward([FINAL], leaves)[FINAL][0, 9] @ direction
    slopes = dict(zip(leaves, torch.autograd.grad(target, list(leaves.values())), strict=True))
    nothing = {name: torch.zeros_like(leaf) for name, leaf in line.leaves.items()}
    constant = line.forward([FINAL], nothing)[FINAL][0, 9] @ direction
    edges = sum(float((slopes[name] * leaf).sum()) for name, leaf in line.leaves.items())
    assert edges + float(constant) == pytest.approx(float(target.detach()), rel=1e-4, abs=1e-5)
    # One MLP taken away changes the target by its edge, everything else held.
    name = "blocks.1.hook_mlp_out"
    without = line.forward([FINAL], {name: torch.zeros_like(leaves[name])})[FINAL][0, 9] @ direction
    expected = float((slopes[name] * line.leaves[name]).sum())
    moved = float((target - without).detach())
    assert moved == pytest.approx(expected, rel=1e-4, abs=1e-5)
    # Later tokens do not count.
    assert float(slopes[STREAM][0, 10:].abs().max()) == 0


def test_it_leaves_the_host_as_it_was(tiny_tokenizer: Any) -> None:
    host = tiny_host_of("gpt2", tiny_tokenizer)
    row = torch.tensor([some_ids(host)])
    before = host.logits(row, torch.ones_like(row))
    linearise(host, some_ids(host)).forward([FINAL])
    assert torch.equal(host.logits(row, torch.ones_like(row)), before)
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in host.model.modules()]
    assert sum(hooks) == 0


class _Halved(nn.Module):
    """A layer whose outputs below 0 are cut: of degree 1, so that closure alone does not see it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).relu()  # type: ignore[no-any-return]


@pytest.mark.parametrize("place", ["v_proj", "o_proj"])
def test_a_planted_relu_that_is_not_held_is_refused(place: str, tiny_tokenizer: Any) -> None:
    model = tiny_model("llama", len(tiny_tokenizer))
    attention = model.model.layers[1].self_attn
    setattr(attention, place, _Halved(getattr(attention, place)))
    host = HostModel.wrap(model, tiny_tokenizer, "bent")
    with pytest.raises(ModelError, match=r"bent cannot be linearised: at blocks.1.hook_attn_out"):
        linearise(host, some_ids(host))


def test_what_has_no_attention_and_what_has_one_token_are_refused(tiny_tokenizer: Any) -> None:
    with pytest.raises(ModelError, match=r"mamba cannot be linearised: blocks.0 has no site"):
        linearise(tiny_host_of("mamba", tiny_tokenizer), [5, 6, 7])
    with pytest.raises(DataError, match="1 token"):
        linearise(tiny_host_of("llama", tiny_tokenizer), [5])


def test_a_leaf_that_does_not_exist_is_an_error(tiny_tokenizer: Any) -> None:
    host = tiny_host_of("llama", tiny_tokenizer)
    line = linearise(host, some_ids(host))
    with pytest.raises(ValueError, match=r"blocks.9"):
        line.forward([FINAL], {"blocks.9.hook_mlp_out": torch.zeros(1)})
