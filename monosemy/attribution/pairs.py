"""One score of a head as the attention lens tells it: the largest pairs, both sides, all in groups.

Of the score and of what counts relatively (``scores.py``) every table adds up: parts of a side with
``other``, groups by themselves.  Biases are told like features: in random heads a third of all that
pairs count has one in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from monosemy.attribution.scores import PairScores, ScoredPart
from monosemy.specs.inference.attention import (
    PairAttention,
    PairGroup,
    PartGroup,
    ScoredPartText,
    ScoreKind,
)

_GROUPS: dict[ScoreKind, PartGroup] = {
    "feature": "features",
    "elsewhere": "features",
    "error": "error",
    "b_dec": "bias",
    "bias": "bias",
    "rounding": "rounding",
}
"""All other kinds are ``written``."""


def told_pair(found: PairScores, head: int, token: int, source: int, listed: int) -> PairAttention:
    """The ``listed`` largest pairs and parts of each side, by what they count relatively; parts of
    those pairs are told whatever they count alone.  ``token`` and ``source`` are told as given."""
    relative_QK = found.relative_QK
    flat = relative_QK.flatten()
    width = relative_QK.shape[1]
    largest = flat.abs().topk(min(listed, len(flat))).indices.tolist()
    pairs = [divmod(place, width) for place in largest]
    query, rows = _side(found.queries, found.pairs_QK, relative_QK, listed, {q for q, _ in pairs})
    key, columns = _side(found.keys, found.pairs_QK.T, relative_QK.T, listed, {k for _, k in pairs})
    return PairAttention(
        head=head,
        token=token,
        source=source,
        weight=short(found.weight),
        score=short(found.score),
        average=short(found.average),
        query=query,
        key=key,
        pairs=[
            (
                rows.index(q),
                columns.index(k),
                short(float(found.pairs_QK[q, k])),
                short(float(relative_QK[q, k])),
            )
            for q, k in pairs
        ],
        groups=_groups(found),
    )


def _side(
    parts: Sequence[ScoredPart], pairs: Tensor, relative: Tensor, listed: int, also: set[int]
) -> tuple[list[ScoredPartText], list[int]]:
    """(the largest parts of one side with those in ``also`` and the rest, where the former stand in
    ``parts``)."""
    score, alone = pairs.sum(1), relative.sum(1)
    order = alone.abs().argsort(descending=True).tolist()
    chosen = [place for n, place in enumerate(order) if n < listed or place in also]
    rest = [place for place in order if place not in chosen]
    listed_parts = [
        ScoredPartText(
            kind=part.kind,
            layer=part.layer,
            sae=part.sae,
            feature=part.feature,
            activation=None if part.activation is None else short(part.activation),
            score=short(float(score[place])),
            relative=short(float(alone[place])),
        )
        for place, part in ((place, parts[place]) for place in chosen)
    ]
    if rest:
        sums = short(float(score[rest].sum())), short(float(alone[rest].sum()))
        listed_parts.append(ScoredPartText(kind="other", score=sums[0], relative=sums[1]))
    return listed_parts, chosen


def _groups(found: PairScores) -> list[PairGroup]:
    rows, columns = _grouped(found.queries), _grouped(found.keys)
    size = float(found.pairs_QK.abs().sum()) or 1.0
    relative_size = float(found.relative_QK.abs().sum()) or 1.0
    groups = []
    for query, at_query in rows.items():
        for key, at_key in columns.items():
            scores = found.pairs_QK[at_query][:, at_key]
            relative = found.relative_QK[at_query][:, at_key]
            groups.append(
                PairGroup(
                    query=query,
                    key=key,
                    score=short(float(scores.sum())),
                    relative=short(float(relative.sum())),
                    share=short(float(scores.abs().sum()) / size),
                    relative_share=short(float(relative.abs().sum()) / relative_size),
                )
            )
    return sorted(groups, key=lambda group: -group.relative_share)


def _grouped(parts: Sequence[ScoredPart]) -> dict[PartGroup, list[int]]:
    """Places of the parts of each group."""
    places: dict[PartGroup, list[int]] = {}
    for place, part in enumerate(parts):
        places.setdefault(_GROUPS.get(part.kind, "written"), []).append(place)
    return places


def short(value: float, digits: int = 7) -> float:
    """So many significant digits, as many as a float32 has."""
    return float(f"{value:.{digits}g}")
