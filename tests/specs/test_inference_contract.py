"""Every body of the inference contract, requests, calls and answers, is strict, wherever one looks:
a property over all models and all their places."""

from __future__ import annotations

import copy
import importlib
import json
import math
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import monosemy.specs.inference
from monosemy.specs.inference.answer import Answer, parse_answer
from monosemy.specs.part import Part

HOOK = {"host": "", "site": "blocks.1.hook_resid_post", "width": 2}
SAE = {"id": "x", "path": "saes/x", "site": "blocks.1.hook_resid_post"}
MODEL = {"name": "tiny"}
CHAT = [{"role": "user", "content": "Hello"}]
FEATURE = {"index": 3, "strength": 1.5, "unit": "max", "mode": "add"}
RANGE, NAMED = (
    {"first": 0, "last": -1},
    {"texts": ["x"], "ids": [3], "contains": ["."], "kinds": ["blank"]},
)
CONCEPT = {"name": "c", "features": [3], "threshold": 0.5, "scale": -8.0}
WRITING = {
    **{"new_tokens": 3, "temperature": 0.5, "seed": 1, "where": "new"},
    **{"special_tokens": False, "logprobs": 2},
}
SETS = {"positive": ["a"], "negative": ["b"], "chat": False, "pooling": "max", "statistic": "share"}
RERANK = {"description": "whales", "candidates": 10}
SUMMARY = {
    "id": "7c6bd7d2-7b87-4f2f-8c3b-0f6ff6e1b9f4",
    "name": "demo",
    "model": {
        "id": "7c6bd7d2-7b87-4f2f-8c3b-0f6ff6e1b9f4",
        **{"name": "m", "architecture": None, "n_layers": 1, "d_model": 2, "d_vocab": 3},
    },
    **{"site": SAE["site"], "architecture": "topk", "d_in": 2, "d_sae": 4},
    "hooks": {"reads": [HOOK], "writes": [HOOK]},
    **{"metrics": {}, "index": None, "created_at": "2026-01-01T00:00:00Z", "path": "saes/1"},
}
TOKEN = {"id": 2, "text": " x"}
CHANCE = {"id": 2, "text": " x", "logprob": -0.5}
FIRING = {"sae": 0, "index": 3, "activation": 1.5, "label": None}
CHOSEN = {"sae": 0, "index": 3, "label": None, "activations": [1.5]}
BETWEEN = {
    **{"p_value": 0.5, "auroc": 0.5, "standardised": 0.1, "mean_positive": 1.0},
    **{"mean_negative": 0.5, "share_positive": 1.0, "share_negative": 0.5},
    "values": [1.0, 0.5],
}
DIFFERENCE = {**BETWEEN, "feature": 3, "statistic": 0.2}
CONTRASTED = {**BETWEEN, "index": 3, "label": None, "rank": 1, "similarity": 0.5, "rank_score": 0.1}
PUSHED = {"index": 3, "label": None, "strength": 1.5, "mode": "add"}
WRITTEN = {**CHANCE, "top": [CHANCE]}
TEXT = {"text": " x", "tokens": [WRITTEN], "ended": "stop"}
READING = {"features": [[[3, 1.5]]], "chosen": [[1.5]], "unexplained": [0.25], "fires": [3]}
FEATURES = {"sae": [0], "index": [3], "label": ["x"], "density": [0.5], "max_activation": [2.0]}
HELD = {"name": "c", "flagged": True, "score": 1.5, "threshold": 0.5}
PROMPT = {"event": "prompt", "text": "x", "tokens": 1, "pushed": 1, "concepts": [HELD]}

