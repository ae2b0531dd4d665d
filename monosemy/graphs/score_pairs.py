"""Why a head looks where it looks: one score as a sum over pairs of a graph's sources.

    S[t, s] = scale * q_t . k_s = sum over sources i, j of the prompt of  Q_i . K_j,

where a source (feature, error, token, position, bias) has the part of query and key that reaches
it in the graph's own world: attention below held, MLPs and what SAEs of attention stand for
replaced.  ``Q`` and ``K`` are edges into the head's dimensions, so a transposed pass makes them,
and rotations are applied dimension by dimension.  A softmax ignores what is the same for every key:
the relative part of a source of the key is what it has more there than on average over the keys
that the head looks at (``attribution/scores.py``).

QK attribution as Kamath et al. (2025) have it; there of one layer's stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from monosemy.attribution.scores import HeadSide, ScoredHead
from monosemy.errors import DataError
from monosemy.graphs.prompt import ReplacedPrompt
from monosemy.graphs.transposed import Probe, TransposedPass

_BATCH = 64
_FIRST = 256
"""Sources of either side among which the largest pairs are looked for at first."""
_MOST = 4096


@dataclass(frozen=True)
class SourceScores:
    """One score taken apart; float64.  N sources of the prompt, then two of the head's own: its
    biases (``N``), and what the sums miss by rounding (``N + 1``)."""

    layer: int
    head: int
    token: int
    source: int
    weight: float
    """The attention that came of it."""
    score: float
    """As the model computed it, before a soft cap."""
    average: float
    """Of the scores of all keys, weighted by attention."""
    scale: float
    query_NE: Tensor
    key_NE: Tensor
    relative_NE: Tensor
    """The key's less what each source has on average over the keys."""

    @cached_property
    def query_score_N(self) -> Tensor:
        """What each source of the query counts with the whole key; they sum to the score."""
        return self.scale * self.query_NE @ self.key_NE.sum(0)

    @cached_property
    def query_relative_N(self) -> Tensor:
        """The same of ``score - average``."""
        return self.scale * self.query_NE @ self.relative_NE.sum(0)

    @cached_property
    def key_score_N(self) -> Tensor:
        return self.scale * self.key_NE @ self.query_NE.sum(0)

    @cached_property
    def key_relative_N(self) -> Tensor:
        return self.scale * self.relative_NE @ self.query_NE.sum(0)

    def pairs(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(scores, relative scores) of these sources with those, ``[Q, K]``."""
        query_QE = self.scale * self.query_NE[queries]
        return query_QE @ self.key_NE[keys].T, query_QE @ self.relative_NE[keys].T

    def largest(self, count: int) -> tuple[list[tuple[int, int]], bool]:
        """(the pairs of the largest relative scores, whether no other pair can be larger).

        Looked for among the sources of the longest vectors, more and more of them, until the rest
        cannot reach what was seen: a pair is at most the product of its lengths.
        """
        length_N, other_N = (each.norm(dim=1) for each in (self.query_NE, self.relative_NE))
        orders = [each.argsort(descending=True, stable=True) for each in (length_N, other_N)]
        size = len(length_N)
        among = _FIRST
        while True:
            rows, columns = (order[:among] for order in orders)
            flat = self.pairs(rows, columns)[1].abs().flatten()
            top = flat.topk(min(count, len(flat)))
            least = float(top.values[-1])
            beyond = 0.0
            if among < size:
                beyond = self.scale * max(
                    float(length_N[orders[0][among]] * other_N[orders[1][0]]),
                    float(length_N[orders[0][0]] * other_N[orders[1][among]]),
                )
            exact = beyond <= least
            if exact or among >= min(_MOST, size):
                at = [divmod(each, len(columns)) for each in top.indices.tolist()]
                return [(int(rows[q]), int(columns[k])) for q, k in at], exact
            among *= 4


def source_scores(
    passes: TransposedPass, layer: int, head: int, token: int, source: int
) -> SourceScores:
    """The score of a head between two tokens of the prompt; three rows of edges for each dimension
    of the head.

    Raises ``DataError`` for a block or a head that is not there and a source after the token,
    ``ModelError`` where the scores of this model cannot be taken apart.
    """
    prompt = passes.prompt
    _check(prompt, layer, head, token, source)
    reading = prompt.attention[layer].reading
    sides = ScoredHead.of(reading, prompt.host.name, head)
    pattern_S = prompt.attention[layer].pattern()[head, token, : token + 1].double()
    one = torch.ones(1, dtype=torch.float64, device=pattern_S.device)
    query_NE = _taken_apart(passes, layer, sides.query, {token: one[0]})
    key_NE = _taken_apart(passes, layer, sides.key, {source: one[0]})
    weights = dict(enumerate(pattern_S))
    average_NE = _taken_apart(passes, layer, sides.key, weights)
    own_S = sides.scale * (sides.key.used_SE[: token + 1] @ sides.query.used_SE[token])
    return SourceScores(
        layer=layer,
        head=head,
        token=token,
        source=source,
        weight=float(pattern_S[source]),
        score=float(own_S[source]),
        average=float(pattern_S @ own_S),
        scale=float(sides.scale),
        query_NE=query_NE,
        key_NE=key_NE,
        relative_NE=key_NE - average_NE,
    )


def _taken_apart(
    passes: TransposedPass, layer: int, side: HeadSide, weights: dict[int, Tensor]
) -> Tensor:
    """Queries or keys at some tokens, summed by weights, by source: ``[N + 2, E]`` float64."""
    device = passes.prompt.last_TD.device
    token_N = torch.tensor(list(weights), device=device)
    into_NDE = torch.stack([weight * side.directions(at) for at, weight in weights.items()])
    width = into_NDE.shape[-1]
    probes = [Probe(layer, token_N, into_NDE[..., each].float()) for each in range(width)]
    rows = [
        passes.rows(probes[start : start + _BATCH]).edges_NB.double()
        for start in range(0, width, _BATCH)
    ]
    edges_NE = torch.cat(rows, dim=1)
    constant_E = sum(weight * side.constant(at) for at, weight in weights.items())
    whole_E = sum(weight * side.used_SE[at] for at, weight in weights.items())
    assert isinstance(constant_E, Tensor) and isinstance(whole_E, Tensor)
    missing_E = whole_E - edges_NE.sum(0) - constant_E
    return torch.cat([edges_NE, constant_E[None], missing_E[None]])


def _check(prompt: ReplacedPrompt, layer: int, head: int, token: int, source: int) -> None:
    if not 0 <= layer < prompt.layers:
        raise DataError(f"The host model has blocks 0 to {prompt.layers - 1}, so none is {layer}.")
    heads = prompt.attention[layer].reading.block.heads
    if not 0 <= head < heads:
        raise DataError(f"The block has heads 0 to {heads - 1}, so none is number {head}.")
    for each in (token, source):
        if not 0 <= each < prompt.length:
            raise DataError(f"The prompt has tokens 0 to {prompt.length - 1}, so none is {each}.")
    if source > token:
        raise DataError(f"Token {token} cannot look at {source}: a token looks back, or at itself.")
