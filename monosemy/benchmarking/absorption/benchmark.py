"""The first-letter task: which latents tell it, and how often others do in their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from monosemy.benchmarking.absorption import words
from monosemy.benchmarking.absorption.measure import METRICS, Found, Judged, Latents
from monosemy.benchmarking.absorption.truth_probe import LabelledWords
from monosemy.benchmarking.base import Bench, Benchmark, BenchmarkSae, Measured
from monosemy.benchmarking.units import Column
from monosemy.circuits.supervised.coders import Coder, sae_coder
from monosemy.errors import DataError
from monosemy.saes.bases import random_directions
from monosemy.specs.benchmarks import AbsorptionBenchmark
from monosemy.specs.rest.benchmarks import BenchmarkUnit
from monosemy.workspace import fingerprint


class Absorption(Benchmark[AbsorptionBenchmark]):
    """See the module."""

    unit = "letter"

    def __init__(self, spec: AbsorptionBenchmark, bench: Bench) -> None:
        super().__init__(spec, bench)
        self.vocabulary = words.Vocabulary.of(bench.host, spec.least_words, spec.least_letters)

    @property
    def headline(self) -> str:
        return "full_absorption"

    def data_digest(self) -> str:
        vocabulary = self.vocabulary
        return fingerprint([dict(vocabulary.ids), dict(vocabulary.tails), self.bench.host.bos_id])

    def check(self, sae: BenchmarkSae) -> None:
        sae.check_one_site()

    def prepare(self) -> None:
        spec = self.spec
        drawn = [words.draw(self.vocabulary, spec.words_per_letter, seed) for seed in spec.seeds]
        total = sum(len(each.ids_N) for each in drawn)
        with self.bench.reporter.stage("absorption: words", total, "words") as stage:
            self.judged = [
                self._judged(each, seed, stage.advance)
                for each, seed in zip(drawn, spec.seeds, strict=True)
            ]

    def _judged(self, drawn: words.Drawn, seed: int, advance: Any) -> Judged:
        host, spec = self.bench.host, self.spec
        made = words.rows(host, self.vocabulary, drawn, spec.lines, seed)
        site = self.bench.hooks.reads[0].site
        x_ND = words.read(host, site, made, len(drawn.ids_N), advance)
        letter_N, part_N = torch.from_numpy(drawn.letter_N), torch.from_numpy(drawn.part_N)
        fit, chosen_by, test = (
            LabelledWords(x_ND[part_N == part], letter_N[part_N == part]) for part in range(3)
        )
        judged = Judged.of(fit, chosen_by, test, len(self.vocabulary.letters), seed)
        told = int((judged.f1_L > spec.least_f1).sum())
        if told < spec.least_letters:
            raise DataError(
                f"Probes tell {told} letters at {site} with F1 above {spec.least_f1:g}; "
                f"{spec.least_letters} are needed.",
                "Take another site, more words per letter, or set least_letters or least_f1 lower.",
            )
        return judged

    def measure(self, sae: BenchmarkSae) -> Measured:
        spec = self.spec
        found: dict[str, list[Found]] = {"sae": []}
        chance, notes = [], list(_NOTES)
        coder = sae_coder(sae.sae)
        twin = None if sae.baseline is None else sae_coder(sae.baseline)
        with self.bench.reporter.stage(
            f"absorption: {sae.name}", len(spec.seeds), "seeds"
        ) as stage:
            for judged, seed in zip(self.judged, spec.seeds, strict=True):
                latents = Latents(coder, judged)
                found["sae"].append(latents.found(spec))
                chance.append(latents.of_shuffled(spec))
                if twin is not None:
                    found.setdefault("frozen", []).append(Latents(twin, judged).found(spec))
                try:
                    other = _random(latents, sae.sae.d_sae, seed)
                except DataError as error:
                    notes.append(f"No random dictionary: {error.message}")
                else:
                    found.setdefault("random", []).append(Latents(other, judged).found(spec))
                stage.advance()
        if len(found.get("random", spec.seeds)) < len(spec.seeds):
            del found["random"]
        columns = [
            Column(name, subject, np.stack([each.by_letter[name] for each in of]), None, better)
            for subject, of in found.items()
            for name, better in METRICS.items()
        ]
        columns += [
            Column("has_main_latent", "shuffled", np.stack(chance)),
            Column("probe_f1", "dense", np.stack([each.f1_L for each in self.judged])),
            Column("probe_f1", "shuffled", np.stack([each.shuffled_f1_L for each in self.judged])),
        ]
        letters = self.vocabulary.letters
        units = [BenchmarkUnit(name=letter, family=letter) for letter in letters]
        return Measured(units, columns, list(dict.fromkeys(notes)), self._details(found["sae"]))

    def _details(self, found: list[Found]) -> dict[str, Any]:
        """By seed: how many words there were, which letters count, and their main latents."""
        letters = self.vocabulary.letters
        return {
            "seeds": [
                {
                    "words": len(judged.fit.x_ND) + len(judged.chosen_by.x_ND),
                    "words_tested_on": len(judged.test.x_ND),
                    "letters_told": int((judged.f1_L > self.spec.least_f1).sum()),
                    "main_latents": dict(zip(letters, of.main, strict=True)),
                }
                for judged, of in zip(self.judged, found, strict=True)
            ]
        }


_NOTES = (
    "Units are letters whose probe passes the gate and, for absorption, that have a main latent: "
    "an SAE without latents for letters absorbs nothing, so read main_latent_recall beside it.",
    "absorption_fraction_0_6_0 and absorption_fraction_0_3_2 are SAEBench's fractions of those "
    "versions; full_absorption is the same in both.",
)


def _random(latents: Latents, d_sae: int, seed: int) -> Coder:
    """As many random directions as there are latents, and as many active ones."""
    l0 = max(1.0, float(latents.fit.l0().double().mean()))
    return sae_coder(random_directions(latents.judged.fit.x_ND, d_sae, seed, "top_k", l0))