PAIR = {"head": 1, "token": 2, "source": -1}
QUESTION = {
    **{"text": "x", "tokens": [2], "features": [3], "top_k": 3, "depth": 2, "listed": 4},
    "pair": PAIR,
}
SCORED = {
    **{"kind": "feature", "layer": 2, "sae": 1, "feature": 3, "label": "x", "activation": 1.5},
    **{"score": 0.5, "relative": 0.25},
}
LEAF = {"kind": "other", "value": 0.5, "count": 3}
TRACED = {
    **{"kind": "feature", "value": 0.5, "token": -1, "layer": 2, "sae": 1, "feature": 3},
    **{"label": "x", "activation": 1.5, "parts": [LEAF]},
}
ATTENTION = {
    **{"token": 1, "index": 3, "label": "x", "activation": 1.5, "pre": 1.25, "by_head": [0.5]},
    **{"bias_by_head": [0.25], "bos": 0.25, "by_source": [0.25, 0.5], "cells": [[0, -1, 0.25]]},
    **{"b_enc": 0.5, "b_dec": 0.25, "rounding": 0.5, "parts": [TRACED]},
}
GROUPED = {
    **{"query": "features", "key": "bias", "score": 0.5, "relative": 0.25},
    **{"share": 0.75, "relative_share": 0.5},
}
BETWEEN_TOKENS = {
    **{**PAIR, "weight": 0.5, "score": 0.5, "average": 0.25, "query": [SCORED], "key": [SCORED]},
    **{"pairs": [[0, 0, 0.5, 0.25]], "groups": [GROUPED]},
}
SEEN = {
    **{"tokens": [TOKEN], "bos": TOKEN, "layer": 2, "heads": 1, "features": [ATTENTION]},
    "pair": BETWEEN_TOKENS,
}
EDIT = {"coder": 1, "latent": 3, "position": 2, "mode": "scale", "strength": 1.5}
AT_TOKEN = {"coder": 1, "latent": 3, "position": 2, "node": 7, "label": "x"}
STEERED_GOAL = {"label": "x", "before": 1.5, "after": 0.5, "direct": -0.5, "predicted": -1.0}
STEERED_TOKEN = {
    **TOKEN,
    **{"goal": True, "logit_before": 1.5, "logit_after": 0.5},
    **{"probability_before": 0.5, "probability_after": 0.25},
}
CHANGED = {**AT_TOKEN, "before": 1.5, "after": 0.5}
MOVED = {**CHANGED, "predicted": -1.0}
GRAPH_PROMPT = {"model": MODEL, "saes": [SAE], "ids": [1, 2], "whole_tokens": 1, "fingerprint": "f"}
GRAPH_RUN = {"held": "mlps", "top": 3, "features": 4}

READ_AGAIN = {"model": MODEL, "saes": [SAE], "ids": [1, 2], "whole_tokens": 1, "fingerprint": "f"}
BETWEEN_TWO = {"layer": 2, "head": 1, "token": 1, "source": 0, "listed": 4}
LOADING = {"layer": 2, "head": 1, "value": 0.5}
PAIRED = {"query": 0, "key": 0, "score": 0.5, "relative": 0.25}
IN_SCORE = {
    **{"kind": "feature", "branch": "attention", "layer": 2, "activation": 1.5, "label": "x"},
    **{"score": 0.5, "relative": 0.25},
}

