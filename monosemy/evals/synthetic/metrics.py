"""How far a dictionary is from the one that made the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from monosemy.saes.base import SAE


class Matching(NamedTuple):
    """One to one; the smaller of both sides is matched in full."""

    features: Tensor
    """int64 ``[pairs]``, rising: true features."""
    latents: Tensor
    """int64 ``[pairs]``: the learned row matched with each."""
    cosines: Tensor
    """``[pairs]``: theirs."""

    @property
    def mcc(self) -> float:
        """Mean cosine of matched pairs (arXiv 2505.20254, there of magnitudes)."""
        return float(self.cosines.mean())


def cosines(true_FD: Tensor, learned_GD: Tensor) -> Tensor:
    """``[F, G]``; 0 where a row is 0."""
    return F.normalize(true_FD.float(), dim=1) @ F.normalize(learned_GD.float(), dim=1).T


def match(true_FD: Tensor, learned_GD: Tensor, signed: bool = True) -> Matching:
    """The one-to-one matching of largest total cosine (Hungarian method).

    ``signed=False`` takes the magnitudes of cosines, as SAELens does; codes are never negative, so
    that a row that points the other way is no feature, and the sign counts here.
    """
    cosines_FG = cosines(true_FD.detach().cpu(), learned_GD.detach().cpu())
    cosines_FG = cosines_FG if signed else cosines_FG.abs()
    rows, columns = linear_sum_assignment(cosines_FG.numpy(), maximize=True)
    features, latents = torch.as_tensor(rows), torch.as_tensor(columns)
    return Matching(features, latents, cosines_FG[features, latents])


def mcc(true_FD: Tensor, learned_GD: Tensor, signed: bool = True) -> float:
    """Mean cosine of matched pairs, of which there are ``min(F, G)``."""
    return match(true_FD, learned_GD, signed).mcc


def uniqueness(true_FD: Tensor, learned_GD: Tensor) -> float:
    """Distinct features that are nearest to some learned row (by the size of the cosine), for each
    learned row: 1 where no two share one (SynthSAEBench, arXiv 2602.14687)."""
    nearest = cosines(true_FD, learned_GD).abs().argmax(0)
    return len(nearest.unique()) / len(nearest)


def absorption(
    true_FD: Tensor,
    learned_GD: Tensor,
    parent_of: Mapping[int, int],
    matching: Matching | None = None,
) -> float:
    """How much more a learned child points along its parent than the true child does: the mean of
    ``cos(learned child, true parent) - cos(true child, true parent)``.

    Where true parents and children are orthogonal that is the first cosine (Costa et al. 2025).
    ``parent_of``: feature by feature; children without a match are left out.  ``ValueError`` where
    none is left.
    """
    matching = matching or match(true_FD, learned_GD)
    latent_of = dict(zip(matching.features.tolist(), matching.latents.tolist(), strict=True))
    pairs = [(child, parent) for child, parent in parent_of.items() if child in latent_of]
    if not pairs:
        raise ValueError("no child of the hierarchy is matched")
    parents = F.normalize(true_FD[[parent for _, parent in pairs]], dim=1)
    children = F.normalize(true_FD[[child for child, _ in pairs]], dim=1)
    learned = F.normalize(learned_GD[[latent_of[child] for child, _ in pairs]], dim=1)
    return float(((learned - children) * parents).sum(1).mean())


class Firing(NamedTuple):
    """Means over the matched features that were active at all; 0 / 0 counts as 0."""

    precision: float
    """Share of the matched latent's firings on which the feature was active."""
    recall: float
    """Share of the feature's activity on which the matched latent fired."""
    f1: float
    """Mean of each feature's harmonic mean of both."""
    exact_support: float
    """Share of samples whose active latents are exactly those matched with the true ones."""
    shrinkage: float
    """Sum of the matched latent's activations over that of the true coefficients, where both are
    active; mean over features with such samples.  1 is none; NaN where no pair ever met."""
    judged: int
    """Features that were active at least once."""


class NearestFiring(NamedTuple):
    """Means over all latents, each against its nearest feature, as SAELens judges; a latent that
    never fires counts as 0.  Latents that share a feature are all credited with it."""

    precision: float
    recall: float
    f1: float


