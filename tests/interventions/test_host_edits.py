"""Edits: what comes out of the model when a site is replaced."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monosemy.errors import ModelError
from monosemy.interventions.edits import Interventions
from monosemy.interventions.intervention import (
    Direction,
    Function,
    Intervention,
    ablate,
    add,
    replace,
)
from monosemy.models.hook_points import Edit
from monosemy.models.host import HostModel
from tests.support.tiny_models import tiny_model

IDS_BS = torch.randint(3, 300, (2, 10), generator=torch.Generator().manual_seed(0))
MASK_BS = torch.ones_like(IDS_BS)
KINDS = [
    "hook_resid_pre",
    "attn.hook_z",
    "hook_attn_out",
    "hook_resid_mid",
    "mlp.hook_post",
    "hook_mlp_out",
    "hook_resid_post",
]


def edits(*changes: Intervention, where_BS: Tensor | None = None) -> dict[str, Edit]:
    return dict(Interventions(changes).edits(MASK_BS.bool() if where_BS is None else where_BS))


def error(x_ND: Tensor) -> Tensor:
    return x_ND - lossy(x_ND)


def zero(site: str) -> Intervention:
    return ablate(Function(lambda x: x, site))


def mean(site: str, mean_D: Tensor) -> Intervention:
    return replace(Direction.of(mean_D, site))


def lossy(x_ND: Tensor) -> Tensor:
    """A reconstruction with an error: half of the coordinates are lost."""
    kept = x_ND.clone()
    kept[:, ::2] = 0
    return kept


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2", "opt"])
def host(request: pytest.FixtureRequest, tiny_tokenizer: Any) -> HostModel:
    model = tiny_model(request.param, len(tiny_tokenizer))
    return HostModel.wrap(model, tiny_tokenizer, request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_reconstruction_plus_error_reproduces_the_clean_logits(host: HostModel, kind: str) -> None:
    site = f"blocks.1.{kind}"
    clean = host.logits(IDS_BS, MASK_BS)
    spliced = replace(Function(lossy, site))
    replaced = host.logits(IDS_BS, MASK_BS, edits(spliced))
    restored = host.logits(IDS_BS, MASK_BS, edits(add(Function(error, site)), spliced))
    assert (replaced - clean).abs().max() > 1e-2
    torch.testing.assert_close(restored, clean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "same_place"),
    [
        ("hook_resid_pre", "blocks.0.hook_resid_post"),
        ("hook_attn_out", "blocks.1.hook_resid_mid"),
        ("hook_mlp_out", "blocks.1.hook_resid_post"),
        ("hook_resid_post", "blocks.2.hook_resid_pre"),
    ],
)
def test_a_vector_added_to_the_stream_or_to_what_flows_into_it_is_the_same(
    host: HostModel, kind: str, same_place: str
) -> None:
    shift = torch.randn(32, generator=torch.Generator().manual_seed(2))
    one = host.logits(IDS_BS, MASK_BS, {f"blocks.1.{kind}": lambda x: x + shift})
    two = host.logits(IDS_BS, MASK_BS, {same_place: lambda x: x + shift})
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    assert (one - host.logits(IDS_BS, MASK_BS)).abs().max() > 1e-2


def test_ablations_put_in_what_they_say(tiny_host: HostModel) -> None:
    site = "blocks.2.hook_resid_post"
    mean_D = torch.arange(32.0)
    seen: list[Tensor] = []

    def look(value: Tensor) -> Tensor:
        seen.append(value)
        return value

    after = "blocks.3.hook_resid_pre"
    for change, wanted in (
        (zero(site), torch.zeros(2, 10, 32)),
        (mean(site, mean_D), mean_D.expand(2, 10, 32)),
        (replace(Direction.of(mean_D, site), 0.0), torch.zeros(2, 10, 32)),
    ):
        tiny_host.logits(IDS_BS, MASK_BS, {**edits(change), after: look})
        assert torch.equal(seen.pop(), wanted)


def test_an_edit_may_be_limited_to_some_tokens(tiny_host: HostModel) -> None:
    site, after = "blocks.1.hook_resid_post", "blocks.2.hook_resid_pre"
    where_BS = torch.zeros_like(IDS_BS, dtype=torch.bool)
    where_BS[:, 3:] = True
    clean = tiny_host.capture(IDS_BS, MASK_BS, [site])[site]
    for change in (
        replace(Function(lossy, site)),
        zero(site),
        mean(site, torch.ones(32)),
        add(Function(lossy, site), -2.0),
    ):
        seen: list[Tensor] = []
        look = {after: lambda x, seen=seen: seen.append(x) or x}
        tiny_host.logits(IDS_BS, MASK_BS, {**edits(change, where_BS=where_BS), **look})
        assert torch.equal(seen[0][:, :3], clean[:, :3])
        assert (seen[0][:, 3:] - clean[:, 3:]).abs().max() > 1e-2


def test_edits_apply_in_the_order_of_the_model_not_of_the_dict(tiny_host: HostModel) -> None:
    early, late = "blocks.1.hook_attn_out", "blocks.1.hook_resid_mid"
    nothing, ones = zero(early), mean(late, torch.ones(32))
    forwards = tiny_host.logits(IDS_BS, MASK_BS, edits(nothing, ones))
    backwards = tiny_host.logits(IDS_BS, MASK_BS, edits(ones, nothing))
    assert torch.equal(forwards, backwards)
    torch.testing.assert_close(forwards, tiny_host.logits(IDS_BS, MASK_BS, edits(ones)))


def test_in_place_models_do_not_spoil_what_an_edit_returned(tiny_tokenizer: Any) -> None:
    host = HostModel.wrap(tiny_model("falcon", len(tiny_tokenizer)), tiny_tokenizer, "falcon")
    kept = torch.ones(32)
    host.logits(IDS_BS, MASK_BS, {"blocks.0.hook_mlp_out": lambda x: kept.expand_as(x)})
    assert torch.equal(kept, torch.ones(32))


def test_edits_of_the_wrong_shape_are_refused(tiny_host: HostModel) -> None:
    with pytest.raises(ModelError, match=r"blocks.0.hook_mlp_out returned \(2, 10, 31\)"):
        tiny_host.logits(IDS_BS, MASK_BS, {"blocks.0.hook_mlp_out": lambda x: x[..., :-1]})
