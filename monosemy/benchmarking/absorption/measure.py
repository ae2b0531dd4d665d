"""Absorption in one dictionary, letter by letter, of words whose letters probes tell.

Source: Chanin et al., "A is for Absorption", arXiv 2409.14507, as SAEBench 0.6.0 measures it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from monosemy.benchmarking.absorption.fractions import (
    Bools,
    Floats,
    Projected,
    fraction_0_3_2,
    fraction_0_6_0,
    full_absorption,
)
from monosemy.benchmarking.absorption.main_latents import main_latents, sparse_codes
from monosemy.benchmarking.absorption.truth_probe import LabelledWords, TruthProbes, fit_probes
from monosemy.circuits.supervised.coders import Coder
from monosemy.saes.codes import Codes
from monosemy.specs.benchmarks import AbsorptionBenchmark
from monosemy.specs.rest.benchmarks import Better

METRICS: dict[str, Better] = {
    "full_absorption": "lower",
    "absorption_fraction_0_6_0": "lower",
    "absorption_fraction_0_3_2": "lower",
    "main_latent_recall": "higher",
    "main_latents": "neither",
    "words_told": "neither",
    "has_main_latent": "higher",
}


@dataclass(frozen=True)
class Judged:
    """Words of one seed in three parts, with probes of the true letters and of shuffled ones."""

    fit: LabelledWords
    chosen_by: LabelledWords
    test: LabelledWords
    letters: int
    probes: TruthProbes
    f1_L: Floats
    """Of the probes on the words to test on."""
    shuffled: tuple[LabelledWords, LabelledWords]
    """The words to fit to and to choose by with the letters of others."""
    shuffled_f1_L: Floats

    @classmethod
    def of(
        cls,
        fit: LabelledWords,
        chosen_by: LabelledWords,
        test: LabelledWords,
        letters: int,
        seed: int,
    ) -> Judged:
        """Fits the probes; everything that is drawn follows ``seed``."""
        probes = fit_probes(fit, chosen_by, letters)
        null = fit.shuffled(seed), chosen_by.shuffled(seed + 1)
        null_f1_L = fit_probes(*null, letters).f1(test.shuffled(seed + 2))
        f1_L = probes.f1(test)
        return cls(fit, chosen_by, test, letters, probes, f1_L.numpy(), null, null_f1_L.numpy())


@dataclass(frozen=True)
class Found:
    """What was found of one dictionary."""

    by_letter: dict[str, Floats]
    """``[L]`` of every metric; NaN for a letter that has it not."""
    main: list[list[int]]
    """Main latents of each letter."""


class Latents:
    """Codes of a dictionary of all words of a seed."""

    def __init__(self, coder: Coder, judged: Judged) -> None:
        self.coder, self.judged = coder, judged
        parts = (judged.fit, judged.chosen_by, judged.test)
        self.fit, self.chosen_by, self.test = (coder.encode(each.x_ND) for each in parts)
        x_ND = judged.fit.x_ND.double()
        # In units in which an entry of an activation has mean square 1, whatever rows' lengths.
        unit = float(x_ND.square().mean().sqrt())
        self.scale_F = coder.rows_FD.double().norm(dim=1) / max(unit, 1e-300)

    def found(self, spec: AbsorptionBenchmark) -> Found:
        """Of letters whose probes are good enough, those that have main latents."""
        judged = self.judged
        main = self._main(judged.fit, judged.chosen_by, spec)
        by_letter = {name: np.full(judged.letters, np.nan) for name in METRICS}
        for letter in np.flatnonzero(judged.f1_L > spec.least_f1):
            for name, value in self._of_letter(int(letter), main[letter], spec).items():
                by_letter[name][letter] = value
        return Found(by_letter, main)

    def of_shuffled(self, spec: AbsorptionBenchmark) -> Floats:
        """``[L]``: 1 where latents are found for the letters of other words, else 0."""
        main = self._main(*self.judged.shuffled, spec)
        return np.array([float(bool(each)) for each in main])

    def _main(
        self, fit: LabelledWords, chosen_by: LabelledWords, spec: AbsorptionBenchmark
    ) -> list[list[int]]:
        def labelled(codes: Codes, words: LabelledWords) -> tuple[sp.csr_array, Bools]:
            is_NL = F.one_hot(words.letter_N, self.judged.letters).bool().numpy()
            return sparse_codes(codes, self.scale_F), is_NL

        return main_latents(
            labelled(self.fit, fit),
            labelled(self.chosen_by, chosen_by),
            spec.l1,
            spec.most_latents,
            spec.least_rise,
        )

    def _of_letter(
        self, letter: int, main: list[int], spec: AbsorptionBenchmark
    ) -> dict[str, float]:
        """Over the words to test on that begin with it and that the probe gets right."""
        judged = self.judged
        right_N = judged.probes.says(judged.test.x_ND)[:, letter] & (judged.test.letter_N == letter)
        if not right_N.any():
            return {}
        if not main:
            return {"has_main_latent": 0.0, "main_latent_recall": 0.0}
        codes = Codes(self.test.indices[right_N], self.test.values[right_N])
        of = projected(
            codes,
            self.coder.rows_FD,
            judged.probes.unit_LD[letter],
            judged.test.x_ND[right_N],
            main,
        )
        fires_N = (of.main_NK & (codes.values > 0).numpy()).any(1)
        full_N = full_absorption(of, ~fires_N, spec.full_cosine, spec.full_share)
        newer_N = fraction_0_6_0(
            of, spec.fraction_latents, spec.fraction_cosine, spec.fraction_share
        )
        return {
            "has_main_latent": 1.0,
            "full_absorption": float(full_N.mean()),
            "absorption_fraction_0_6_0": float(newer_N.mean()),
            "absorption_fraction_0_3_2": float(fraction_0_3_2(of).mean()),
            "main_latent_recall": float(fires_N.mean()),
            "main_latents": float(len(main)),
            "words_told": float(right_N.sum()),
        }


def projected(
    codes: Codes, rows_FD: Tensor, unit_D: Tensor, x_ND: Tensor, main: list[int]
) -> Projected:
    """What the active latents of n words add along ``unit_D``."""
    along_F = rows_FD.double() @ unit_D
    cosine_F = along_F / rows_FD.double().norm(dim=1).clamp_min(1e-300)
    return Projected(
        (codes.values.double() * along_F[codes.indices]).numpy(),
        cosine_F[codes.indices].numpy(),
        torch.isin(codes.indices, torch.tensor(main)).numpy(),
        (x_ND.double() @ unit_D).numpy(),
    )
