"""Metrics on dictionaries and firings whose figures can be computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from monosemy.evals.synthetic.metrics import TruthSums, absorption, match, mcc, uniqueness
from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from monosemy.specs import SAESpec

EYE = torch.eye(4)


class Scripted(SAE):
    """Codes are given, whatever comes in."""

    def __init__(self, rows: Tensor, acts: Tensor) -> None:
        spec = SAESpec(architecture="topk", d_sae=len(rows), k=1)
        super().__init__(spec, rows.shape[1])
        self.W_dec.data = rows
        self.acts = acts

    def encode(self, x_ND: Tensor, budget: int | float | None = None) -> Codes:
        acts, self.acts = self.acts[: len(x_ND)], self.acts[len(x_ND) :]
        indices = torch.arange(self.d_sae).expand(len(x_ND), -1)
        return Codes(indices, acts)


def test_a_permuted_and_scaled_dictionary_is_the_same() -> None:
    order = torch.tensor([2, 0, 3, 1])
    learned = EYE[order] * torch.tensor([[3.0], [0.5], [1.0], [2.0]])
    matching = match(EYE, learned)
    assert torch.equal(order[matching.latents], matching.features)
    assert matching.mcc == pytest.approx(1.0)
    assert uniqueness(EYE, learned) == 1.0


def test_the_matching_is_the_best_sum_and_not_greedy() -> None:
    # Greedy takes (0, 0) at .8 and is left with (1, 1) at 0; the other pairing is worth more.
    true = EYE[:2]
    learned = torch.tensor([[0.8, 0.6, 0, 0], [0.6, 0, 0.8, 0]])
    matching = match(true, learned)
    assert matching.latents.tolist() == [1, 0]
    assert matching.mcc == pytest.approx((0.6 + 0.6) / 2)


def test_signs_count_unless_told_otherwise() -> None:
    learned = torch.stack([-EYE[0], EYE[1]])
    assert mcc(EYE[:2], learned) == pytest.approx((0 + 0) / 2)  # better than (-1 + 1) / 2: a tie
    assert mcc(EYE[:2], learned, signed=False) == pytest.approx(1.0)


@pytest.mark.parametrize("rows", [2, 6])
def test_the_smaller_side_is_matched_in_full(rows: int) -> None:
    learned = torch.cat([EYE, -EYE])[:rows]
    matching = match(EYE, learned)
    assert len(matching.features) == min(4, rows)
    assert matching.mcc == pytest.approx(1.0)
    assert torch.equal(matching.features, matching.latents)


def test_uniqueness_counts_latents_that_share_a_feature() -> None:
    learned = torch.tensor([[1, 0.1, 0, 0], [1, -0.1, 0, 0], [0, 0, 1, 0], [0, 0.2, 0, 1]])
    assert uniqueness(EYE, learned) == pytest.approx(3 / 4)
    assert uniqueness(EYE, EYE[:1].expand(5, -1)) == pytest.approx(1 / 5)


def test_absorption_is_the_cosine_with_an_orthogonal_parent() -> None:
    # Feature 1 is a child of 0, and its learned row leans 30 degrees towards it.
    angle = math.radians(30)
    learned = EYE.clone()
    learned[1] = torch.tensor([math.sin(angle), math.cos(angle), 0, 0])
    assert absorption(EYE, learned, {1: 0}) == pytest.approx(0.5)
    assert absorption(EYE, learned, {1: 0, 2: 0}) == pytest.approx(0.25)
    assert absorption(EYE, EYE, {1: 0, 2: 0}) == pytest.approx(0.0, abs=1e-7)


def test_absorption_does_not_count_what_true_features_share() -> None:
    true = EYE.clone()
    true[1] = torch.tensor([0.6, 0.8, 0, 0])
    assert absorption(true, true * 2, {1: 0}) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="no child"):
        absorption(true, true, {})


def test_firing_by_hand() -> None:
    truth = torch.tensor([[1.0, 0, 0, 0], [2, 2, 0, 0], [0, 4, 0, 0], [0, 0, 1, 0]])
    acts = torch.tensor(
        [
            [0.5, 0, 0, 0],  # exact
            [1.0, 0, 0, 0],  # misses feature 1
            [3.0, 3, 0, 0],  # a false alarm of 0
            [0, 0, 0, 0],  # misses feature 2
        ]
    )
    sums = TruthSums(Scripted(EYE.clone(), acts), EYE)
    sums.add(truth[:3], truth[:3])
    sums.add(truth[3:], truth[3:])
    firing = sums.firing()
    # Features 0, 1, 2 were active; 3 never was and is not judged.
    assert firing.judged == 3
    assert firing.precision == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert firing.recall == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert firing.f1 == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)
    assert firing.exact_support == pytest.approx(1 / 4)
    assert firing.shrinkage == pytest.approx((1.5 / 3 + 3 / 4) / 2)
    values = sums.metrics()
    assert values["l0"] == pytest.approx(4 / 4) and values["true_l0"] == pytest.approx(5 / 4)
    assert values["dead_share"] == pytest.approx(2 / 4)
    error = 0.25 + (1 + 4) + (9 + 1) + 1
    variance = float((truth - truth.mean(0)).pow(2).sum())
    assert values["fvu"] == pytest.approx(error / variance)


def test_lengths_of_rows_are_part_of_activations_and_coefficients() -> None:
    truth = torch.tensor([[1.0, 0, 0, 0], [0, 3, 0, 0]])
    acts = torch.tensor([[5.0, 0, 0, 0], [0, 15, 0, 0]])
    # Decoder rows of 0.2 and features of 2: 1 and 3 where 2 and 6 are true.
    sums = TruthSums(Scripted(EYE * 0.2, acts), EYE * 2)
    sums.add(truth * 2, truth)
    assert sums.firing().shrinkage == pytest.approx(0.5)


def test_a_latent_without_a_feature_spoils_the_support() -> None:
    truth = torch.tensor([[1.0, 0], [1.0, 0]])
    acts = torch.tensor([[1.0, 0, 0], [1.0, 0, 0.1]])
    rows = torch.eye(3)
    sums = TruthSums(Scripted(rows, acts), rows[:2])
    sums.add(truth @ rows[:2], truth)
    assert sums.firing().exact_support == pytest.approx(0.5)
    assert sums.firing().precision == pytest.approx(1.0)
