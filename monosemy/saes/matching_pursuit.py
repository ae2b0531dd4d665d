"""Matching pursuit SAE (Costa et al. 2025, arXiv 2506.03093): one latent at a time.

Each pick is the latent that fits best what the picks before left; encoder and decoder are the same
rows, so there is no ``W_enc`` and no ``b_enc``.  A pursuit of fewer picks is the beginning of a
longer one: one SAE serves every sparsity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from monosemy.saes import saelens_keys
from monosemy.saes.base import SAE, StepInfo, TrainingPass, fired_counts
from monosemy.saes.codes import Codes
from monosemy.saes.pursuit import Pursuit, merge_repeats, pursue
from monosemy.specs import MatchingPursuitSpec


class MatchingPursuitSAE(SAE):
    """``r = x - b_dec``; then ``k`` times the best latent i, ``v = relu(r . d_i)``, ``r -= v d_i``.

    A latent that is picked again adds to its code.  Parameters: ``W_dec [d_sae, d_in]``, ``b_dec``.
    """

    spec: MatchingPursuitSpec
    one_scale = True  # how long a residual is decides, over all places together

    def __init__(self, spec: MatchingPursuitSpec, d_in: int, d_out: int | None = None) -> None:
        super().__init__(spec, d_in, d_out)
        del self.W_enc, self.b_enc

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Random unit rows."""
        self.W_dec.copy_(torch.randn(self.d_sae, self.d_in, generator=generator))
        self.normalise_decoder()
        self.b_dec.zero_()

    def encoder_rows(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Of the first pick; later ones see what those before left."""
        rows_FD = self.W_dec[latents].detach()
        return rows_FD, rows_FD.new_zeros(len(rows_FD))

    def encode(self, x_ND: Tensor, budget: int | float | None = None) -> Codes:
        """``budget``: an int is a number of picks, a float below 1 the share of ``|x - b_dec|`` at
        which to stop, after ``d_in`` picks at the latest.  ``ValueError`` for any other.

        Entries are in the order of the picks; those of a latent picked again are 0 but the first.
        """
        steps, share = self._budget(budget)
        centred = x_ND - self.b_dec
        picks = pursue(centred, self.W_dec, steps, self._stop(centred, share))
        codes = self._codes(picks)
        if isinstance(budget, float):
            column = torch.arange(1, steps + 1, device=x_ND.device)
            used = int((column * (codes.values > 0).any(0)).max())
            codes = Codes(codes.indices[:, :used], codes.values[:, :used])
        return codes

    def training_pass(self, x_ND: Tensor, target_ND: Tensor, info: StepInfo) -> TrainingPass:
        centred = x_ND - self.b_dec
        stop = self._stop(centred.detach(), self.spec.residual_stop)
        picks = pursue(centred, self.W_dec, self.spec.k, stop)
        codes = self._codes(picks)
        # What the pursuit took is x less what it left, unless only its beginning counts.
        all_picks_count = not self.spec.stop_on_repeat
        reconstruction = x_ND - picks.residual if all_picks_count else self.decode(codes)
        terms = self._dead_terms(target_ND - reconstruction.detach(), info.dead)
        l0 = codes.l0().float().mean()
        return TrainingPass(reconstruction, fired_counts(codes, self.d_sae), l0, terms)

    def _budget(self, budget: int | float | None) -> tuple[int, float | None]:
        if budget is None:
            return self.spec.k, self.spec.residual_stop
        if isinstance(budget, bool) or not (
            budget >= 1 if isinstance(budget, int) else 0 < budget < 1
        ):
            raise ValueError(f"a budget of {budget} is neither picks (int) nor a share below 1")
        return (budget, None) if isinstance(budget, int) else (self.d_in, budget)

    def _stop(self, centred_ND: Tensor, share: float | None) -> Tensor | None:
        """The residual's length at which each token stops, ``[n]``; None when none does."""
        floor = self.spec.residual_floor
        if share is None and floor is None:
            return None
        length = centred_ND.detach().norm(dim=1) * (share or 0.0)
        return length if floor is None else length.clamp_min(floor)

    def _codes(self, picks: Pursuit) -> Codes:
        values = picks.values
        summed = merge_repeats(picks.indices, values)
        if self.spec.stop_on_repeat:
            # By the prefix property a pursuit that stops early is the beginning of this one.
            repeats = (summed.detach() == 0).int()
            before = repeats.cumsum(1) - repeats
            summed = merge_repeats(picks.indices, values * (before == 0))
        return Codes(picks.indices, summed)

    def _dead_terms(self, residual_ND: Tensor, dead: Tensor) -> dict[str, Tensor]:
        """AuxK's idea with this encoder: the dead latents pursue what the living ones left.

        Their error as a share of the residual's variance; scaling the data does not change it.
        """
        if not self.spec.aux_coefficient or not dead.numel():
            return {}
        rows = self.W_dec.index_select(0, dead)
        missed = pursue(residual_ND, rows, self.spec.aux_k).residual.pow(2).sum()
        variance = self.group.variance(residual_ND)
        share = torch.where(variance > 0, missed / variance.where(variance > 0, 1.0), 0.0)
        return {"aux": self.spec.aux_coefficient * share}

    @torch.no_grad()
    def rescale_codes(self, unit: float) -> None:
        if self.spec.residual_floor is not None:
            floor = self.spec.residual_floor / unit
            self.spec = self.spec.model_copy(update={"residual_floor": floor})

    def saelens_export(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """SAELens knows no relative stop: with ``residual_stop`` (written down, and read back here)
        its class makes all ``k`` picks, the first of which are ours."""
        keys = {
            "architecture": "matching_pursuit",
            "max_iterations": self.spec.k,
            "residual_threshold": self.spec.residual_floor or 0.0,
            "residual_stop": self.spec.residual_stop,
            "stop_on_duplicate_support": self.spec.stop_on_repeat,
        }
        return {**keys, **saelens_keys.CENTRED}, dict(self.state_dict())

    @classmethod
    def saelens_import(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Rows of any length are taken as they are, as SAELens does not normalise them."""
        saelens_keys.require(config, saelens_keys.CENTRED)
        steps = config.get("max_iterations")
        spec = saelens_keys.checked_spec(
            MatchingPursuitSpec,
            d_sae=config["d_sae"],
            k=config["d_in"] if steps is None else steps,
            residual_floor=config.get("residual_threshold", 1e-2) or None,
            residual_stop=config.get("residual_stop"),
            stop_on_repeat=config.get("stop_on_duplicate_support", True),
        )
        return saelens_keys.filled(cls, spec, tensors, config["d_in"])
