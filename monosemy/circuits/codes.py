"""The code of a head's output: the strongest latent of a small SAE that a few prompts train.

C. O'Neill and T. Bui, arXiv 2405.12522.  Three things differ from their code.  Outputs are scaled
to a mean square of 1, and the penalty is divided by the root of the width, so that ``sparsity``
means the same in every host.  An output for which no latent is active has a code of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from monosemy.circuits.head_outputs import HeadOutputs
from monosemy.errors import DataError
from monosemy.progress import SILENT, Reporter
from monosemy.specs.circuits import CodesSpec

Ints = npt.NDArray[np.int64]
_TELL = 10
"""Epochs between two looks at whether to stop."""


@dataclass(frozen=True)
class CodeSAE:
    """A trained encoder; codes are 0 to ``latents``, the last for none that is active."""

    W_enc: Tensor
    """``[latents, d]``, rows of length 1."""
    bias: Tensor
    """``[d]``: taken off before, put on again after."""
    scale: float
    """By which outputs are multiplied first."""
    fvu: float
    """Of the outputs that it was trained on."""

    @property
    def codes(self) -> int:
        """How many codes there are."""
        return len(self.W_enc) + 1

    def encode(self, outputs: Tensor) -> Tensor:
        """``[..., d]`` to codes ``[...]``."""
        strongest = ((outputs * self.scale - self.bias) @ self.W_enc.T).max(-1)
        return strongest.indices.where(strongest.values > 0, len(self.W_enc))


def train_code_sae(
    outputs_ND: Tensor, spec: CodesSpec, seed: int, reporter: Reporter = SILENT
) -> CodeSAE:
    """An SAE of outputs ``[N, d]``; all of them in every step.  ``DataError`` where they are 0."""
    power = float(outputs_ND.square().mean())
    if not power > 0:
        raise DataError("The heads of this host model add nothing to its stream.")
    scale = power**-0.5
    x_ND = outputs_ND.float() * scale
    d = x_ND.shape[1]
    generator = torch.Generator().manual_seed(seed % 2**63)
    start = normalize(torch.randn(spec.latents, d, generator=generator), dim=1)
    W_enc, W_dec = start.clone().requires_grad_(), start.clone().requires_grad_()
    bias = torch.zeros(d, requires_grad=True)
    optimiser = torch.optim.Adam([W_enc, W_dec, bias], lr=spec.learning_rate)
    error = torch.tensor(0.0)
    with reporter.stage("codes", spec.epochs, "epochs") as stage:
        for epoch in range(1, spec.epochs + 1):
            # Not (x - bias) @ W_enc.T, whose gradient would be another product of that size.
            active_NF = torch.relu(x_ND @ W_enc.T - W_enc @ bias)
            error = (active_NF @ W_dec + bias - x_ND).square().mean()
            loss = error + spec.sparsity * active_NF.sum(1).mean() / d**0.5
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            with torch.no_grad():
                W_enc.copy_(normalize(W_enc, dim=1))
                W_dec.copy_(normalize(W_dec, dim=1))
            if epoch % _TELL == 0 or epoch == spec.epochs:
                done = epoch % _TELL or _TELL
                stage.advance(done, loss=round(float(loss.detach()), 5))
    fvu = float(error.detach() / x_ND.var(0, correction=0).mean().clamp(min=1e-12))
    return CodeSAE(W_enc.detach(), bias.detach(), scale, fvu)


def codes_of(
    outputs: HeadOutputs, spec: CodesSpec, seed: int, reporter: Reporter = SILENT
) -> tuple[Ints, CodeSAE]:
    """(codes ``[N, heads]`` of all prompts, the SAE) for one seed, which also draws the prompts
    that it is trained on."""
    count = len(outputs.z[0])
    drawn = np.random.default_rng(seed % 2**63).permutation(count)[: spec.examples]
    chosen = torch.cat([part.flatten(0, 1) for _, part in outputs.of(drawn.tolist())])
    sae = train_code_sae(chosen, spec, seed, reporter)
    codes = np.empty((count, outputs.heads.count), np.int64)
    heads = outputs.heads.per_layer
    for prompts, place, part in outputs.by_blocks():
        codes[prompts, place * heads : (place + 1) * heads] = sae.encode(part).numpy()
    return codes, sae
