"""Heads' outputs of which some tell positive prompts from negative ones (methods 5.3)."""

from __future__ import annotations

import numpy as np
import torch

from monosemy.circuits.codes import Ints, train_code_sae
from monosemy.specs.circuits import CodesSpec

HEADS, MEMBERS, WIDTH, PROTOTYPES, SECONDS = 48, 8, 64, 8, 6


def planted_outputs(seed: int, prompts: int = 100) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """(outputs [2 prompts, heads, d], which are positive, which heads are in the circuit).

    Every head writes one of its own 8 prototypes and noise; those in the circuit add, for positive
    prompts, one of 6 vectors of the prototype.  So they have many codes besides, each of them rare:
    the raw score finds them whatever the labels are.
    """
    rng = np.random.default_rng(seed)
    prototypes = rng.standard_normal((HEADS, PROTOTYPES, WIDTH))
    seconds = rng.standard_normal((HEADS, PROTOTYPES, SECONDS, WIDTH))
    which = rng.integers(SECONDS, size=(2 * prompts, HEADS))
    chosen = rng.integers(PROTOTYPES, size=(2 * prompts, HEADS))
    positive = np.arange(2 * prompts) < prompts
    member = np.zeros(HEADS, bool)
    member[rng.permutation(HEADS)[:MEMBERS]] = True
    outputs = prototypes[np.arange(HEADS), chosen]
    outputs += seconds[np.arange(HEADS), chosen, which] * (positive[:, None] & member)[..., None]
    outputs += 0.1 * rng.standard_normal(outputs.shape)
    return torch.from_numpy(outputs).float(), positive, member


def planted_codes(outputs: torch.Tensor, seed: int, spec: CodesSpec | None = None) -> Ints:
    """Codes [2 prompts, heads] by an SAE of ten prompts."""
    spec = spec or CodesSpec()
    drawn = np.random.default_rng(seed).permutation(len(outputs))[: spec.examples]
    sae = train_code_sae(outputs[drawn].flatten(0, 1), spec, seed)
    return sae.encode(outputs).numpy().astype(np.int64)
