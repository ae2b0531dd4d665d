"""Bases that need no training, made into SAEs: neurons, principal components, random directions."""

from __future__ import annotations

import uuid
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from monosemy.figures import plural
from monosemy.specs.explainers import DefaultExplanation, ExplanationSpec
from monosemy.specs.kinds import ExplainRun, IndexRun, SaeRef, ScoreRun, Scorings, as_list
from monosemy.specs.names import PENDING_SAE, Name
from monosemy.specs.part import MOST_LATENTS, MOST_TOKENS, Seed, Site
from monosemy.specs.parts import IndexingSpec, ModelSpec, TextSpec
from monosemy.specs.references import Tokens
from monosemy.specs.run import NO_QUEUE, RunSpec, Step, register_kind
from monosemy.specs.scorers import ScoringSpec

BasisName = Literal["neurons", "pca", "random_directions"]
Selection = Literal["threshold", "top_k", "all"]
DEFAULT_SITE, DEFAULT_L0, DEFAULT_DIRECTIONS = "blocks.9.mlp.hook_post", 32.0, 4096


class _Basis(RunSpec):
    """What it takes to make one."""

    name: Name | None = None
    """Name of the basis; left out, one is built from kind, model, site and size."""
    basis: BasisName = "neurons"
    """`neurons`: the coordinates of the site, those of `mlp.hook_post` being the MLP's neurons;
    `pca`: principal components; `random_directions`: unit vectors at random. Neurons and
    components go both ways, and each is two latents."""
    beside: SaeRef | None = None
    """Id (or unique name) of the SAE that it is to stand beside: model, text, site and, unless
    `l0` says another, sparsity are that SAE's."""
    model: ModelSpec | None = None
    """The host model, where `beside` names no SAE."""
    text: TextSpec | None = None
    """What it reads, where `beside` names no SAE."""
    site: Site | None = None
    """Where, if `beside` names no SAE; None takes blocks.9.mlp.hook_post."""
    selection: Selection = "threshold"
    """`threshold`: one threshold for all latents, such that `l0` of them are active on average;
    `top_k`: the `l0` largest of each token; `all`: whatever is positive. Neurons are compared by
    activation times the length of what they write into the stream."""
    l0: float | None = Field(None, ge=1, le=MOST_LATENTS)
    """Active latents per token; None takes what the SAE `beside` has on the same tokens, or 32."""
    directions: int | None = Field(None, ge=1, le=MOST_LATENTS)
    """How many principal components or random directions; None takes all components, and as many
    random directions as the SAE `beside` has latents, or 4096."""
    tokens: Annotated[int, Tokens(), Field(ge=256, le=MOST_TOKENS)] = 16_384
    """Training tokens that components, means and thresholds are taken from."""
    seed: Seed = 0
    """Of these tokens, and of random directions."""

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        for name in ("model", "text", "site"):
            if self.beside is not None and getattr(self, name) is not None:
                raise ValueError(f"{name} is that of the SAE beside; leave one of them out")
        if self.basis == "neurons" and self.directions is not None:
            raise ValueError("neurons are all coordinates of the site; leave directions out")
        if self.selection == "all" and self.l0 is not None:
            raise ValueError("selection 'all' keeps whatever is positive; leave l0 out")
        if self.selection == "top_k" and self.l0 is not None and self.l0 != round(self.l0):
            raise ValueError(f"top_k keeps a whole number of latents; l0 is {self.l0:g}")
        return self

    @model_validator(mode="after")
    def _has_enough(self) -> Self:
        l0 = self.l0 or (None if self.beside is not None else DEFAULT_L0)
        if self.selection == "all" or self.directions is None or l0 is None:
            return self
        if l0 > self.directions:
            raise ValueError(
                f"of {plural(self.directions, 'direction')} no more are active at once; l0 is"
                f" {l0:g}" + ("" if self.l0 else " unless it says another")
            )
        return self


@register_kind
class BasisRun(_Basis):
    """Make a basis that needs no training: neurons, principal components or random directions, as
    an SAE that is indexed, explained and scored as any other."""

    kind: Literal["basis"] = "basis"

    def sae_ids(self, run_id: uuid.UUID) -> list[uuid.UUID]:
        return [run_id]

    def made_names(self) -> list[str]:
        return [] if self.name is None else [self.name]


@register_kind
class BasisPipelineRun(_Basis):
    """A basis to labelled features: make it, index, explain and score it, each a run of its own."""

    queue: ClassVar[str] = NO_QUEUE

    kind: Literal["basis_pipeline"] = "basis_pipeline"
    indexing: IndexingSpec = IndexingSpec()
    """What to keep per feature."""
    explanation: ExplanationSpec | None = DefaultExplanation()
    """What an LLM makes of features; None leaves it out."""
    scoring: Annotated[
        Scorings | None,
        BeforeValidator(as_list, json_schema_input_type=ScoringSpec | Scorings | None),
    ] = Field(default_factory=lambda: [ScoringSpec()])
    """How explanations are scored, one run each or a single one; None leaves scoring out."""

    def steps(self) -> list[Step]:
        made = BasisRun(**{name: getattr(self, name) for name in _Basis.model_fields})
        steps = [Step(made), Step(IndexRun(sae=PENDING_SAE, indexing=self.indexing), after=0)]
        if self.explanation is not None:
            steps.append(Step(ExplainRun(sae=PENDING_SAE, explanation=self.explanation), after=1))
            for each in self.scoring or []:
                steps.append(Step(ScoreRun(sae=PENDING_SAE, scoring=each), after=2))
        return steps
