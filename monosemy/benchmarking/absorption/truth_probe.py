"""Linear probes that tell letters in the host model's own activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

_PENALTIES = (1e-4, 1e-3, 1e-2)
"""Of squared weights of columns of unit variance."""
_ITERATIONS = 200

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelledWords:
    """Activations ``[n, d]`` with the letter of each, ``[n]``."""

    x_ND: Tensor
    letter_N: Tensor

    def shuffled(self, seed: int) -> LabelledWords:
        """The same with the letters of others."""
        generator = torch.Generator().manual_seed(seed % 2**63)
        order_N = torch.randperm(len(self.letter_N), generator=generator)
        return LabelledWords(self.x_ND, self.letter_N[order_N])


@dataclass(frozen=True)
class TruthProbes:
    """One probe for each of L letters: ``x . direction + bias > 0`` says that it is the letter."""

    weight_LD: Tensor
    """float64"""
    bias_L: Tensor
    """With the threshold that tells the letter best among words to choose by."""

    @property
    def unit_LD(self) -> Tensor:
        """Directions of length 1."""
        return F.normalize(self.weight_LD, dim=1)

    def says(self, x_ND: Tensor) -> Tensor:
        """bool ``[n, L]``"""
        return x_ND.double() @ self.weight_LD.T + self.bias_L > 0

    def f1(self, words: LabelledWords) -> Tensor:
        """``[L]``"""
        is_NL = F.one_hot(words.letter_N, len(self.bias_L)).bool()
        return f1(self.says(words.x_ND), is_NL)


def f1(says_NL: Tensor, is_NL: Tensor) -> Tensor:
    """``[L]`` float64: harmonic mean of precision and recall; 0 where nothing is right."""
    hits_L = (says_NL & is_NL).sum(0).double()
    return 2 * hits_L / (says_NL.sum(0) + is_NL.sum(0)).clamp_min(1)


def fit_probes(fit: LabelledWords, chosen_by: LabelledWords, letters: int) -> TruthProbes:
    """Logistic regression of each letter against all others, all words of equal weight.

    Penalty (one for all letters, by likelihood) and thresholds (by F1, letter by letter) are those
    that are best among the words ``chosen_by``.  Weights for balance would leave F1 to where
    thresholds happen to lie: rare letters then fail a gate that they pass here.
    """
    mean_D, std_D = fit.x_ND.double().mean(0), fit.x_ND.double().std(0)
    std_D = torch.where(std_D > 1e-9 * std_D.max().clamp_min(1e-300), std_D, torch.inf)
    fitted_ND = (fit.x_ND.double() - mean_D) / std_D
    other_ND = (chosen_by.x_ND.double() - mean_D) / std_D
    labels_NL, other_NL = (F.one_hot(each.letter_N, letters).double() for each in (fit, chosen_by))
    best: tuple[float, Tensor, Tensor] | None = None
    for penalty in _PENALTIES:
        weight_LD, bias_L = _logistic(fitted_ND, labels_NL, penalty)
        logits_NL = other_ND @ weight_LD.T + bias_L
        loss = float(F.binary_cross_entropy_with_logits(logits_NL, other_NL))
        if best is None or loss < best[0]:
            best = loss, weight_LD, bias_L
    assert best is not None
    _, weight_LD, bias_L = best
    cut_L = _thresholds(other_ND @ weight_LD.T + bias_L, other_NL.bool())
    raw_LD = weight_LD / std_D
    return TruthProbes(raw_LD, bias_L - raw_LD @ mean_D - cut_L)


def _logistic(x_ND: Tensor, labels_NL: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    weight_LD = x_ND.new_zeros(labels_NL.shape[1], x_ND.shape[1], requires_grad=True)
    share_L = labels_NL.mean(0).clamp(1e-6, 1 - 1e-6)
    bias_L = torch.logit(share_L).detach().clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS(
        [weight_LD, bias_L], max_iter=_ITERATIONS, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits_NL = x_ND @ weight_LD.T + bias_L
        # Letters do not share weights: the sum over them is minimised by each one's minimum.
        misfit = F.binary_cross_entropy_with_logits(logits_NL, labels_NL) * labels_NL.shape[1]
        whole = misfit + penalty / 2 * weight_LD.square().sum()
        whole.backward()
        return whole

    with torch.enable_grad():
        optimiser.step(loss)
    return weight_LD.detach(), bias_L.detach()


def _thresholds(logits_NL: Tensor, is_NL: Tensor) -> Tensor:
    """``[L]``: between two logits, where F1 is largest; the highest of equals."""
    sorted_NL, order_NL = logits_NL.sort(dim=0, descending=True, stable=True)
    hits_NL = is_NL.gather(0, order_NL).double().cumsum(0)
    said_N1 = torch.arange(1, len(logits_NL) + 1, dtype=torch.float64)[:, None]
    f1_NL = 2 * hits_NL / (said_N1 + is_NL.sum(0))
    best_L = f1_NL.argmax(0)
    last_L = best_L + 1 == len(logits_NL)
    above_L = sorted_NL.gather(0, best_L[None])[0]
    below_L = sorted_NL.gather(0, (best_L + 1).clamp_max(len(logits_NL) - 1)[None])[0]
    return torch.where(last_L, above_L - 1.0, (above_L + below_L) / 2)
