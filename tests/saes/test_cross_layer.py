"""Cross-layer transcoders: what they compute, by plain dense arithmetic, and what they say of
themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.evals.reconstruction import ReconstructionSums
from monosemy.saes.base import StepInfo
from monosemy.saes.codes import Codes
from monosemy.saes.cross_layer import CrossLayer
from monosemy.saes.registry import create
from monosemy.specs import ARCHITECTURES, CLTSpec, JumpReLUCLTSpec, TrainingSpec
from monosemy.training.trainer import SAETrainer
from tests.saes.planted_layers import Bridging

L, F, D_IN, D_OUT, N = 3, 8, 5, 4, 64
NONE = torch.zeros(0, dtype=torch.int64)
BOTH = pytest.mark.parametrize("incremental", [False, True], ids=["own", "shared"])


def made(name: str = "clt", incremental: bool = False, elsewhere: bool = True, **more: Any) -> Any:
    options: dict[str, Any] = {"d_sae": L * F, "places": L, "incremental": incremental, **more}
    if name == "clt":
        options.setdefault("k", 5)
    spec = ARCHITECTURES[name](**options)
    sae = create(spec, L * D_IN, L * D_OUT if elsewhere else None)
    sae.initialise(torch.Generator().manual_seed(1))
    assert isinstance(sae, CrossLayer)
    with torch.no_grad():
        for parameter in (sae.b_enc, sae.b_dec):
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
            )
    return sae


def inputs(width: int = L * D_IN, n: int = N, seed: int = 3) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def dense_matrices(sae: CrossLayer) -> tuple[Tensor, Tensor]:
    """``[d_in, d_sae]`` and ``[d_sae, d_out]``, put together block by block, with a graph."""
    width = sae.W_enc.shape[0]
    encoder = torch.zeros(sae.d_in, sae.d_sae)
    decoder = torch.zeros(sae.d_sae, sae.d_out)
    shared = sae.options.incremental
    for layer in range(sae.layers):
        own = slice(layer * sae.size, (layer + 1) * sae.size)
        encoder[layer * width : (layer + 1) * width, own] = sae.W_enc[:, own]
        for target in range(layer, sae.layers):
            to = slice(target * sae.decoder.width, (target + 1) * sae.decoder.width)
            if shared:
                share = (sae.layers - layer) ** -0.5
                decoder[own, to] = share * sae.decoder.matrices[target]
            else:
                at = (target - layer) * sae.decoder.width
                whole = sae.decoder.matrices[layer]
                decoder[own, to] = whole[:, at : at + sae.decoder.width]
    return encoder, decoder


@BOTH
def test_a_step_is_that_of_the_dense_matrices(incremental: bool) -> None:
    """Codes, reconstruction and all gradients, against ``[L d, L F]`` matrices and autograd."""
    sae = made(incremental=incremental, k=5, aux_coefficient=0.0)
    x, y = inputs(), inputs(L * D_OUT, seed=4)
    out = sae.training_pass(x, y, StepInfo(0, 10, NONE))
    (out.reconstruction - y).pow(2).sum().backward()
    ours = {name: value.grad.clone() for name, value in sae.named_parameters()}
    sae.zero_grad()
    encoder, decoder = dense_matrices(sae)
    pre = x @ encoder + sae.b_enc
    least = pre.flatten().topk(5 * N).values[-1]
    acts = torch.where(pre >= least, pre, 0.0).relu()
    wanted = acts @ decoder + sae.b_dec
    torch.testing.assert_close(out.reconstruction, wanted, rtol=1e-5, atol=1e-5)
    (wanted - y).pow(2).sum().backward()
    for name, value in sae.named_parameters():
        torch.testing.assert_close(ours[name], value.grad, rtol=1e-4, atol=1e-4, msg=name)
    assert int(out.fired_F.sum()) == 5 * N


@BOTH
def test_dense_passes_are_the_same_as_sparse_ones(incremental: bool) -> None:
    """Where many latents fire, and for dead ones, products are dense."""
    sae = made("clt_jumprelu", incremental)
    x = inputs()
    encoder, decoder = dense_matrices(sae)
    some = torch.tensor([0, 3, F, F + 1, 2 * F + 2, 3 * F - 1])
    pre = sae.dense_pre_activations(x, sae.b_enc, some)
    torch.testing.assert_close(pre, (x @ encoder + sae.b_enc)[:, some])
    torch.testing.assert_close(sae.dense_pre_activations(x, sae.b_enc), x @ encoder + sae.b_enc)
    acts = inputs(len(some), seed=5)
    torch.testing.assert_close(sae.dense_decoded(acts, some), acts @ decoder[some])
    whole = inputs(L * F, seed=6)
    torch.testing.assert_close(sae.dense_decoded(whole), whole @ decoder)
    torch.testing.assert_close(sae.decoder_rows(some), decoder[some].detach())
    rows, bias = sae.encoder_rows(some)
    torch.testing.assert_close(rows, encoder.T[some].detach())
    assert torch.equal(bias, sae.b_enc[some])
    only = torch.tensor([F + 2])  # the other layers have none
    torch.testing.assert_close(sae.dense_decoded(acts[:, :1], only), acts[:, :1] @ decoder[only])


@BOTH
def test_codes_of_a_layer_do_not_depend_on_later_ones(incremental: bool) -> None:
    sae = made(incremental=incremental)
    with torch.no_grad():
        sae.calibrate(inputs(seed=8))
        x = inputs()
        later = x.clone()
        later[:, 2 * D_IN :] += 100.0
        before, after = sae.encode(x).dense(L * F), sae.encode(later).dense(L * F)
        assert torch.equal(before[:, : 2 * F], after[:, : 2 * F])
        assert not torch.equal(before, after)
        one, other = sae(x), sae(later)
    assert torch.equal(one[:, : 2 * D_OUT], other[:, : 2 * D_OUT])


@BOTH
@pytest.mark.parametrize("name", ["clt", "clt_jumprelu"])
def test_scales_of_every_layer_fold_exactly(name: str, incremental: bool) -> None:
    sae = made(name, incremental).double()
    x = inputs().double()
    into = torch.tensor([0.5, 7.0, 3.0]).double().repeat_interleave(D_IN)
    out = torch.tensor([0.1, 2.0, 30.0]).double().repeat_interleave(D_OUT)
    with torch.no_grad():
        sae.calibrate(x * into)
        codes, wanted = sae.encode(x * into), sae(x * into) / out
        sae.rescale(into, out)
        folded = sae.encode(x)
        assert torch.equal(folded.indices, codes.indices)
        torch.testing.assert_close(sae(x), wanted, rtol=1e-6, atol=1e-6)


def test_gradients_reach_the_input() -> None:
    """Of codes as they are outside of training: what attribution and steering take."""
    sae = made()
    with torch.no_grad():
        sae.calibrate(inputs(seed=8))
    x = inputs().requires_grad_()
    codes = sae.encode(x)
    codes.values.sum().backward()
    encoder, _ = dense_matrices(sae)
    fires = codes.dense(L * F) > 0
    torch.testing.assert_close(x.grad, fires.float() @ encoder.T, rtol=1e-4, atol=1e-5)
    assert isinstance(codes, Codes)


def test_nothing_dense_is_stored() -> None:
    own, shared = made(), made(incremental=True)
    size = {
        name: sum(value.numel() for value in sae.decoder_parameters())
        for name, sae in (("own", own), ("shared", shared))
    }
    assert size["own"] == F * D_OUT * L * (L + 1) // 2
    assert size["shared"] == F * D_OUT * L
    assert own.W_enc.numel() == L * F * D_IN
    assert not hasattr(own, "W_dec")


def test_who_writes_what_is_reported() -> None:
    """Planted: layer 0 alone fires and writes 1, 2 and 2 at the three places."""
    sae = made()
    with torch.no_grad():
        sae.b_dec.zero_()
        for matrix in sae.decoder.matrices:
            matrix.zero_()
        first = sae.decoder.matrices[0].view(F, L, D_OUT)
        first[0, :, 0] = torch.tensor([1.0, 2.0, 2.0])
        sae.decoder.matrices[2][0, 0] = 3.0
    activity = torch.zeros(L * F, dtype=torch.float64)
    activity[0], activity[2 * F] = 6.0, 1.0
    figures = sae.figures(activity, ["a", "b", "c"])["cross_layer"]
    assert figures["own_share"] == pytest.approx({"a": 1.0, "b": 0.0, "c": 3 / 15})
    assert figures["written_by"]["c"] == pytest.approx([12 / 15, 0.0, 3 / 15])
    assert figures["norm_by_distance"] == pytest.approx([10 / 18, 4 / 18, 4 / 18])
    sums = ReconstructionSums(sae, {"a": slice(0, 4), "b": slice(4, 8), "c": slice(8, 12)})
    sums.add(inputs(), inputs(L * D_OUT, seed=4))
    assert set(sums.metrics()["cross_layer"]["own_share"]) == {"a", "b", "c"}


def test_a_steered_penalty_comes_to_the_wanted_l0() -> None:
    spec = JumpReLUCLTSpec(places=3, d_sae=96, target_l0=3.0, dead_after_tokens=10**9)
    world = Bridging(1)
    sae = create(spec, 3 * world.width, 3 * world.width)
    sae.initialise(torch.Generator().manual_seed(0))
    trainer = SAETrainer(sae, TrainingSpec())
    for step in range(500):
        x, y = (each * world.width**0.5 for each in world.batch(128))
        if step == 0:
            with torch.no_grad():
                sae.begin(x)
        trainer.step(x, step, 3e-3, 500, y)
    assert trainer.readings()["l0"] == pytest.approx(3.0, rel=0.1)
    with torch.no_grad():
        x = world.batch(4000)[0] * world.width**0.5
        sae.calibrate(x)
        assert float(sae.encode(x).l0().float().mean()) == pytest.approx(3.0, rel=0.01)


def test_what_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="must divide by the 3 layers"):
        CLTSpec(d_sae=40, places=3)
    with pytest.raises(ValueError, match="no ista_steps"):
        CLTSpec(ista_steps=1)
    with pytest.raises(ValueError, match="d_in \\(10\\) does not divide"):
        create(JumpReLUCLTSpec(d_sae=30, places=3), 10, 9)
    sae = made()
    with pytest.raises(DataError, match="of 3 layers reads"):
        sae.check_widths([5, 5, 6], [4, 4, 4])
    with pytest.raises(DataError, match="no cross-layer transcoder"):
        sae.saelens_export()
