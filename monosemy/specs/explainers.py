"""What an explanation may ask for: what all explainers share, and one class for each; importable
without torch.  ``implementation`` names the class in ``monosemy/interp/explainers`` that explains.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from monosemy.specs.part import NAME
from monosemy.specs.parts import FeatureSelection, JudgeSpec
from monosemy.specs.references import Plain
from monosemy.specs.registry import (
    Need,
    Plugin,
    Registered,
    Registry,
    fault,
    register,
    without_flat,
)

EXPLAINERS: Registry[ExplanationSpec] = Registry("explainer", "explainer", "default")
"""The options' class of every explainer, those of plugins included."""

FOR_OUTPUT = "it is for the explainer output_centric, alone or in an ensemble"

_FLAT = {"candidates": ["default", "contrastive", "output_centric"], "token_change": False}
"""Options, with their defaults, that every explanation had when all explainers shared one spec."""


class ExplanationSpec(Registered):
    """What all explainers share; any of them where it is the type of a field."""

    registry: ClassVar = EXPLAINERS
    needs: ClassVar[frozenset[Need]] = frozenset()
    """What the explainer works with, whatever the options."""

    explainer: Annotated[str, Plain()] = Field("default", max_length=NAME)
    """Who explains, and from what."""
    single_token: bool = False
    """Explain a feature that stands for one word by its counts alone, without asking the judge."""
    features: FeatureSelection = FeatureSelection()
    """Which features to explain."""
    examples: int = Field(10, ge=1, le=100)
    """Examples shown to the explainer, from the explanation split of documents."""
    contrasts: int = Field(5, ge=1, le=50)
    """Close silent texts shown to explainers that want them."""
    validation_examples: int = Field(10, ge=2, le=200)
    """Activating and as many silent texts, from the validation split, to choose a candidate by."""
    judge: JudgeSpec = JudgeSpec()
    """The explaining LLM."""

    @model_validator(mode="before")
    @classmethod
    def _without_the_others_options(cls, data: Any) -> Any:
        changes_tokens = isinstance(data, dict) and data.get("token_change") is True
        if changes_tokens and "token_change" not in cls.model_fields:
            raise fault(cls, "token_change", FOR_OUTPUT, True)
        return without_flat(cls, data, _FLAT)

    @property
    def required(self) -> frozenset[Need]:
        """What the explainer works with, under these options."""
        return self.needs


_TOKEN_CHANGE = """The output-centric explainer also sees which words adding the feature in the host
model makes likelier.  The run then goes to a GPU worker; on a CPU each feature takes some
seconds."""


@register
class DefaultExplanation(ExplanationSpec):
    """Highlighted examples, with the tokens on which the feature fires and those it promotes."""

    implementation = "monosemy.interp.explainers.default:DefaultExplainer"
    needs = frozenset({Need.JUDGE})
    explainer: Literal["default"] = "default"


@register
class ContrastiveExplanation(ExplanationSpec):
    """Highlighted examples beside close texts in which the feature is silent."""

    implementation = "monosemy.interp.explainers.contrastive:ContrastiveExplainer"
    needs = frozenset({Need.JUDGE})
    explainer: Literal["contrastive"] = "contrastive"


@register
class OutputCentricExplanation(ExplanationSpec):
    """The words that the feature makes likelier."""

    implementation = "monosemy.interp.explainers.output_centric:OutputCentricExplainer"
    needs = frozenset({Need.JUDGE})
    explainer: Literal["output_centric"] = "output_centric"
    token_change: bool = Field(False, description=_TOKEN_CHANGE)

    @property
    def required(self) -> frozenset[Need]:
        return self.needs | {Need.HOST} if self.token_change else self.needs


def _candidate(name: str) -> str:
    if name == "ensemble" or name not in EXPLAINERS:
        known = ", ".join(each for each in EXPLAINERS if each != "ensemble")
        raise ValueError(f"'{name}' is no explainer that an ensemble can ask; known: {known}")
    return name


Candidate = Annotated[str, Plain(), Field(max_length=NAME), AfterValidator(_candidate)]


@register
class EnsembleExplanation(ExplanationSpec):
    """Several explainers, of which validation examples choose the best."""

    implementation = "monosemy.interp.explainers.ensemble:EnsembleExplainer"
    needs = frozenset({Need.JUDGE})
    explainer: Literal["ensemble"] = "ensemble"
    candidates: tuple[Candidate, ...] = Field(
        ("default", "contrastive", "output_centric"), min_length=1, max_length=8
    )
    """Explainers of the ensemble."""
    token_change: bool = Field(False, description=_TOKEN_CHANGE)

    @field_validator("token_change")
    @classmethod
    def _is_used(cls, value: bool, info: ValidationInfo) -> bool:
        if value and "output_centric" not in info.data.get("candidates", ()):
            raise ValueError(FOR_OUTPUT)
        return value

    @property
    def required(self) -> frozenset[Need]:
        return self.needs.union(*(each.required for each in self.of_candidates()))

    def plugins(self) -> list[Plugin]:
        return [plugin for each in self.of_candidates() for plugin in each.plugins()]

    def of_candidates(self) -> list[ExplanationSpec]:
        """The candidates' own specs, with the options that they share with this one."""
        shared = {name: getattr(self, name) for name in type(self).model_fields}
        shared["single_token"] = False  # before all of them, if at all
        specs = []
        for name in self.candidates:
            kind = EXPLAINERS[name]
            options = {key: value for key, value in shared.items() if key in kind.model_fields}
            specs.append(kind(**{**options, "explainer": name}))
        return specs
