"""The superposition toy of Liu et al. (2025, arXiv 2505.10465): a linear autoencoder that has to
keep n sparse features in m < n dimensions, and that shares them out as its weight decay says.

``x_i = u_i v_i``, ``u_i ~ Bernoulli(p_i)``, ``v_i ~ U(0, 2)``, ``p_i`` a power law with sum 1;
``h = x W``, ``y = relu(h W^T + b)``.  Frozen, its rows are the true features of ``h``: how far
features are in superposition is known and can be chosen.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from monosemy.evals.synthetic.metrics import TruthSums
from monosemy.saes.base import SAE

VALUE_SQUARE = 4 / 3
"""Mean of ``v_i^2``."""

_FINAL_RATE = 0.05


class Sample(NamedTuple):
    x_NM: Tensor
    """Hidden activations ``h``, what an SAE reads."""
    truth_NF: Tensor
    """The inputs ``x`` that made them: ``h = truth @ W_FM``."""


def firing_rates(n_features: int, skew: float, expected_l0: float = 1.0) -> Tensor:
    """``p_i ~ i^-skew`` with sum ``expected_l0``, ``[n_features]``; ``ValueError`` where one of
    them would reach 1."""
    rates = torch.arange(1, n_features + 1, dtype=torch.float64) ** -skew
    rates = rates * (expected_l0 / rates.sum())
    if float(rates[0]) >= 1:
        raise ValueError(f"the commonest feature would fire at a rate of {float(rates[0]):.2f}")
    return rates.float()


class SuperpositionToy:
    """Weights ``W_FM [n_features, width]`` and bias ``b_F``, random until ``train``.

    ``decay`` (-1 to 1) is the knob: above 0 rows shrink, rare features are given up and those kept
    do not overlap (weak superposition); below 0 every row is driven to unit length and all features
    share the space (strong superposition).
    """

    def __init__(
        self, n_features: int, width: int, skew: float = 1.0, decay: float = -1.0, seed: int = 0
    ) -> None:
        if not -1 <= decay <= 1:
            raise ValueError(f"decay is between -1 and 1, not {decay}")
        self.rates_F = firing_rates(n_features, skew)
        self.decay = decay
        self.generator = torch.Generator().manual_seed(seed)
        start = torch.randn(n_features, width, generator=self.generator)
        self.W_FM = start / width**0.5
        self.b_F = torch.randn(n_features, generator=self.generator)

    def inputs(self, n: int) -> Tensor:
        """``x``, ``[n, n_features]``."""
        active = torch.rand(n, len(self.rates_F), generator=self.generator) < self.rates_F
        return active * torch.rand(n, len(self.rates_F), generator=self.generator) * 2

    def sample(self, n: int) -> Sample:
        x_NF = self.inputs(n)
        return Sample(x_NF @ self.W_FM, x_NF)

    def output(self, hidden_NM: Tensor) -> Tensor:
        """What the toy itself reads back, ``[n, n_features]``."""
        return (hidden_NM @ self.W_FM.T + self.b_F).relu()

    @torch.no_grad()
    def loss(self, samples: int = 100_000, batch: int = 10_000) -> float:
        """Mean over samples of ``sum_i (y_i - x_i)^2``."""
        total = 0.0
        for start in range(0, samples, batch):
            x_NF = self.inputs(min(batch, samples - start))
            total += float((self.output(x_NF @ self.W_FM) - x_NF).double().pow(2).sum())
        return total / samples

    def train(
        self, steps: int, batch: int = 512, rate: float = 1e-2, warmup_share: float = 0.1
    ) -> None:
        """Adam on fresh batches: linear warm-up, then cosine to a twentieth of ``rate``."""
        weights, bias = self.W_FM.requires_grad_(), self.b_F.requires_grad_()
        optimiser = torch.optim.Adam([weights, bias], lr=rate, fused=True)
        warmup = max(1, round(steps * warmup_share))
        for step in range(steps):
            now = rate * _schedule(step, steps, warmup)
            for group in optimiser.param_groups:
                group["lr"] = now
            x_NF = self.inputs(batch)
            hidden = x_NF @ weights
            (torch.relu(hidden @ weights.T + bias) - x_NF).pow(2).sum().div(batch).backward()  # type: ignore[no-untyped-call]
            self.decay_rows(now)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.W_FM, self.b_F = weights.detach(), bias.detach()

    @torch.no_grad()
    def decay_rows(self, rate: float) -> None:
        """One step of the decoupled decay: ``W (1 - rate decay)`` where ``decay >= 0``, else every
        row moves towards unit length by ``rate |decay| (1 - |W_i|)``."""
        if self.decay >= 0:
            self.W_FM *= 1 - rate * self.decay
            return
        norms = self.W_FM.norm(dim=1, keepdim=True).clamp_min(1e-12)
        self.W_FM += rate * self.decay * self.W_FM * (1 - 1 / norms)

    @property
    def represented(self) -> Tensor:
        """Which features the toy keeps, bool ``[n_features]``: rows longer than one half."""
        return self.W_FM.norm(dim=1) > 0.5

    def overlap(self) -> float:
        """Mean squared cosine of two represented features: about ``1 / width`` where they share
        the space evenly; 0 with fewer than two."""
        rows = self.W_FM[self.represented]
        if len(rows) < 2:
            return 0.0
        rows = rows / rows.norm(dim=1, keepdim=True)
        squares = (rows @ rows.T).pow(2)
        pairs = len(rows) * (len(rows) - 1)
        return float((squares.sum() - squares.diag().sum()) / pairs)

    def tail(self) -> float:
        """The loss of giving up all but the ``k`` commonest features, ``k`` the number represented
        (weak superposition's law): ``4/3 sum_{i > k} p_i``."""
        kept = int(self.represented.sum())
        return VALUE_SQUARE * float(self.rates_F[kept:].double().sum())


def _schedule(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    turned = (step - warmup) / max(1, steps - warmup)
    return _FINAL_RATE + (1 - _FINAL_RATE) * (1 + math.cos(math.pi * turned)) / 2


def exponent(widths: list[int], losses: list[float]) -> float:
    """``a`` of ``loss ~ width^-a``, by least squares on logarithms."""
    x = torch.tensor(widths, dtype=torch.float64).log()
    y = torch.tensor(losses, dtype=torch.float64).log()
    x = x - x.mean()
    return -float((x * y).sum() / (x * x).sum())


class Recovery(NamedTuple):
    """What an SAE found of a frozen toy, knowing nothing but ``h``."""

    cosines_F: Tensor
    """With the matched latent, by rank of frequency; 0 where a feature has none."""
    represented_mcc: float
    """Mean cosine over the features the toy represents: only those can be found."""
    loss_ratio: float
    """Mean of ``sum_i (z_i - x_i)^2`` over the toy's own loss on the same samples, where ``z_i`` is
    the matched latent's activation in units of ``x_i``: 1 is as good as the decoder that was
    trained with ``W``, for which interference is the floor."""
    sums: TruthSums
    """All else: ``metrics`` over the samples."""


@torch.no_grad()
def recovery(sae: SAE, toy: SuperpositionToy, samples: int = 20_000, batch: int = 2000) -> Recovery:
    """Of an SAE that takes ``h`` as the toy gives it.  Features that are not represented count in
    ``loss_ratio`` with an estimate of 0: their rows are too short to read anything by."""
    sums = TruthSums(sae, toy.W_FM)
    cosines_F = torch.zeros(len(toy.W_FM))
    cosines_F[sums.matching.features] = sums.matching.cosines
    known = toy.represented[sums.matching.features]
    features, latents = sums.matching.features[known], sums.matching.latents[known]
    unit = sae.W_dec.norm(dim=1)[latents] / toy.W_FM.norm(dim=1)[features]
    error = own = 0.0
    for start in range(0, samples, batch):
        h_NM, x_NF = toy.sample(min(batch, samples - start))
        sums.add(h_NM, x_NF)
        estimate = torch.zeros_like(x_NF)
        estimate[:, features] = sae.encode(h_NM).dense(sae.d_sae)[:, latents] * unit
        error += float((estimate - x_NF).double().pow(2).sum())
        own += float((toy.output(h_NM) - x_NF).double().pow(2).sum())
    represented = float(cosines_F[toy.represented].mean())
    return Recovery(cosines_F, represented, error / max(own, 1e-30), sums)
