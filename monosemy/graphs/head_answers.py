"""Answers about heads behind a graph: which carry an edge, and why one looks where it looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from monosemy.attribution.pairs import short
from monosemy.errors import DataError
from monosemy.graphs.goals import Goal
from monosemy.graphs.heads import EdgeHeads, edge_heads, token_heads
from monosemy.graphs.names import BIASES
from monosemy.graphs.prompt import ReplacedPrompt
from monosemy.graphs.run import goals_of
from monosemy.graphs.score_pairs import SourceScores, source_scores
from monosemy.graphs.sources import Sources
from monosemy.graphs.transposed import TransposedPass
from monosemy.specs.graphs import GraphGoals
from monosemy.specs.inference.graph_heads import (
    GraphHeads,
    GraphPlace,
    GraphScore,
    GraphScoreRequest,
    HeadLoading,
    LayerLoading,
    ScoredKinds,
    ScoredPair,
    ScoredSource,
    SourceKind,
)


def answer_heads(
    prompt: ReplacedPrompt,
    asked: GraphGoals,
    target: GraphPlace,
    source: GraphPlace | int,
    top: int,
) -> GraphHeads:
    """The heads of an edge from ``source``, or of what a token gives (its number).

    Raises ``DataError`` for a node that this reading of the prompt does not have.
    """
    passes = TransposedPass(prompt)
    if target.goal is not None:
        goals = goals_of(prompt, asked)
        if target.goal >= len(goals):
            raise DataError(f"The graph explains {len(goals)} goals, so none is {target.goal}.")
        to: int | Goal = goals[target.goal]
    else:
        to = _source(prompt, passes.sources, target)
    if isinstance(source, int):
        return _heads(token_heads(passes, to, source), top)
    return _heads(edge_heads(passes, to, _source(prompt, passes.sources, source)), top)


def _heads(edge: EdgeHeads, top: int) -> GraphHeads:
    every = [
        HeadLoading(layer=each.layer, head=head, value=short(value))
        for each in edge.layers
        for head, value in enumerate(each.by_head_H.tolist())
    ]
    every.sort(key=lambda each: -abs(each.value))
    return GraphHeads(
        value=short(edge.value),
        heads=[each for each in every[:top] if each.value],
        layers=[
            LayerLoading(
                layer=each.layer,
                heads=short(float(each.by_head_H.sum())),
                bypass=short(each.bypass),
            )
            for each in edge.layers
        ],
    )


def _source(prompt: ReplacedPrompt, sources: Sources, place: GraphPlace) -> int:
    """The number of a node among the prompt's sources."""
    if place.position >= prompt.length or place.layer >= prompt.layers:
        raise DataError("The prompt has no such token, or the host model no such layer.")
    if place.kind == "token":
        return sources.first_token + place.position
    if place.kind == "position" and sources.positions:
        return sources.first_position + place.position
    if place.kind == "error" and place.branch == "mlp":
        return sources.error(place.layer, place.position)
    if place.kind == "error" and place.layer in sources.attention:
        return sources.attention_error(place.layer, place.position)
    features = prompt.features
    at = (features.coder_N == place.coder) & (features.position_N == place.position)
    own = (at & (features.latent_N == (-1 if place.latent is None else place.latent))).nonzero()
    if place.kind != "feature" or not len(own):
        raise DataError("This reading of the prompt does not have that node.", "Trace it again.")
    return int(own[0, 0])


class _Named(NamedTuple):
    """Kinds of the sources of a score by their numbers."""

    sources: Sources

    def kind(self, number: int) -> SourceKind:
        return next(kind for kind, own in self.ranges.items() if own.start <= number < own.stop)

    @property
    def ranges(self) -> dict[SourceKind, slice]:
        s = self.sources
        return {
            "feature": slice(0, s.features),
            "error": slice(s.first_error, s.first_token),
            "token": slice(s.first_token, s.first_position),
            "position": slice(s.first_position, s.first_bias),
            "bias": slice(s.first_bias, s.first_goal),
            "head": slice(s.first_goal, s.first_goal + 1),
            "rounding": slice(s.first_goal + 1, s.first_goal + 2),
        }


