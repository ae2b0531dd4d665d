"""What stands for an attribute, what is occluded and what is split, where that is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from monosemy.circuits.supervised.attribute_f1 import Half, attribute_f1, fires
from monosemy.circuits.supervised.coders import Coder
from monosemy.circuits.supervised.dictionary import SupervisedDictionary
from monosemy.circuits.supervised.interpretation import interpret
from monosemy.circuits.supervised.sections import Method
from monosemy.saes.codes import Codes
from monosemy.specs.rest.tasks import Interpretation
from tests.support.planted_attributes import IOI_LIKE, Planted, planted


def told(world: Planted, coder: Coder) -> dict[str, Interpretation]:
    """What is found at one node, by attribute."""
    fit, test = world.half(True), world.half(False)
    dictionary = SupervisedDictionary.fit(*fit, world.values)
    method = Method("planted", "sae", "x", {("site", 0): coder})
    done: list[int] = []
    found = interpret(method, ("site", 0), "end", dictionary, fit, test, 200, 0, done.append)
    assert sum(done) == len(world.values.names)
    return {each.attribute: each for each in found}


def reader(rows_UD: Tensor, mean_D: Tensor, keep: int) -> Coder:
    """Takes the ``keep`` rows that an activation lies along most: an SAE that has just these."""
    unit_UD = rows_UD / rows_UD.norm(dim=1, keepdim=True)

    def apply(x_ND: Tensor) -> Codes:
        values, indices = ((x_ND - mean_D) @ unit_UD.T).topk(keep, dim=1)
        return Codes(indices, values.clamp_min(0))

    return Coder(unit_UD, mean_D, apply)


def test_an_oracle_finds_every_attribute() -> None:
    world = planted(IOI_LIKE, noise=0.01)
    dictionary = SupervisedDictionary.fit(world.acts_ND, world.codes_NK, world.values, "mse")

    def apply(x_ND: Tensor) -> Codes:
        # Only the labels' codes: found by the nearest sum of codes of each attribute in turn.
        left_ND = x_ND - dictionary.mean_D
        picked = []
        for name in ("io", "pos", "s"):
            number = world.values.names.index(name)
            first, last = world.values.starts[number : number + 2]
            code_N = torch.cdist(left_ND, dictionary.rows_UD[first:last]).argmin(1) + first
            left_ND = left_ND - dictionary.rows_UD[code_N]
            picked.append(code_N)
        return Codes(torch.stack(picked, 1), torch.ones(len(x_ND), 3))

    found = told(world, Coder(dictionary.rows_UD, dictionary.mean_D, apply))
    for name, each in found.items():
        assert each.verdict == "found", name
        assert each.single.value is not None and each.single.value > 0.9
        assert each.single.low <= each.single.value <= each.single.high
        assert each.supervised.value is not None and each.supervised.value > 0.95
        assert each.by is None
        assert each.union_features == pytest.approx(1, abs=0.3)
    assert found["io"].null < 0.15 < found["io"].single.low


def test_the_shorter_attribute_is_occluded_by_the_longer_one() -> None:
    """The first toy of methods 6.5: with one latent a token, only the longer one is worth it."""
    world = planted({"long": (12, 1.0), "short": (12, 0.4)}, noise=0.01)
    found = told(world, reader(world.rows_UD[:12], world.mean_D, 1))

    assert found["long"].verdict == "found" and found["long"].single.low > 0.9
    assert found["short"].verdict == "occluded"
    assert found["short"].by == "long"
    assert found["short"].supervised.low > 0.9  # it is there
    assert found["short"].code_length < found["long"].code_length


def test_a_value_in_many_pieces_is_split() -> None:
    """The second toy of methods 6.5: two clouds, each covered by many latents."""
    generator = torch.Generator().manual_seed(0)
    world = planted({"side": (2, 2.0)}, d=20, n=4000, noise=0.3)
    pieces = torch.randn(40, 20, generator=generator)
    sides_2D = world.mean_D + world.rows_UD + (world.acts_ND.mean(0) - world.mean_D)

    def apply(x_ND: Tensor) -> Codes:
        # Latent j of a side fires where the noise is nearest to its piece.
        side_N = torch.cdist(x_ND, sides_2D).argmin(1)
        piece_N = torch.cdist((x_ND - sides_2D[side_N]) / 0.3, pieces).argmin(1)
        return Codes((side_N * 40 + piece_N)[:, None], torch.ones(len(x_ND), 1))

    found = told(world, Coder(torch.randn(80, 20, generator=generator), world.mean_D, apply))[
        "side"
    ]
    assert found.verdict == "split"
    assert found.single.high < 0.6 < found.union.low
    assert found.union_features > 4


def test_an_attribute_that_is_not_there_is_unread() -> None:
    world = planted({"there": (4, 1.0), "absent": (6, 0.0001)}, noise=0.05)
    found = told(world, reader(world.rows_UD[:4], world.mean_D, 1))
    assert found["there"].verdict == "found"
    assert found["absent"].verdict == "unread"


def test_a_feature_that_always_fires_finds_nothing() -> None:
    """Of two values each has an F1 of 2/3 with a feature that always fires."""
    world = planted({"pos": (2, 1.0)}, noise=0.05)

    def apply(x_ND: Tensor) -> Codes:
        return Codes(torch.zeros(len(x_ND), 1, dtype=torch.long), torch.ones(len(x_ND), 1))

    found = told(world, Coder(torch.ones(3, 64), world.mean_D, apply))["pos"]
    assert found.single.value == pytest.approx(2 / 3, abs=0.03)
    assert found.single.value == pytest.approx(found.always, abs=1e-6)
    assert found.verdict == "occluded" and found.by is None


def test_features_are_chosen_on_one_half_and_told_of_the_other() -> None:
    """Random features: the best of 400 does well where it was chosen, and no better than shuffled
    labels elsewhere."""
    rng = np.random.default_rng(0)

    def half(n: int) -> Half:
        on = torch.from_numpy(rng.random((n, 400)) < 0.2)
        codes = Codes(torch.arange(400).expand(n, 400), on.float())
        return Half(fires(codes, 400), rng.integers(0, 6, n))

    fit, test = half(60), half(600)
    chosen = attribute_f1(fit, fit, 6, resamples=200)
    told_of = attribute_f1(fit, test, 6, resamples=200)
    assert chosen.single.value is not None and told_of.single.value is not None
    assert chosen.single.value > told_of.single.value + 0.15
    assert abs(told_of.single.value - told_of.null) < 0.05
    assert told_of.single.low < told_of.null_high


def test_a_feature_of_several_values_is_found_with_them() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 8, 1200)
    on = np.isin(labels, [1, 4, 6])
    codes = Codes(torch.zeros(1200, 1, dtype=torch.long), torch.from_numpy(on).float()[:, None])
    both = fires(codes, 5)
    found = attribute_f1(Half(both[:800], labels[:800]), Half(both[800:], labels[800:]), 8)
    assert found.values_feature == 0
    assert found.values_union == (1, 4, 6)
    assert found.values_f1 == 1.0


def test_f1_counts_by_hand() -> None:
    # Feature 0 fires on prompts 0, 1, 2; values are a a b b.
    codes = Codes(torch.zeros(4, 1, dtype=torch.long), torch.tensor([1.0, 1, 1, 0])[:, None])
    half = Half(fires(codes, 2), np.array([0, 0, 1, 1]))
    found = attribute_f1(half, half, 2, resamples=100)
    assert found.single_V.tolist() == [
        pytest.approx(2 * 2 / (3 + 2)),
        pytest.approx(2 * 1 / (3 + 2)),
    ]
    assert found.unions[0] == (0,)
