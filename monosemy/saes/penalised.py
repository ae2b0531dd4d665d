"""What the architectures share that a penalty keeps sparse: ReLU, Gated and JumpReLU.

Nothing fixes how many latents fire in training.  Where few do, a training pass goes through those
alone, as that of top-k architectures does; where many do, as early on without a target L0, through
all pre-activations ``[n, d_sae]``.  Both are exact: latents below their threshold have neither a
value nor a gradient.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.saes.base import SAE, TrainingPass
from monosemy.saes.codes import Codes
from monosemy.saes.ragged import Entries, entry_values
from monosemy.saes.selection import batch_top_k, entries_above, largest_of_batch
from monosemy.saes.step_group import ALONE, StepGroup

START_L0 = 4.0
"""Times the wanted L0: so dense is the start, half of all latents without it."""

DENSE_SHARE = 1 / 32
"""Of all latents: where more than these fire, dense products are the faster ones."""

_LIFTS = 16
"""Attempts to find as many latents as are wanted, each with biases raised by twice as much."""


@dataclass(frozen=True)
class PreActivations:
    """Those of a batch of ``n`` tokens that can fire or get a gradient."""

    values: Tensor
    """``[E]`` of the entries, or ``[n, d_sae]`` of all."""
    entries: Entries | None
    n: int

    def of_latents(self, vector_F: Tensor) -> Tensor:
        """What broadcasts with ``values`` to each one's own element of ``[d_sae]``."""
        return vector_F if self.entries is None else vector_F[self.entries.latents]

    def per_token(self, quantity: Tensor) -> Tensor:
        """The mean over tokens of the sum over latents."""
        return quantity.sum() / self.n

    @torch.no_grad()
    def fired(self, acts: Tensor, d_sae: int) -> Tensor:
        """On how many tokens each latent fired, float ``[d_sae]``."""
        fired = (acts > 0).float()
        if self.entries is None:
            return fired.sum(0)
        return torch.zeros(d_sae, device=acts.device).index_add_(0, self.entries.latents, fired)


class PenalisedSAE(SAE):
    """Base of ReLU, Gated and JumpReLU."""

    def reduced_precision(self, x_ND: Tensor) -> AbstractContextManager[object]:
        """Dense products in ``product_dtype`` where that is not the weights' own."""
        half = self.product_dtype is not None and self.product_dtype != self.W_enc.dtype
        return torch.autocast(x_ND.device.type, dtype=self.product_dtype, enabled=half)

    def pre_activations(self, x_ND: Tensor, bias_F: Tensor, least_F: Tensor) -> PreActivations:
        """``centred @ W_enc + bias`` where it exceeds ``least`` (a scalar or ``[d_sae]``), or
        everywhere."""
        centred_ND = self.encoder_input(x_ND)
        dtype = self.product_dtype or self.W_enc.dtype
        most = int(DENSE_SHARE * self.d_sae * len(x_ND))
        positions = entries_above(centred_ND, self.W_enc, bias_F, least_F, dtype, most)
        if positions is not None:
            entries = entry_values(Entries(*positions), centred_ND, self.W_enc, bias_F)
            return PreActivations(entries.values, entries, len(x_ND))
        with self.reduced_precision(x_ND):
            pre_NF = self.dense_pre_activations(x_ND, bias_F)
        return PreActivations(pre_NF.to(bias_F.dtype), None, len(x_ND))

    def reconstruction(self, pre: PreActivations, acts: Tensor, x_ND: Tensor) -> Tensor:
        with self.reduced_precision(acts):
            if pre.entries is None:
                product = self.dense_decoded(acts)
            else:
                product = self.decoded(pre.entries._replace(values=acts), pre.n)
        return self.completed(product.to(self.b_dec.dtype), x_ND)

    def passed(
        self,
        reconstruction_ND: Tensor,
        pre: PreActivations,
        acts: Tensor,
        terms: dict[str, Tensor],
    ) -> TrainingPass:
        fired_F = pre.fired(acts, self.d_sae)
        return TrainingPass(reconstruction_ND, fired_F, fired_F.sum() / pre.n, terms)

    @torch.no_grad()
    def level(self, x_ND: Tensor, l0: float) -> float:
        """The value that ``l0`` of a token's products ``centred @ W_enc`` exceed on average."""
        total = max(1, round(l0 * len(x_ND)))
        nothing = self.W_enc.new_zeros(self.d_sae)
        _, values = batch_top_k(
            self.encoder_input(x_ND), self.W_enc, nothing, total, self.W_enc.dtype
        )
        return float(torch.where(values > 0, values, torch.inf).min())

    @torch.no_grad()
    def limit(self, x_ND: Tensor, W_enc: Tensor, b_enc: Tensor, l0: float) -> float:
        """The value that ``l0`` of a token's ``centred @ W_enc + b_enc`` exceed on average, over
        the tokens of all processes; 0 where fewer than that are positive."""
        total = max(1, round(l0 * len(x_ND) * self.group.processes))
        values = largest_of_batch(self.encoder_input(x_ND), W_enc, b_enc, total, W_enc.dtype)[2]
        chosen = self.group.chosen(values, total)
        values = values if chosen is None else values[chosen]
        count = self.group.sum(torch.tensor(float(len(values)), device=values.device))
        least = self.group.least(values.min() if len(values) else values.new_tensor(torch.inf))
        # The smallest one itself shall exceed it.
        return float(torch.nextafter(least, torch.zeros_like(least))) if count >= total else 0.0

    @torch.no_grad()
    def surplus(self, x_ND: Tensor, b_enc: Tensor, l0: float) -> float:
        """What to take from every bias of ``centred @ W_enc + b_enc`` so that ``l0`` of a token's
        are positive on average; negative where too few are."""
        lift, step = 0.0, max(float(b_enc.abs().mean()), 1e-3)
        for doublings in range(_LIFTS):
            limit = self.limit(x_ND, self.W_enc, b_enc + lift, l0)
            if limit > 0:
                break
            lift = step * 2.0**doublings / 4
        return limit - lift

    def bounded(self, codes: Codes, budget: int | float | None) -> Codes:
        """The ``budget`` largest of each token's codes; ``ValueError`` if that is no number."""
        if budget is None:
            return codes
        if not isinstance(budget, int) or not 1 <= budget <= self.d_sae:
            raise ValueError(f"a budget of {budget} is no whole number between 1 and {self.d_sae}")
        if budget >= codes.values.shape[1]:
            return codes
        values, places = codes.values.topk(budget, dim=1, sorted=False)
        return Codes(codes.indices.gather(1, places), values)


def typical_norm(target_ND: Tensor, group: StepGroup = ALONE) -> Tensor:
    """Root mean square distance from the mean, a scalar: what a penalty on codes is measured in,
    which have the unit of what is reconstructed."""
    with torch.no_grad():
        return (group.variance(target_ND) / len(target_ND)).sqrt().clamp_min(1e-12)