def answer_score(prompt: ReplacedPrompt, asked: GraphScoreRequest) -> GraphScore:
    """Raises as ``source_scores``."""
    passes = TransposedPass(prompt)
    scores = source_scores(passes, asked.layer, asked.head, asked.token, asked.source)
    named = _Named(passes.sources)
    pairs, exact = scores.largest(asked.listed)
    rows = _chosen(scores.query_relative_N, asked.listed, [query for query, _ in pairs])
    columns = _chosen(scores.key_relative_N, asked.listed, [key for _, key in pairs])
    return GraphScore(
        layer=asked.layer,
        head=asked.head,
        token=asked.token,
        source=asked.source,
        weight=short(scores.weight),
        score=short(scores.score),
        average=short(scores.average),
        query=_side(prompt, named, rows, scores.query_score_N, scores.query_relative_N),
        key=_side(prompt, named, columns, scores.key_score_N, scores.key_relative_N),
        pairs=[_pair(scores, rows, columns, query, key) for query, key in pairs],
        exact=exact,
        kinds=_kinds(scores, named),
    )


def _chosen(relative_N: Tensor, listed: int, also: Sequence[int]) -> list[int]:
    """The largest, with those of the listed pairs; the largest first."""
    order = relative_N.abs().argsort(descending=True, stable=True)
    wanted = {*order[:listed].tolist(), *also}
    size = relative_N.abs().tolist()
    return sorted(
        (each for each in wanted if size[each] > 0 or each in also), key=lambda n: (-size[n], n)
    )


def _pair(
    scores: SourceScores, rows: Sequence[int], columns: Sequence[int], query: int, key: int
) -> ScoredPair:
    score, relative = scores.pairs(torch.tensor([query]), torch.tensor([key]))
    return ScoredPair(
        query=rows.index(query),
        key=columns.index(key),
        score=short(float(score)),
        relative=short(float(relative)),
    )


def _side(
    prompt: ReplacedPrompt,
    named: _Named,
    chosen: Sequence[int],
    score_N: Tensor,
    relative_N: Tensor,
) -> list[ScoredSource]:
    parts = [
        ScoredSource(
            kind=named.kind(number),
            **_place(prompt, named, number),
            score=short(float(score_N[number])),
            relative=short(float(relative_N[number])),
        )
        for number in chosen
    ]
    rest = torch.ones(len(score_N), dtype=torch.bool)
    rest[list(chosen)] = False
    if bool(rest.any()):
        sums = (short(float(each.cpu()[rest].sum())) for each in (score_N, relative_N))
        score, relative = sums
        parts.append(ScoredSource(kind="other", score=score, relative=relative))
    return parts


def _place(prompt: ReplacedPrompt, named: _Named, number: int) -> dict[str, object]:
    """What a source is of."""
    s, features, kind = named.sources, prompt.features, named.kind(number)
    if kind == "feature":
        coder = int(features.coder_N[number])
        attends = prompt.model.coders[coder].attention is not None
        return {
            "branch": "attention" if attends else "mlp",
            "layer": int(features.layer_N[number]),
            "position": int(features.position_N[number]),
            "coder": coder,
            "latent": int(features.latent_N[number]),
            "activation": short(float(features.activation_N[number])),
        }
    if kind == "error":
        layer, position = divmod(number - s.first_error, s.tokens)
        attends = layer >= s.layers
        layer = s.attention[layer - s.layers] if attends else layer
        branch = "attention" if attends else "mlp"
        return {"branch": branch, "layer": layer, "position": position}
    if kind in ("token", "position"):
        return {"position": (number - s.first_token) % s.tokens}
    return {"bias": BIASES[number - s.first_bias]} if kind == "bias" else {}


def _kinds(scores: SourceScores, named: _Named) -> list[ScoredKinds]:
    sums = {
        kind: [each[part].sum(0) for each in (scores.query_NE, scores.key_NE, scores.relative_NE)]
        for kind, part in named.ranges.items()
    }
    made = [
        ScoredKinds(
            query=query,
            key=key,
            score=short(scores.scale * float(of_query[0] @ of_key[1])),
            relative=short(scores.scale * float(of_query[0] @ of_key[2])),
        )
        for query, of_query in sums.items()
        for key, of_key in sums.items()
    ]
    return sorted((each for each in made if each.score), key=lambda each: -abs(each.relative))
