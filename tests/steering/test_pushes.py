"""What a push does to activations: exact identities on a planted SAE."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.steering.pushes import Push, Pushes
from tests.support.planted_hosted_sae import long_host, planted_hosted_sae

TOKEN = 300


@pytest.fixture(scope="module")
def hosted(tiny_tokenizer: Any) -> HostedSAE:
    hosted = planted_hosted_sae(long_host(tiny_tokenizer), TOKEN)
    hosted.sae.requires_grad_(False)
    return hosted


@pytest.fixture
def acts_BSD(hosted: HostedSAE) -> Tensor:
    return torch.randn(2, 5, hosted.host.d_model, generator=torch.Generator().manual_seed(0))


def pushed(
    hosted: HostedSAE, acts_BSD: Tensor, *pushes: Push, where: Tensor | None = None
) -> Tensor:
    where = torch.ones(acts_BSD.shape[:2], dtype=torch.bool) if where is None else where
    ((site, edit),) = Pushes(hosted, pushes).edits(where).items()
    assert site == hosted.site
    return edit(acts_BSD)


def test_adding_moves_by_so_much_of_the_decoder_row(hosted: HostedSAE, acts_BSD: Tensor) -> None:
    moved = pushed(hosted, acts_BSD, Push(3, 2.5)) - acts_BSD
    torch.testing.assert_close(moved, (2.5 * hosted.sae.W_dec[3]).expand_as(moved))


def test_nothing_moves_elsewhere(hosted: HostedSAE, acts_BSD: Tensor) -> None:
    where = torch.zeros(2, 5, dtype=torch.bool)
    where[1, 2] = True
    after = pushed(hosted, acts_BSD, Push(3, 2.5), where=where)
    assert torch.equal(after[~where], acts_BSD[~where])
    assert not torch.equal(after[where], acts_BSD[where])


def test_orthogonal_sets_the_part_along_the_row_and_leaves_the_rest(
    hosted: HostedSAE, acts_BSD: Tensor
) -> None:
    row = hosted.sae.W_dec[3]
    unit = row / row.norm()
    after = pushed(hosted, acts_BSD, Push(3, 4.0, "orthogonal"))
    torch.testing.assert_close(after @ unit, torch.full((2, 5), float(4 * row.norm())))
    across = [x - (x @ unit)[..., None] * unit for x in (acts_BSD, after)]
    torch.testing.assert_close(*across, atol=1e-5, rtol=1e-5)


def test_clamping_replaces_the_latents_own_part(hosted: HostedSAE, acts_BSD: Tensor) -> None:
    acts_BSD[0, 1:4] += 3 * hosted.sae.W_dec[0]
    codes = hosted.sae.encode(acts_BSD.flatten(0, 1))
    found = (codes.values * (codes.indices == 0)).sum(1).unflatten(0, (2, 5))
    assert (found > 0).any() and (found == 0).any()
    moved = pushed(hosted, acts_BSD, Push(0, 1.5, "clamp")) - acts_BSD
    expected = (1.5 - found)[..., None] * hosted.sae.W_dec[0]
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-5)
    # Clamped to what it is, it changes nothing.
    where = found == 0
    same = pushed(hosted, acts_BSD, Push(0, 0.0, "clamp"), where=where)
    torch.testing.assert_close(same, acts_BSD)


def test_several_are_summed_from_what_was_there(hosted: HostedSAE, acts_BSD: Tensor) -> None:
    pushes = (Push(1, 2.0), Push(0, 3.0, "clamp"), Push(2, -1.0, "orthogonal"))
    together = pushed(hosted, acts_BSD, *pushes) - acts_BSD
    alone = sum(pushed(hosted, acts_BSD, push) - acts_BSD for push in pushes)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_the_host_models_precision_is_kept(hosted: HostedSAE, acts_BSD: Tensor) -> None:
    assert pushed(hosted, acts_BSD.bfloat16(), Push(1, 2.0)).dtype == torch.bfloat16


def test_what_cannot_be_pushed(hosted: HostedSAE) -> None:
    with pytest.raises(DataError, match="none is number 99"):
        Pushes(hosted, [Push(99, 1.0)])
    with pytest.raises(DataError, match="nothing to push"):
        Pushes(hosted, [])
