"""What is told of heads behind a graph: which carry an edge, and why one looks where it looks."""

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


def heads_told(
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
        found = token_heads(passes, to, source)
    else:
        found = edge_heads(passes, to, _source(prompt, passes.sources, source))
    return _heads(found, top)


def _heads(found: EdgeHeads, top: int) -> GraphHeads:
    every = [
        HeadLoading(layer=each.layer, head=head, value=short(value))
        for each in found.layers
        for head, value in enumerate(each.by_head_H.tolist())
    ]
    every.sort(key=lambda each: -abs(each.value))
    return GraphHeads(
        value=short(found.value),
        heads=[each for each in every[:top] if each.value],
        layers=[
            LayerLoading(
                layer=each.layer,
                heads=short(float(each.by_head_H.sum())),
                bypass=short(each.bypass),
            )
            for each in found.layers
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
    found = (at & (features.latent_N == (-1 if place.latent is None else place.latent))).nonzero()
    if place.kind != "feature" or not len(found):
        raise DataError("This reading of the prompt does not have that node.", "Trace it again.")
    return int(found[0, 0])


class _Named(NamedTuple):
    """Kinds of the sources of a score by their numbers."""

    sources: Sources

    def kind(self, number: int) -> SourceKind:
        starts: tuple[tuple[SourceKind, int], ...] = (
            ("rounding", self.sources.first_goal + 1),
            ("head", self.sources.first_goal),
            ("bias", self.sources.first_bias),
            ("position", self.sources.first_position),
            ("token", self.sources.first_token),
            ("error", self.sources.first_error),
        )
        return next((kind for kind, start in starts if number >= start), "feature")

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


def score_told(prompt: ReplacedPrompt, asked: GraphScoreRequest) -> GraphScore:
    """Raises as ``source_scores``."""
    passes = TransposedPass(prompt)
    found = source_scores(passes, asked.layer, asked.head, asked.token, asked.source)
    named = _Named(passes.sources)
    pairs, exact = found.largest(asked.listed)
    rows = _chosen(found.query_relative_N, asked.listed, [query for query, _ in pairs])
    columns = _chosen(found.key_relative_N, asked.listed, [key for _, key in pairs])
    return GraphScore(
        layer=asked.layer,
        head=asked.head,
        token=asked.token,
        source=asked.source,
        weight=short(found.weight),
        score=short(found.score),
        average=short(found.average),
        query=_side(prompt, named, rows, found.query_score_N, found.query_relative_N),
        key=_side(prompt, named, columns, found.key_score_N, found.key_relative_N),
        pairs=[_pair(found, rows, columns, query, key) for query, key in pairs],
        exact=exact,
        kinds=_kinds(found, named),
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
    found: SourceScores, rows: Sequence[int], columns: Sequence[int], query: int, key: int
) -> ScoredPair:
    score, relative = found.pairs(torch.tensor([query]), torch.tensor([key]))
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
    told = [
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
        told.append(ScoredSource(kind="other", score=score, relative=relative))
    return told


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


def _kinds(found: SourceScores, named: _Named) -> list[ScoredKinds]:
    sums = {
        kind: [each[part].sum(0) for each in (found.query_NE, found.key_NE, found.relative_NE)]
        for kind, part in named.ranges.items()
    }
    made = [
        ScoredKinds(
            query=query,
            key=key,
            score=short(found.scale * float(of_query[0] @ of_key[1])),
            relative=short(found.scale * float(of_query[0] @ of_key[2])),
        )
        for query, of_query in sums.items()
        for key, of_key in sums.items()
    ]
    return sorted((each for each in made if each.score), key=lambda each: -abs(each.relative))
