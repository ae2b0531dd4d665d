"""SAELens' synthetic models as a source of data we did not design, and its metrics beside ours.

Its generator (Zipfian firing, hierarchies, correlations; SynthSAEBench, arXiv 2602.14687) and its
evaluation were written by others for their own SAEs: where both sides agree, neither the data nor
the figures favour ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from sae_lens.synthetic import SyntheticModel, eval_sae_on_synthetic_data
from sae_lens.training.activation_scaler import ActivationScaler
from torch import Tensor

from monosemy.evals.synthetic.metrics import TruthSums, match
from monosemy.saes.base import SAE

_SCALE_SAMPLES = 4096


class Sample(NamedTuple):
    x_ND: Tensor
    """Activations: ``truth @ features_FD + bias``."""
    truth_NF: Tensor
    """Coefficients, 0 where a feature is not active; dense."""


class RefereeData:
    """Batches of a synthetic model, from a random state of its own.

    Activations, coefficients and bias are multiplied by ``scale``, which brings the mean norm of
    activations to ``sqrt(d)`` as in our training.  Features are unit rows ``features_FD``.

    SAELens draws them from a generator seeded with ``model.cfg.seed``, in the shape of a decoder:
    an SAE initialised from that very seed starts at the truth.
    """

    def __init__(self, model: SyntheticModel, seed: int) -> None:
        self.model = model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._state = torch.get_rng_state()
        self.features_FD = model.feature_dict.feature_vectors.detach()
        self.scale = 1.0
        x_ND, _ = self.sample(_SCALE_SAMPLES)
        self.scale = float(x_ND.shape[1] ** 0.5 / x_ND.norm(dim=1).mean())

    def sample(self, n: int) -> Sample:
        """The next ``n`` samples.  SAELens draws from torch's global generator, which is left as
        it was."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._state)
            x_ND, truth_NF = self.model.sample_with_features(n)
            self._state = torch.get_rng_state()
        return Sample(x_ND * self.scale, truth_NF * self.scale)

    def parent_of(self) -> dict[int, int]:
        """Feature by feature, each child's parent in the hierarchy; empty where there is none."""
        parents: dict[int, int] = {}
        waiting = list(self.model.hierarchy.roots) if self.model.hierarchy else []
        while waiting:
            node = waiting.pop()
            for child in node.children:
                if node.feature_index is not None and child.feature_index is not None:
                    parents[child.feature_index] = node.feature_index
                waiting.append(child)
        return parents


class Verdict(NamedTuple):
    ours: dict[str, float]
    """``TruthSums.metrics``, and ``mcc_unsigned`` by SAELens' definition."""
    theirs: dict[str, float]
    """``SyntheticDataEvalResult``: mcc, uniqueness (distinct nearest features per latent),
    explained_variance, shrinkage (of output norms), sae_l0, true_l0, dead_latents; and over all
    latents, each against its nearest feature, precision, recall, f1_score, accuracy."""


def evaluate(sae: SAE, data: RefereeData, samples: int, batch: int = 1024) -> Verdict:
    """Both evaluations of one SAE on the same ``samples`` fresh samples.

    They differ by design: ours matches features one to one and judges the features, theirs judges
    every latent, dead ones too, against whatever feature is nearest.
    """
    sums = TruthSums(sae, data.features_FD)
    truths = []
    for start in range(0, samples, batch):
        x_ND, truth_NF = data.sample(min(batch, samples - start))
        sums.add(x_ND, truth_NF)
        truths.append((truth_NF / data.scale).to_sparse())
    ours = sums.metrics()
    ours["mcc_unsigned"] = match(sums.true_FD, sums.learned_GD, signed=False).mcc
    result = eval_sae_on_synthetic_data(
        cast(Any, _AsTheirs(sae)),
        data.model.feature_dict,
        cast(Any, _Replay(truths)),
        num_samples=samples,
        batch_size=batch,
        activation_scaler=ActivationScaler(data.scale),
    )
    values = result.to_log_dict()
    return Verdict(
        ours, {name.removeprefix("classification/"): float(values[name]) for name in values}
    )


class _Replay:
    """What SAELens asks of an activation generator, for coefficients that were drawn before."""

    def __init__(self, truths: list[Tensor]) -> None:
        self.left = iter(truths)

    def sample(self, n: int) -> Tensor:
        truth_NF = next(self.left).to_dense()
        if len(truth_NF) != n:
            raise ValueError("the batches asked for are not those that were drawn")
        return truth_NF


class _AsTheirs:
    """What SAELens asks of an SAE: dense latents in, dense latents out."""

    def __init__(self, sae: SAE) -> None:
        self.sae = sae
        self.W_dec = sae.W_dec.detach()

    def eval(self) -> None:
        """There is no other mode."""

    def encode(self, x_ND: Tensor) -> Tensor:
        return self.sae.encode(x_ND).dense(self.sae.d_sae)

    def decode(self, latents_NG: Tensor) -> Tensor:
        return latents_NG @ self.W_dec + self.sae.b_dec.detach()
