"""What a benchmark may ask for, one class for each, and the run that asks SAEs.

Importable without torch; ``implementation`` names the class that measures, in
``monosemy/benchmarking``.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from monosemy.specs.kinds import SaeRef
from monosemy.specs.part import LARGE, NAME, PLACE, Count, Seed
from monosemy.specs.parts import TextSpec
from monosemy.specs.references import Plain, Source
from monosemy.specs.registry import Registered, Registry, register
from monosemy.specs.run import RunSpec, register_kind
from monosemy.specs.tasks import MOST_PROMPTS, Word

MOST_SAES = 64
"""Of one run."""
MOST_SEEDS = 20
PUBLISHED_TASKS = "sae-probes"
"""Package that carries labelled texts."""

BENCHMARKS: Registry[BenchmarkSpec] = Registry("benchmark", "benchmark", "core")
"""The options' class of every benchmark, those of plugins included."""


class BenchmarkSpec(Registered):
    """What all benchmarks share; any of them where it is the type of a field."""

    registry: ClassVar = BENCHMARKS
    metrics_version: ClassVar[int] = 1
    """Of the formulas: figures of other versions are never set beside these."""

    benchmark: Annotated[str, Plain()] = Field("core", max_length=NAME)
    """What is measured."""
    seeds: list[Seed] = Field([0], min_length=1, max_length=MOST_SEEDS)
    """Of splits, draws and fitted probes.  A figure is the mean over them, and says how far they
    lie apart."""

    @model_validator(mode="after")
    def _each_seed_once(self) -> Self:
        if len({*self.seeds}) < len(self.seeds):
            raise ValueError("seeds holds something twice")
        return self


@register
class CoreBenchmark(BenchmarkSpec):
    """What an SAE keeps of its host model and of the activations, on held-out documents."""

    implementation: ClassVar[str] = "monosemy.benchmarking.core:Core"

    benchmark: Literal["core"] = "core"
    text: TextSpec = TextSpec()
    """What is read: its held-out documents.  SAEs are set beside each other on one text, so it is
    not each SAE's own; one that was trained on some of these documents is refused."""
    tokens: Count = 16_384
    """Of held-out documents, taken whole in a fixed order until they have so many."""


@register
class ProbingBenchmark(BenchmarkSpec):
    """Whether few latents of an SAE tell texts that people have labelled, beside as many of other
    bases and beside the words alone."""

    implementation: ClassVar[str] = "monosemy.benchmarking.probing.sparse_probing:SparseProbing"

    benchmark: Literal["probing"] = "probing"
    source: Annotated[str, Source("text")] = Field(PUBLISHED_TASKS, min_length=1, max_length=PLACE)
    """``sae-probes``, the 113 tasks of two classes that this package carries, or a local .jsonl
    file with a text a line: ``task``, ``text``, ``label`` (true or false), perhaps ``family``."""
    tasks: list[Annotated[str, Plain(), Field(max_length=NAME)]] | None = Field(
        None, min_length=1, max_length=1000
    )
    """Names of the tasks; None takes all."""
    variant: Literal["clean", "published"] = "clean"
    """``clean``: each text counts once, and tasks that are not what they say are left out;
    ``published``: as the package draws them, with a fifth of the tested texts among the fitted."""
    ks: list[Annotated[int, Field(ge=1, le=4096)]] = Field([1, 5, 16], min_length=1, max_length=10)
    """Numbers of latents."""
    train_rows: int = Field(1024, ge=20, le=100_000)
    """Most texts of a task that a probe is fitted to."""
    test_rows: int = Field(1000, ge=20, le=100_000)
    """Most texts of a task that it is tested on."""
    context: int = Field(128, ge=2, le=8192)
    """Most tokens of a text, the BOS included."""
    long_texts: Literal["cut", "refuse"] = "cut"
    """``cut``: a longer text loses its beginning; ``refuse``: it ends the benchmark."""
    prepend_bos: bool = True
    """Put the tokenizer's BOS before each text (if it has one)."""

    @model_validator(mode="after")
    def _each_k_once(self) -> Self:
        for name in ("ks", "tasks"):
            given = getattr(self, name) or []
            if len({*given}) < len(given):
                raise ValueError(f"{name} holds something twice")
        return self


