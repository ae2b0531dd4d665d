"""Cross-layer transcoders in worlds whose circuits are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monosemy.evals.reconstruction import ReconstructionSums
from monosemy.saes.base import SAE
from monosemy.specs import BatchTopKSpec, CLTSpec, JumpReLUCLTSpec
from tests.saes.planted_layers import Bridging, Chain, fvus, trained

SIZES = [
    pytest.param(700, 256, id="reduced"),
    pytest.param(2500, 512, id="whole", marks=pytest.mark.campaign),
]


@torch.no_grad()
def fvus_at_l0(sae: SAE, x: Tensor, y: Tensor, l0: float) -> list[float]:
    """Of each layer of 48, at the one threshold that gives these tokens this L0: what training
    found for its own differs a little."""
    values = sae.encode(x, 0.0).values.flatten()
    limit = float(values.topk(round(l0 * len(x))).values[-1])
    codes = sae.encode(x, limit * 0.999999)
    assert float(codes.l0().float().mean()) == pytest.approx(l0, abs=0.02)
    layers = -1, 48
    error = (sae.decode(codes) - y).unflatten(1, layers).pow(2).sum((0, 2))
    return (error / (y - y.mean(0)).unflatten(1, layers).pow(2).sum((0, 2))).tolist()


@pytest.mark.parametrize(("steps", "batch"), SIZES)
def test_features_that_write_at_several_layers_need_one_latent_each(steps: int, batch: int) -> None:
    """At the L0 of the planted features (2.88), a transcoder for each layer lacks the latents that
    say again what earlier layers said."""
    spec = CLTSpec(places=3, d_sae=72, k=3, dead_after_tokens=20_000)
    clt = trained(spec, Bridging(1), steps, batch)
    each = BatchTopKSpec(d_sae=24, k=1, dead_after_tokens=20_000)
    # The last layer's is the one that is compared.
    layers = (0, 1, 2) if steps > 1000 else (2,)
    alone = {layer: trained(each, Bridging(1), steps, batch, layer) for layer in layers}
    world = Bridging(1)
    world.generator.manual_seed(99)
    x, y = (48**0.5 * each for each in world.batch(4000))
    ours = fvus_at_l0(clt, x, y, 2.88)
    for layer, sae in alone.items():
        own = slice(48 * layer, 48 * (layer + 1))
        theirs = fvus_at_l0(sae, x[:, own], y[:, own], 0.96)[0]
    assert all(value <= most for value, most in zip(ours, (0.05, 0.08, 0.12), strict=True)), ours
    assert theirs >= 3 * ours[2], (ours, theirs)


@pytest.mark.parametrize(("steps", "batch"), SIZES[1:])
def test_a_chain_of_steps_shortened_to_one_is_reported(steps: int, batch: int) -> None:
    """A penalty on activations has layer 0 write what layers 1 and 2 make: FVU does not show it,
    the own-layer share does."""
    options = {
        "sparsity": "tanh",
        "sparsity_coefficient": 0.04,  # .01 of each, as it is divided by the target
        "target_l0": 4.0,
        "initial_threshold": 0.1,
        "dead_after_tokens": 50_000,
    }
    spec = JumpReLUCLTSpec(places=3, d_sae=72, **options)
    names = ["y0", "y1", "y2"]
    world = Chain(1)
    clt = trained(spec, world, steps, batch)
    x, y = (48**0.5 * each for each in world.batch(4000))
    sums = ReconstructionSums(clt, dict.fromkeys(names, slice(0, 1)))
    sums.add(x, y)
    own = sums.metrics()["cross_layer"]["own_share"]
    assert max(fvus(clt, x, y, 48)) < 0.05
    assert own["y0"] == pytest.approx(1.0)
    assert own["y2"] < 0.1
    alone = trained(JumpReLUCLTSpec(places=1, d_sae=24, **options), world, steps, batch, layer=2)
    one = ReconstructionSums(alone, {"y2": slice(0, 48)})
    one.add(x[:, 96:], y[:, 96:])
    assert one.metrics()["cross_layer"]["own_share"] == {"y2": pytest.approx(1.0)}
    assert fvus(alone, x[:, 96:], y[:, 96:], 48)[0] < 0.05


@torch.no_grad()
def test_the_planted_worlds_are_what_they_say() -> None:
    x, y = Bridging(0).batch(3000)
    assert x.shape == y.shape == (3000, 144)
    x, y = Chain(0).batch(20_000)
    fires = (y[:, 96:].norm(dim=1) ** 2).mean()
    assert float(fires) == pytest.approx(6 * 0.0625, rel=0.05)
