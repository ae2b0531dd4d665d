"""A spec in short is the whole spec again."""

from __future__ import annotations

from typing import Any

import pytest

from monosemy.specs import ARCHITECTURES, EXPLAINERS, KINDS, SCORERS, parse_spec
from monosemy.specs.differing import differing

NEEDED: dict[str, dict[str, Any]] = {
    "import": {"source": "hub:a/b"},
    "compare": {"sae": "a", "other": "b"},
    "task": {"saes": ["a"]},
    "benchmark": {"saes": ["a"]},
    "evaluate_set": {"saes": ["a", "b"]},
    "feature_circuit": {"saes": ["a"]},
    "graph": {"prompt": "a b", "set": "s"},
    "concept": {"name": "c", "sae": "a", "targets": ["x"], "retain": ["y"]},
    **{
        kind: {"sae": "a"}
        for kind in ("evaluate", "index", "explain", "score", "layout", "attention")
    },
}


def again(spec: dict[str, Any]) -> dict[str, Any]:
    parsed = parse_spec(spec)
    short = {"kind": parsed.kind, **differing(parsed)}
    assert parse_spec(short) == parsed
    return short


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_is_left_to_defaults_is_not_said(kind: str) -> None:
    least = {"kind": kind, **NEEDED.get(kind, {})}
    assert again(least) == least


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_every_architecture(architecture: str) -> None:
    sae: dict[str, Any] = {"architecture": architecture, "d_sae": 64}
    if architecture == "transcoder":
        sae["target_site"] = "blocks.10.hook_mlp_out"
    short = again({"kind": "train", "sae": sae, "training": {"tokens": 5}})
    assert short["training"] == {"tokens": 5}
    assert short["sae"].get("architecture", "topk") == architecture


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_every_scorer_in_a_list(scorer: str) -> None:
    """Their names are what tells the items of a list apart."""
    short = again({"kind": "pipeline", "scoring": [{"scorer": scorer}, {"seed": 3}]})
    assert short["scoring"][0].get("scorer", "detection") == scorer
    assert short["scoring"][1] == {"seed": 3}


@pytest.mark.parametrize("explainer", list(EXPLAINERS))
def test_every_explainer(explainer: str) -> None:
    explanation = {"explainer": explainer, "judge": {"budget": 2.0, "price": {"input": 1.0}}}
    again({"kind": "explain", "sae": "x", "explanation": explanation})


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "pipeline", "evaluation": None, "explanation": None, "scoring": None},
        {"kind": "train", "training": {"max_norm_ratio": None, "seed": -4}},
        {"kind": "sweep", "saes": [{"k": 4}, {"architecture": "relu"}], "learning_rates": [0.1]},
        {"kind": "score", "sae": "x", "features": [3, 1], "dry_run": True},
    ],
)
def test_what_is_said_stays(spec: dict[str, Any]) -> None:
    assert again(spec) == spec