EXAMPLES: dict[str, dict[str, Any]] = {
    "AttendedPair": PAIR,
    "AttentionQuestion": QUESTION,
    "AttentionRequest": {**QUESTION, "sae": "demo", "residual_sae": "x", "through": ["y"]},
    "AttentionCall": {**QUESTION, "model": MODEL, "sae": SAE, "through": [SAE]},
    "TracedPart": TRACED,
    "FeatureAttention": ATTENTION,
    "ScoredPartText": SCORED,
    "PairGroup": GROUPED,
    "PairAttention": BETWEEN_TOKENS,
    "AttentionAnswer": SEEN,
    "AttentionResponse": {**SEEN, "sae": SUMMARY, "saes": [SUMMARY]},
    "ChatMessage": CHAT[0],
    "Prompted": {"messages": CHAT, "generation_prompt": True},
    "SaePlace": SAE,
    "SaeCall": {**SAE, "features": [3], "only": False},
    "SaeChoice": {"sae": "demo", "features": [3]},
    "ActivationsRequest": {"text": "x", "saes": [{"sae": "demo", "features": [3]}], "top_k": 3,
                           "unexplained": True},
    "ActivationsCall": {"model": MODEL, "saes": [{**SAE, "features": [3]}], "text": "x",
                        "top_k": 3, "unexplained": True, "clip": True},
    "Reader": {"sae": "demo", "follow": [3]},
    "ReadRequest": {"text": "x", "saes": [{"sae": "demo", "follow": [3]}], "top_k": 3,
                    "order": "rarity"},
    "TokenizeRequest": {"model": "tiny", "messages": CHAT},
    "TokenizeCall": {"model": MODEL, "sae": SAE, "text": "x"},
    "TextSets": SETS,
    "Rerank": RERANK,
    "ContrastRequest": {**SETS, "sae": "demo", "top_k": 3, "rerank": RERANK,
                        "values": True},
    "ContrastCall": {**SETS, "sae": SAE, "model": MODEL, "top": 3, "values": True},
    "SteeredFeature": FEATURE,
    "Beginning": {"messages": CHAT},
    "WritingOptions": WRITING,
    "PositionRange": RANGE,
    "TokenPredicate": NAMED,
    "TokenPlaces": {"where": "tokens", "special_tokens": False, "tokens": NAMED},
    "SteerRequest": {**WRITING, "sae": "demo", "prompt": "x", "features": [FEATURE],
                     "concepts": ["c"], "compare": True, "stream": False},
    "Push": {"latent": 3, "strength": 1.5, "mode": "clamp"},
    "SteerCall": {"sae": SAE, "model": MODEL, "prompt": "x", "writing": WRITING,
                  "pushes": [{"latent": 3, "strength": 1.5}], "concepts": [CONCEPT],
                  "compare": True},
    "EmbedCall": {"texts": ["x"]},
    "TokenText": TOKEN,
    "FiringFeature": FIRING,
    "TokenActivations": {**TOKEN, "features": [FIRING]},
    "ChosenFeature": CHOSEN,
    "ActivationsResponse": {"sae": SUMMARY, "saes": [SUMMARY], "chosen": [CHOSEN],
                            "tokens": [{**TOKEN, "features": [FIRING]}], "unexplained": [[0.25]]},
    "SaeActivations": READING,
    "ActivationsAnswer": {"tokens": [TOKEN], "saes": [READING], "left_out": 3},
    "TokenColumns": {"id": [2], "text": [" x"]},
    "FeatureColumns": FEATURES,
    "FollowedFeature": {"feature": 0, "activations": [1.5]},
    "ReadResponse": {"saes": [SUMMARY], "tokens": {"id": [2], "text": [" x"]}, "left_out": 0,
                     "features": FEATURES, "firing": [[[0, 1.5]]], "unexplained": [[0.25]],
                     "fires": [[3]],
                     "followed": [{"feature": 0, "activations": [1.5]}]},
    "TokenizeResponse": {"model": SUMMARY["model"], "tokens": [TOKEN], "bos": TOKEN},
    "TokenizeAnswer": {"tokens": [TOKEN], "bos": TOKEN},
    "SetDifference": BETWEEN,
    "Difference": DIFFERENCE,
    "ContrastAnswer": {"positive": [DIFFERENCE], "negative": [], "tokens": 3, "relabellings": 6,
                       "exact": True},
    "ContrastFeature": CONTRASTED,
    "ContrastResponse": {"sae": SUMMARY, "statistic": "share", "positive": [CONTRASTED],
                         "negative": [], "n_positive": 1, "n_negative": 1, "tokens": 3,
                         "relabellings": 6, "exact": True, "reranked": False, "reason": None},
    "PushedFeature": PUSHED,
    "TokenChance": CHANCE,
    "WrittenToken": WRITTEN,
    "WrittenText": TEXT,
    "SteerResponse": {"sae": SUMMARY, "features": [PUSHED], "prompt": "x", "pushed": 1,
                      "concepts": [HELD], "steered": TEXT, "plain": TEXT},
    "HeldConcept": HELD,
    "PromptEvent": PROMPT,
    "TokenEvent": {**WRITTEN, "event": "token", "row": "plain", "last": True},
    "EndEvent": {"event": "end", "steered": "stop", "plain": "length"},
    "ErrorEvent": {"event": "error", "detail": "x", "status": 500},
    "SteeringBegun": {**PROMPT, "sae": SUMMARY, "features": [PUSHED]},
    "FeatureChange": {"mode": "scale", "strength": 1.5},
    "GraphEdit": {"sae": "demo", "latent": 3, "mode": "clamp", "strength": 1.5},
    "GraphSteering": GRAPH_RUN,
    "GraphSteerRequest": {**GRAPH_RUN, "edits": [{"node": 7, "mode": "add", "strength": 1.5}]},
    "PlacedEdit": EDIT,
    "GraphPrompt": GRAPH_PROMPT,
    "GraphSteerCall": {**GRAPH_PROMPT, **GRAPH_RUN, "edits": [EDIT]},
    "FeaturePlace": AT_TOKEN,
    "EditedFeature": CHANGED,
    "MovedFeature": MOVED,
    "SteeredGoal": STEERED_GOAL,
    "SteeredToken": STEERED_TOKEN,
    "GraphSteered": {"held": "all", "edited": [CHANGED], "edits": 1, "goals": [STEERED_GOAL],
                     "tokens": [STEERED_TOKEN], "kl": 0.25, "features": [MOVED]},
    "GraphPlace": {"kind": "feature", "branch": "mlp", "layer": 2, "position": 1, "coder": 0},
    "GraphHeadsRequest": {"target": 3, "source": 2, "top": 4},
    "GraphScoreRequest": BETWEEN_TWO,
    "GraphHeadsCall": {**READ_AGAIN, "target": {"kind": "feature", "position": 1, "coder": 0},
                       "token": 1, "top": 4},
    "GraphScoreCall": {**READ_AGAIN, **BETWEEN_TWO},
    "HeadLoading": LOADING,
    "LayerLoading": {"layer": 2, "heads": 0.5, "bypass": 0.25},
    "GraphHeads": {"value": 0.75, "heads": [LOADING],
                   "layers": [{"layer": 2, "heads": 0.5, "bypass": 0.25}]},
    "ScoredSource": IN_SCORE,
    "ScoredPair": PAIRED,
    "ScoredKinds": {"query": "token", "key": "bias", "score": 0.5, "relative": 0.25},
    "GraphScore": {"layer": 2, "head": 1, "token": 1, "source": 0, "weight": 0.5, "score": 0.5,
                   "average": 0.25, "query": [IN_SCORE], "key": [IN_SCORE], "pairs": [PAIRED],
                   "exact": True, "kinds": []},
    "EmbedAnswer": {"embeddings": [[0.5, 1.0]]},
    "ServerHealth": {"status": "ok"},
}  # fmt: skip