class TruthSums:
    """Sums over samples of known coefficients, from which all figures follow.

    ``true_FD``: the features, of any length: coefficients are multiplied by it, and activations by
    the decoder row's.  The SAE must take ``x`` in the units of ``coefficients @ true_FD``.
    """

    def __init__(self, sae: SAE, true_FD: Tensor) -> None:
        self.sae = sae
        self.true_FD = true_FD.detach().cpu().float()
        self.learned_GD = sae.W_dec.detach().cpu().float()
        self.matching = match(self.true_FD, self.learned_GD)
        pairs = len(self.matching.features)
        self.hits, self.fires, self.active = (torch.zeros(pairs).double() for _ in range(3))
        self.activations, self.coefficients = (torch.zeros(pairs).double() for _ in range(2))
        self.nearest_G = cosines(self.true_FD, self.learned_GD).abs().argmax(0)
        self.nearest = torch.zeros(3, sae.d_sae).double()
        """Of each latent: samples where it fires, where its nearest feature is active, and both."""
        self.fired = torch.zeros(sae.d_sae, dtype=torch.bool)
        self.samples = self.exact = self.latents = self.true_active = 0
        self.squared_error = self.squared_norm = 0.0
        self.total = torch.zeros(sae.d_out).double()

    @torch.no_grad()
    def add(self, x_ND: Tensor, truth_NF: Tensor) -> None:
        """Takes in activations and the coefficients that made them; > 0 is active."""
        codes = self.sae.encode(x_ND.to(self.sae.device))
        error = x_ND.double() - self.sae.decode(codes, x_ND.to(self.sae.device)).cpu().double()
        acts_NG = codes.dense(self.sae.d_sae).cpu()
        fires_NG = acts_NG > 0
        features, latents, _ = self.matching
        matched_NP, active_NP = fires_NG[:, latents], truth_NF[:, features] > 0
        both_NP = matched_NP & active_NP
        self.hits += both_NP.sum(0)
        self.fires += matched_NP.sum(0)
        self.active += active_NP.sum(0)
        active_NG = truth_NF[:, self.nearest_G] > 0
        counted = (fires_NG, active_NG, fires_NG & active_NG)
        self.nearest += torch.stack([each.sum(0) for each in counted])
        sizes = self.learned_GD.norm(dim=1)[latents], self.true_FD.norm(dim=1)[features]
        self.activations += (acts_NG[:, latents] * both_NP).sum(0) * sizes[0]
        self.coefficients += (truth_NF[:, features] * both_NP).sum(0) * sizes[1]
        same = (matched_NP == active_NP).all(1) & (fires_NG.sum(1) == matched_NP.sum(1))
        self.exact += int((same & ((truth_NF > 0).sum(1) == active_NP.sum(1))).sum())
        self.fired |= fires_NG.any(0)
        self.samples += len(x_ND)
        self.latents += int(fires_NG.sum())
        self.true_active += int((truth_NF > 0).sum())
        self.squared_error += float(error.pow(2).sum())
        self.squared_norm += float(x_ND.double().pow(2).sum())
        self.total += x_ND.double().sum(0)

    def firing(self) -> Firing:
        """Of matched latents against true activity, over all samples taken in."""
        judged = self.active > 0
        hits, fires, active = (each[judged] for each in (self.hits, self.fires, self.active))
        met = self.hits > 0
        ratio = self.activations[met] / self.coefficients[met]
        return Firing(
            float((hits / fires.clamp_min(1)).mean()),
            float((hits / active).mean()),
            float((2 * hits / (fires + active)).mean()),
            self.exact / max(self.samples, 1),
            float(ratio.mean()),
            int(judged.sum()),
        )

    def feature_f1(self) -> float:
        """Macro F1 over features, as many as a dictionary of this width can find at most: those
        matched, of which one that was never active or never told counts as 0."""
        f1 = 2 * self.hits / (self.fires + self.active).clamp_min(1)
        return float(f1.mean())

    def latent_firing(self) -> NearestFiring:
        """Of all latents against their nearest features (by the size of the cosine)."""
        fires, active, both = self.nearest
        precision, recall = both / fires.clamp_min(1), both / active.clamp_min(1)
        f1 = 2 * both / (fires + active).clamp_min(1)
        return NearestFiring(float(precision.mean()), float(recall.mean()), float(f1.mean()))

    def metrics(self) -> dict[str, float]:
        """mcc, uniqueness, the fields of ``Firing``, feature_f1, latent_f1, fvu, l0, true_l0,
        dead_share (latents that fired on none of these samples)."""
        variance = self.squared_norm - float(self.total.pow(2).sum()) / max(self.samples, 1)
        return {
            "mcc": self.matching.mcc,
            "uniqueness": uniqueness(self.true_FD, self.learned_GD),
            **self.firing()._asdict(),
            "feature_f1": self.feature_f1(),
            "latent_f1": self.latent_firing().f1,
            "fvu": self.squared_error / max(variance, 1e-30),
            "l0": self.latents / max(self.samples, 1),
            "true_l0": self.true_active / max(self.samples, 1),
            "dead_share": float((~self.fired).double().mean()),
        }
