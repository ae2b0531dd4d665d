"""Keys of explanations and scores that are stored: they are literals of the time when all scorers
shared one spec, and no option or scorer that was added since may change them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from monosemy.interp.labelling import explanation_key, score_key
from monosemy.specs import (
    DetectionScoring,
    ExplanationSpec,
    FuzzingScoring,
    ScoreRun,
    ScoringSpec,
    parse_spec,
    parse_stored_spec,
)

PROMPTLESS: Any = SimpleNamespace(name="x")
SCORES: list[tuple[dict[str, Any], str]] = [
    ({"scorer": "detection"}, "f93ea4af87edef62"),
    ({"scorer": "fuzzing"}, "cd0e531e0cc6611f"),
    ({"scorer": "simulation"}, "3e8af83af2bc16c5"),
    ({"scorer": "embedding"}, "16a32e4141cdd778"),
    ({"scorer": "surprisal"}, "d82e44de16074416"),
    ({"scorer": "intervention"}, "84938fd3d6277353"),
    ({"scorer": "example_embedding"}, "389c1b9a95394ed5"),
    ({"scorer": "intruder"}, "9434b7cdbc589c09"),
    ({"scorer": "discrimination"}, "2f9934513009c373"),
    ({}, "f93ea4af87edef62"),
    (
        {
            "positives": 50,
            "negatives": 40,
            "tiers": ["random", "same_token"],
            "texts_per_call": 9,
            "seed": 3,
        },
        "d342a63e68d4e741",
    ),
    (
        {
            "scorer": "fuzzing",
            "half_width": 0.1,
            "looks": 5,
            "shuffled_baseline": False,
            "empty_baseline": True,
        },
        "f4c1df61a7172972",
    ),
    ({"scorer": "embedding", "texts_per_call": 7}, "8f4f665552d1e20f"),
    (
        {"scorer": "intervention", "intervention": {"mode": "zero", "prompts": 4}, "positives": 20},
        "50fb1536d7b5bfb8",
    ),
    ({"scorer": "intervention", "intervention": {"kl": 2.0}}, "fdc61a4ce5d7cd3b"),
    (
        {
            "scorer": "detection",
            "judge": {"temperature": 0.7, "max_output_tokens": 99, "model": "m", "batch": True},
        },
        "b10d39c8e6898a4b",
    ),
]
EXPLANATIONS: list[tuple[dict[str, Any], str]] = [
    ({"explainer": "default"}, "0921880a1ef62cdd"),
    ({"explainer": "contrastive"}, "18ed1144911eb227"),
    ({"explainer": "output_centric"}, "647a03f9fbfce978"),
    ({"explainer": "ensemble"}, "da83a41458a7bb70"),
    ({}, "0921880a1ef62cdd"),
    ({"examples": 20, "contrasts": 7, "features": {"seed": 5, "count": 3}}, "879415bd4d4ee4a4"),
    (
        {
            "explainer": "ensemble",
            "candidates": ["default", "contrastive"],
            "validation_examples": 20,
        },
        "a4203f3edaf3758d",
    ),
    ({"explainer": "ensemble", "token_change": True}, "2f9fa10636276334"),
    (
        {"explainer": "output_centric", "token_change": True, "single_token": True},
        "40cf46b5219c570c",
    ),
    ({"contrasts": 9}, "703148bca461acb5"),
    ({"judge": {"temperature": 0.5}}, "9e6fa136d904904c"),
]
JUDGE = {
    "url": None,
    "model": None,
    "temperature": 0.0,
    "max_output_tokens": 160,
    "concurrency": 2,
    "batch": False,
    "price": None,
    "budget": None,
}
FLAT_SCORING: dict[str, Any] = {
    "positives": 10,
    "negatives": 10,
    "tiers": ["random"],
    "texts_per_call": 5,
    "half_width": None,
    "looks": 4,
    "shuffled_baseline": True,
    "empty_baseline": False,
    "judge": JUDGE,
    "intervention": {"mode": "add", "kl": 1.0, "new_tokens": 8, "prompts": None},
    "probe": {"folder": "probes/default"},
    "seed": 0,
}
"""A score's spec as it was stored, with the options of all scorers."""
FLAT_EXPLANATION: dict[str, Any] = {
    "candidates": ["default", "contrastive", "output_centric"],
    "token_change": False,
    "single_token": False,
    "features": {
        "count": 8,
        "indices": None,
        "min_postings": 60,
        "max_density": 0.05,
        "seed": 0,
    },
    "examples": 10,
    "contrasts": 5,
    "validation_examples": 10,
    "judge": JUDGE,
}


@pytest.mark.parametrize(("options", "key"), SCORES)
def test_keys_of_scores(options: dict[str, Any], key: str) -> None:
    for given in (options, {**FLAT_SCORING, **options}):
        run = parse_spec({"kind": "score", "sae": "s", "scoring": given})
        assert isinstance(run, ScoreRun)
        assert score_key(run.scoring, PROMPTLESS, "text-1", "judge-1") == key
    assert score_key(ScoringSpec(**options), PROMPTLESS, "text-1", "judge-1") == key


@pytest.mark.parametrize(("options", "key"), EXPLANATIONS)
def test_keys_of_explanations(options: dict[str, Any], key: str) -> None:
    for given in (options, {**FLAT_EXPLANATION, **options}):
        spec: Any = parse_spec({"kind": "explain", "sae": "s", "explanation": given})
        assert explanation_key(spec.explanation, PROMPTLESS, "text-1", "judge-1") == key
    assert explanation_key(ExplanationSpec(**options), PROMPTLESS, "text-1", "judge-1") == key


def test_the_key_among_others_explanations() -> None:
    spec = ScoringSpec(scorer="discrimination")
    assert score_key(spec, PROMPTLESS, "text-1", "judge-1", "abc") == "c60e1ef02c3b3a38"


def test_stored_runs_of_a_scorer_that_is_gone_are_read_and_not_accepted_anew() -> None:
    stored = {"kind": "score", "sae": "s", "scoring": {**FLAT_SCORING, "scorer": "probe"}}
    spec: Any = parse_stored_spec(stored)
    assert spec.scoring.scorer == "probe"
    with pytest.raises(Exception, match=r"scoring\.scorer: the scorer probe is gone"):
        parse_spec(stored)


def test_the_options_of_another_scorer_are_left_out_with_a_warning() -> None:
    with pytest.warns(
        DeprecationWarning, match="'intervention' is no option of the scorer fuzzing"
    ):
        spec = ScoringSpec(scorer="fuzzing", intervention={"mode": "zero"})
    assert spec == FuzzingScoring() and type(ScoringSpec()) is DetectionScoring