def models() -> dict[str, type[BaseModel]]:
    """Every model that the contract's modules define."""
    kinds: dict[str, type[BaseModel]] = {}
    package = monosemy.specs.inference
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            own = isinstance(value, type) and value.__module__ == info.name
            if own and issubclass(value, BaseModel) and value is not Answer:
                kinds[name] = value
    return kinds


MODELS = models()


def read(model: type[BaseModel], data: Any) -> BaseModel:
    """As it comes over the wire."""
    if issubclass(model, Answer):
        return parse_answer(model, json.dumps(data))
    return model.model_validate(data)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Everything within, with its path."""
    yield path, value
    if isinstance(value, dict):
        for name, item in value.items():
            yield from places(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from places(item, (*path, number))


def changed(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    data = copy.deepcopy(data)
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return data


def test_every_model_has_its_example() -> None:
    assert set(MODELS) == set(EXAMPLES)
    assert all(issubclass(model, Part | Answer) for model in MODELS.values())


def of_a_part(name: str, path: tuple[Any, ...]) -> bool:
    """Whether it says which part of an attribution something is, where not every kind has all; or
    the token of a pair that is asked for, which may be left out."""
    of_part = {"token", "layer", "sae", "feature", "activation", "count"}
    if name in ("TracedPart", "ScoredPartText", "ScoredSource") or {"parts", "query", "key"} & set(
        path
    ):
        return path[-1] in of_part
    asks = name.endswith(("Request", "Call", "Question", "AttendedPair"))
    return asks and path[-2:] in (("token",), ("pair", "token"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_model_is_strict_in_every_place(name: str) -> None:
    model, example = MODELS[name], EXAMPLES[name]
    read(model, example)
    summaries = ("sae", "saes", "model")  # of the service's own making: not read strictly
    for path, value in places(example):
        summary = issubclass(model, Answer) and path and path[0] in summaries
        if summary and not isinstance(example[path[0]], int):
            continue
        wrong: list[Any] = []
        if isinstance(value, int | float) and not isinstance(value, bool):
            wrong = [True, False, math.nan, math.inf, -math.inf, "many", None, [], {}]
            optional = {"pushed", "similarity", "rank_score", "density", "max_activation", "bos"}
            optional |= {"node", "predicted"}
            may = bool(optional & set(path)) or of_a_part(name, path)
            wrong = [each for each in wrong if each is not None or not may]
        elif isinstance(value, bool):
            wrong = ["perhaps", 7, 0.5, [], {}]
        elif isinstance(value, str):
            wrong = [7, True, [], {}]
        elif isinstance(value, dict):
            wrong = [{**value, "surplus": 1}, [], 7, True]
        elif isinstance(value, list):
            wrong = [7, True, "x", {}]
        for each in wrong:
            data = changed(example, path, each)
            with pytest.raises(ValidationError):
                read(model, data)
                pytest.fail(f"{name} takes {each!r} at {path}")


def test_the_bodies_that_were_once_accepted() -> None:
    feature = {"index": True, "strength": True}
    body = {"sae": "demo", "prompt": "x", "features": [feature], "new_tokens": True}
    with pytest.raises(ValidationError) as caught:
        MODELS["SteerRequest"].model_validate(body)
    assert {error["type"] for error in caught.value.errors()} == {"no_number"}
