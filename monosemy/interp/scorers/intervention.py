"""Intervention scoring: does what the model writes hold more of z when the latent is amplified?

S(z) is the mean over prompts of log p(z | x, g') - log p(z | x, g), where g continues the prompt x
by the clean host model and g' by the intervened one, and p is a model that reads both (Paulo et
al., arXiv 2410.13928, section 4).  It sees features of the output, which scores of inputs miss.
Needs torch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self, TypeVar

import numpy as np

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.host_text import HostText, Ids
from monosemy.interp.prompts.loader import load_prompt
from monosemy.interp.prompts.quoting import fence, quote
from monosemy.interp.scorers.base import ScoringExamples, judgement_of
from monosemy.interp.scorers.mean_change import mean_change
from monosemy.interp.scorers.result import Judged, Judgement, Summary
from monosemy.interp.shown import ShownExample
from monosemy.interp.statistics.rates import Z95
from monosemy.interp.tiers import ACTIVATING
from monosemy.interp.tools import Tools
from monosemy.interventions.effects import PromptEffects
from monosemy.interventions.intervention import Feature, ablate
from monosemy.models.host import HostModel
from monosemy.specs import InterventionScoring, InterventionSpec

KEPT_TEXTS = 3
"""Prompts whose clean and intervened texts are in the details."""
_BROKEN = "\ufffd"

T = TypeVar("T")


@dataclass(frozen=True)
class Written:
    """What the host model wrote after some prompts, with and without the intervention."""

    prompts: tuple[Ids, ...]
    clean: tuple[Ids, ...]
    intervened: tuple[Ids, ...]
    kl: float
    """Mean KL(intervened || clean) of the first new token, nats."""
    strength: float | None
    """Length of the vector added; None for an ablation."""


class InterventionScorer:
    """``Judgement.value`` of a prompt is its change of log p(z), in nats; the score is their mean.

    Prompts are activating contexts, cut before their first activating token (mode ``add``) or
    after it (mode ``zero``, which has nothing to take out before).  For ``zero`` the sign is
    turned: what an ablation takes away counts for the explanation, so more is better in both.
    The strength is tuned on the prompts themselves, of which the explanation knows nothing.
    """

    name = "intervention"
    needs_explanation = True

    def __init__(
        self,
        hosted: HostedSAE,
        spec: InterventionSpec,
        seed: int = 0,
        reader: HostModel | None = None,
    ) -> None:
        """``reader`` is the model that judges the texts; None takes the host model itself."""
        self.hosted = hosted
        self.spec = spec
        self.seed = seed
        self.text = HostText(hosted.host)
        self.reader = HostText(reader) if reader is not None else self.text
        self.prompt = load_prompt("intervention")
        # A shuffled baseline reads the same texts: they are written once.
        self._written = lru_cache(maxsize=16)(self.write)

    @classmethod
    def create(cls, spec: InterventionScoring, tools: Tools) -> Self:
        return cls(tools.need_hosted_sae(), spec.intervention, spec.seed)

    def tiers(self, asked: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002
        """None: there are no negatives to tell apart."""
        return ()

    async def judge(self, explanation: str, examples: ScoringExamples) -> Judged:
        """Examples with no text before the first activating token count as failed.

        Raises ``DataError`` for fewer than two prompts, for a latent that cannot be tuned, and for
        an explanation without words.
        """
        chosen = _spread(examples.activating, self.spec.prompts)
        prompts = [self.prompt_of(example) for example in chosen]
        usable = [i for i, prompt in enumerate(prompts) if prompt]
        if len(usable) < 2:
            raise DataError(
                f"{len(usable)} of {len(chosen)} contexts have text before the first activation; "
                "intervention scoring needs two.",
                "Score more positives, or index with a wider window.",
            )
        text = explanation.strip()
        if not text:
            raise DataError("An empty explanation has no probability to be compared.")
        ids = tuple(prompts[i] for i in usable)
        seeds = tuple(self._seed_of(chosen[i]) for i in usable)
        written = await asyncio.to_thread(self._written, examples.feature, ids, seeds)
        changes = await asyncio.to_thread(self.changes, text, written)
        values = dict(zip(usable, changes, strict=True))
        return Judged(
            tuple(
                judgement_of(ACTIVATING, example, value=values.get(i))
                for i, example in enumerate(chosen)
            ),
            details={
                "kl": written.kl,
                "strength": written.strength,
                "texts": self._texts(written),
            },
        )

    def summarise(self, judgements: Sequence[Judgement], z: float = Z95) -> Summary:
        """Mean change in nats, with an interval over documents."""
        return mean_change(judgements, z)

    def provenance(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt.provenance(),
            "model": _model(self.hosted.host),
            "reader": _model(self.reader.host),
            "parameters": {
                **self.spec.model_dump(),
                "seed": self.seed,
                "site": self.hosted.site,
                "writes_to": self.hosted.target,
            },
        }

    def prompt_of(self, example: ShownExample) -> Ids:
        """The ids to be continued, with BOS; empty where no text is left.  Of a text that would
        leave no room for the continuation, the end.

        The shown text is tokenised again, which at a border between tokens gives the same ones but
        in rare cases.
        """
        active = (i for i, level in enumerate(example.levels) if level > 0)
        first = next(active, example.centre)
        kept = example.pieces[: first + 1 if self.spec.mode == "zero" else first]
        text = "".join(kept).strip(_BROKEN)
        ids = self.text.tokens(text) if text.strip() else ()
        limit = self.hosted.host.abilities.positions
        if limit is not None:
            ids = ids[-max(limit - self.spec.new_tokens - 1, 1) :]
        return self.text.with_bos(ids) if ids else ()

    def write(self, latent: int, prompts: tuple[Ids, ...], seeds: tuple[int, ...]) -> Written:
        """Finds the intervention and continues every prompt with and without it."""
        effects = PromptEffects(self.hosted, prompts)
        strength: float | None = None
        if self.spec.mode == "add":
            intervention, kl = effects.tuned(latent, self.spec.kl)
            strength = intervention.strength
        else:
            intervention = ablate(Feature(latent))
            kl = effects.divergence(intervention)
        clean = effects.continued(self.spec.new_tokens, seeds)
        intervened = effects.continued(self.spec.new_tokens, seeds, intervention)
        return Written(prompts, tuple(clean), tuple(intervened), kl, strength)

    def changes(self, explanation: str, written: Written) -> list[float]:
        """Nats by which the explanation gains in each text, more being better in either mode."""
        tokens = self.reader.tokens(explanation)
        passages = [
            self.passage(prompt, new)
            for news in (written.intervened, written.clean)
            for prompt, new in zip(written.prompts, news, strict=True)
        ]
        prefixes = [
            self.reader.prefix(self.prompt, fence=fence([passage]), passage=passage)
            for passage in map(quote, passages)
        ]
        logprobs = self.reader.log_probabilities([(prefix, tokens) for prefix in prefixes])
        half = len(written.prompts)
        sign = -1.0 if self.spec.mode == "zero" else 1.0
        return [
            sign * (after - before)
            for after, before in zip(logprobs[:half], logprobs[half:], strict=True)
        ]

    def passage(self, prompt: Ids, new: Ids) -> str:
        """Prompt and continuation as one text."""
        return self.text.decoded(prompt + new)

    def _texts(self, written: Written) -> list[dict[str, str]]:
        texts = list(zip(written.prompts, written.clean, written.intervened, strict=True))
        return [
            {
                "prompt": self.text.decoded(prompt),
                "clean": self.text.decoded(clean),
                "intervened": self.text.decoded(intervened),
            }
            for prompt, clean, intervened in _spread(texts, KEPT_TEXTS)
        ]

    def _seed_of(self, example: ShownExample) -> int:
        """One per example, whatever else is judged along with it."""
        words = np.random.SeedSequence([abs(self.seed), example.row, example.position])
        return int(words.generate_state(1, np.uint64)[0] >> 1)


def _spread(items: Sequence[T], count: int | None) -> list[T]:
    """At most ``count`` of ``items``, evenly spaced: those of all strata, which stand in order."""
    if count is None or count >= len(items):
        return list(items)
    places = np.linspace(0, len(items) - 1, count).round().astype(int)
    return [items[i] for i in places.tolist()]


def _model(host: HostModel) -> dict[str, str]:
    return {"name": host.name, "fingerprint": host.fingerprint, "dtype": str(host.dtype)}
