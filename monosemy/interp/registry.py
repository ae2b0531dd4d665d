"""Explainers and scorers by the names that run specs use: one file and one line each."""

from __future__ import annotations

from collections.abc import Callable

from monosemy.interp.explainers.base import Explainer
from monosemy.interp.explainers.contrastive import ContrastiveExplainer
from monosemy.interp.explainers.default import DefaultExplainer
from monosemy.interp.explainers.ensemble import EnsembleExplainer
from monosemy.interp.explainers.output_centric import OutputCentricExplainer, TokenChange
from monosemy.interp.explainers.single_token import SingleTokenExplainer
from monosemy.interp.scorers.base import Scorer
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.interp.scorers.discrimination import DiscriminationScorer
from monosemy.interp.scorers.embedding import EmbeddingScorer
from monosemy.interp.scorers.example_embedding import ExampleEmbeddingScorer
from monosemy.interp.scorers.fuzzing import FuzzingScorer
from monosemy.interp.scorers.intruder import IntruderScorer
from monosemy.interp.scorers.simulation import SimulationScorer
from monosemy.interp.tools import Tools
from monosemy.specs.parts import ExplanationSpec, ScoringSpec

explainers: dict[str, Callable[[ExplanationSpec, Tools], Explainer]] = {
    "default": lambda spec, tools: DefaultExplainer(tools.need_judge(), spec.examples),
    "contrastive": lambda spec, tools: ContrastiveExplainer(
        tools.need_judge(), spec.examples, spec.contrasts
    ),
    "output_centric": lambda spec, tools: OutputCentricExplainer(
        tools.need_judge(), _token_change(tools) if spec.token_change else None
    ),
    "ensemble": lambda spec, tools: EnsembleExplainer(
        [explainers[name](spec, tools) for name in spec.candidates],
        DetectionScorer(tools.need_judge(), spec.validation_examples, spec.features.seed),
    ),
}

scorers: dict[str, Callable[[ScoringSpec, Tools], Scorer]] = {
    "detection": lambda spec, tools: DetectionScorer(
        tools.need_judge(), spec.texts_per_call, spec.seed
    ),
    "fuzzing": lambda spec, tools: FuzzingScorer(
        tools.need_judge(), spec.texts_per_call, spec.seed
    ),
    "discrimination": lambda spec, tools: DiscriminationScorer(
        tools.need_judge(), spec.texts_per_call, spec.seed
    ),
    "embedding": lambda _, tools: EmbeddingScorer(tools.need_embed()),
    "example_embedding": lambda spec, tools: ExampleEmbeddingScorer(
        tools.need_embed(), seed=spec.seed
    ),
    "intruder": lambda spec, tools: IntruderScorer(
        tools.need_judge(), spec.texts_per_call, spec.seed
    ),
    "intervention": lambda spec, tools: _intervention(spec, tools),
    "probe": lambda spec, tools: _probe(spec, tools),
    "simulation": lambda spec, tools: SimulationScorer(
        tools.need_judge(), spec.texts_per_call, spec.seed
    ),
    "surprisal": lambda _, tools: _surprisal(tools),
}


def _token_change(tools: Tools) -> TokenChange:
    from monosemy.interp.token_change import TokenChanges  # needs torch

    return TokenChanges(tools.need_hosted_sae())


def _surprisal(tools: Tools) -> Scorer:
    from monosemy.interp.scorers.surprisal import SurprisalScorer  # needs torch

    return SurprisalScorer(tools.need_hosted_sae())


def _probe(spec: ScoringSpec, tools: Tools) -> Scorer:
    from monosemy.interp.probe.probe import Probe  # needs safetensors
    from monosemy.interp.scorers.probe import ProbeScorer  # needs torch

    hosted = tools.need_hosted_sae()
    probe = Probe.load(tools.need_workspace().locate(spec.probe.folder))
    unsure = DetectionScorer(tools.need_judge(), spec.texts_per_call, spec.seed)
    return ProbeScorer(hosted, probe, unsure)


def _intervention(spec: ScoringSpec, tools: Tools) -> Scorer:
    from monosemy.interp.scorers.intervention import InterventionScorer  # needs torch

    return InterventionScorer(tools.need_hosted_sae(), spec.intervention, spec.seed)


def create_explainer(spec: ExplanationSpec, tools: Tools) -> Explainer:
    """The explainer that ``spec.explainer`` names; ``DataError`` if a tool is missing."""
    explainer = explainers[spec.explainer](spec, tools)
    return SingleTokenExplainer(explainer) if spec.single_token else explainer


def create_scorer(spec: ScoringSpec, tools: Tools) -> Scorer:
    """The scorer that ``spec.scorer`` names; ``DataError`` if a tool is missing."""
    return scorers[spec.scorer](spec, tools)