@register
class AbsorptionBenchmark(BenchmarkSpec):
    """How often latents that tell a word's first letter are silent because others say it with the
    word: feature absorption, by letter, on words of the host model's vocabulary.  Thresholds are
    those of SAEBench 0.6.0."""

    implementation: ClassVar[str] = "monosemy.benchmarking.absorption.benchmark:Absorption"

    benchmark: Literal["absorption"] = "absorption"
    words_per_letter: int = Field(400, ge=10, le=100_000)
    """Most words of a letter, drawn from the vocabulary; a fifth of them is tested on."""
    lines: int = Field(10, ge=0, le=100)
    """Least number of lines "apple has the first letter: A" before a word; 0 reads it alone."""
    least_words: int = Field(25, ge=10, le=100_000)
    """That a letter must begin to be taken."""
    least_letters: int = Field(10, ge=2, le=26)
    """That must have so many words, and be told by their probes."""
    least_f1: float = Field(0.6, ge=0, lt=1)
    """Of a letter's probe on words that it was not fitted to: others do not count."""
    l1: float = Field(0.01, gt=0, le=LARGE)
    """Penalty of the sparse probe that proposes latents, for codes in units of an activation's root
    mean square."""
    most_latents: int = Field(10, ge=1, le=100)
    """Main latents of a letter."""
    least_rise: float = Field(0.03, ge=0, lt=1)
    """Of F1 by a further main latent."""
    full_cosine: float = Field(0.025, ge=-1, le=1)
    """Of the absorbing latent with the probe, for full absorption."""
    full_share: float = Field(0.4, gt=0, le=1)
    """That it must add of the activation along the probe."""
    fraction_cosine: float = Field(0.1, ge=-1, le=1)
    """Of absorbing latents with the probe, for the fraction of 0.6.0."""
    fraction_share: float = Field(0.4, gt=0, le=1)
    """That they must add of the activation along the probe."""
    fraction_latents: int = Field(3, ge=1, le=100)
    """Absorbing latents that are counted."""


@register
class EditingBenchmark(BenchmarkSpec):
    """Whether few latents carry one attribute of a prompt and no other: their activations are taken
    from a counterfactual, and what is answered must follow that attribute alone.  Prompts are "When
    Mary and John went to the store, John gave a drink to", with the attributes `IO`, `S` and
    `Pos` (who is named first)."""

    implementation: ClassVar[str] = "monosemy.benchmarking.editing.benchmark:Editing"

    benchmark: Literal["editing"] = "editing"
    templates: list[Word] | None = Field(None, min_length=1, max_length=16)
    """`went`, `long-day`, `arrived`, `working`; None takes all."""
    names: int = Field(24, ge=6, le=1000)
    """That prompts are made of, in both halves; names that stand together in a prompt to choose by
    never stand together in one to test on."""
    choosing: int = Field(256, ge=8, le=MOST_PROMPTS)
    """Prompts by which latents are chosen, for each seed."""
    pairs: int = Field(64, ge=4, le=MOST_PROMPTS)
    """Prompts that edits are tested on, each with a counterfactual of each attribute."""
    positions: list[Literal["IO", "S1", "S2", "end"]] = Field(
        ["IO", "S1", "S2", "end"], min_length=1, max_length=4
    )
    """Tokens at which activations are changed, all at once: the names as they are first and again
    named, and the last one.  Early sites have names at their own tokens, late ones all that is
    answered by at `end`, where attributes are hardest to tell apart."""
    known_only: bool = True
    """Leave out prompts that the host model answers wrongly, or whose counterfactuals it does."""
    least_effect: float = Field(0.5, gt=0, le=LARGE)
    """Nats by which the whole counterfactual activation must change answers on average, for an
    attribute to be at the site at all."""


@register_kind
class BenchmarkRun(RunSpec):
    """Measure SAEs by benchmarks, each beside its baselines and chance.  What cannot be measured of
    one SAE is said, and holds up no other; what is stored already is not measured again."""

    kind: Literal["benchmark"] = "benchmark"
    saes: list[SaeRef] = Field(min_length=1, max_length=MOST_SAES)
    """Ids (or unique names) of the SAEs."""
    benchmarks: list[BenchmarkSpec] = Field([CoreBenchmark()], min_length=1, max_length=16)
    """What they are measured by, each with its options."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len({*self.saes}) < len(self.saes):
            raise ValueError("saes holds something twice")
        dumped = [each.model_dump_json() for each in self.benchmarks]
        if len({*dumped}) < len(dumped):
            raise ValueError("benchmarks holds the same one twice")
        return self
