"""The attention lens on one prompt: a question of ``AttentionQuestion`` answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from monosemy.attribution.backwards import Backwards, Part, Through, stream_layer
from monosemy.attribution.pairs import short, told_pair
from monosemy.attribution.scores import pair_scores
from monosemy.attribution.sources import Sources, attention_layer, feature_sources, strongest
from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.models import sites
from monosemy.models.host import HostModel
from monosemy.models.sites import parse_site
from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from monosemy.specs.inference.attention import (
    BOS,
    MAX_ATTENTION_TOKENS,
    AttendedPair,
    AttentionAnswer,
    AttentionQuestion,
    FeatureAttention,
    PairAttention,
    TracedPart,
)
from monosemy.specs.inference.prompts import TokenText

CELLS = 24
"""Largest of head and source that are told of a feature."""


class Placed(NamedTuple):
    """An SAE and the site that it reads."""

    sae: SAE
    site: str


class PromptTokens(NamedTuple):
    """A prompt as the host model reads it."""

    ids: Sequence[int]
    skip: int
    """So many of them, 0 or 1, are a BOS before the text; tokens are counted from behind it."""
    texts: Sequence[TokenText]
    """Of all ``ids``."""


def look(
    host: HostModel,
    prompt: PromptTokens,
    sae: Placed,
    through: Sequence[Placed],
    question: AttentionQuestion,
) -> AttentionAnswer:
    """Where features of ``sae`` read from; parts name ``through`` by their number from 1.

    Raises ``DataError`` for an SAE on a site without heads or of another width, a prompt of one
    token or too many, a token, head or feature that is not there, and a feature that does not fire
    where it is asked for; ``ModelError`` for attention that cannot be taken apart; ``UnknownSite``.
    """
    _check_length(prompt)
    for each in (sae, *through):
        _check_width(host, each)
    layer = attention_layer(sae.site, sae.sae.d_in, host.abilities.heads)
    tokens = _tokens(question, prompt)
    depth = question.depth
    if question.pair is not None and not _on_stream(through, layer):
        depth = max(depth, 1)  # scores are told by what was written into the stream
    numbered = [Through(number, *each) for number, each in enumerate(through, start=1)]
    backwards = Backwards(host, prompt.ids, layer, numbered, depth)
    block = backwards.block()
    with torch.no_grad():
        codes = sae.sae.encode(block.z_SZ)
    wanted = {token: _features(question, sae.sae, codes, token, prompt) for token in tokens}
    found = feature_sources(block, sae.sae, codes, wanted)
    features = [_told(backwards, each, prompt, question) for each in found]
    pair = None
    if question.pair is not None:
        pair = _pair(backwards, prompt, question.pair, question.listed)
    return AttentionAnswer(
        tokens=list(prompt.texts[prompt.skip :]),
        bos=prompt.texts[0] if prompt.skip else None,
        layer=layer,
        heads=block.block.heads,
        features=features,
        pair=pair,
    )


def _check_length(prompt: PromptTokens) -> None:
    length = len(prompt.ids) - prompt.skip
    if length < 2:
        raise DataError(
            f"The prompt has {length} token{'' if length == 1 else 's'}; at least 2 are needed, so "
            "that one can look back at another."
        )
    if length > MAX_ATTENTION_TOKENS:
        raise DataError(
            f"The prompt has {plural(length, 'token')}; attention is told of at most"
            f" {MAX_ATTENTION_TOKENS}."
        )


def _check_width(host: HostModel, placed: Placed) -> None:
    width = host.site_width(placed.site)
    if width != placed.sae.d_in:
        raise DataError(
            f"The SAE reads vectors of length {placed.sae.d_in}; {placed.site} of {host.name} has "
            f"{width}."
        )


def _on_stream(through: Sequence[Placed], layer: int) -> bool:
    return any(
        parse_site(each.site).kind != sites.Z and stream_layer(each.site) == layer
        for each in through
    )


def _tokens(question: AttentionQuestion, prompt: PromptTokens) -> list[int]:
    """Places in ``ids``."""
    last = len(prompt.ids) - prompt.skip - 1
    wanted = [last] if question.tokens is None else question.tokens
    return [_within(token, last, "tokens") + prompt.skip for token in wanted]


def _within(token: int, last: int, what: str) -> int:
    if token > last:
        raise DataError(f"{what}: the prompt has tokens 0 to {last}, so none is number {token}.")
    return token


def _features(
    question: AttentionQuestion, sae: SAE, codes: Codes, token: int, prompt: PromptTokens
) -> list[int]:
    if question.features is None:
        return strongest(codes, token, question.top_k)
    for feature in question.features:
        if feature >= sae.d_sae:
            raise DataError(f"features: this SAE has 0 to {sae.d_sae - 1}, so none is {feature}.")
    here = Codes(codes.indices[token][None], codes.values[token][None])
    for feature, value in zip(question.features, here.of(question.features)[0], strict=True):
        if not value > 0:
            most = ", ".join(map(str, strongest(codes, token, 5))) or "none"
            raise DataError(
                f"features: {feature} does not fire at token {token - prompt.skip} "
                f"({prompt.texts[token].text!r}); those that fire most there: {most}."
            )
    return list(question.features)


def _told(
    backwards: Backwards, found: Sources, prompt: PromptTokens, question: AttentionQuestion
) -> FeatureAttention:
    skip, by_HS = prompt.skip, found.by_HS
    by_source = by_HS.sum(0)
    parts = None
    if question.depth:
        traced = backwards.trace(found, question.depth, question.listed)
        parts = [_part(each, skip) for each in traced]
    return FeatureAttention(
        token=found.token - skip,
        index=found.feature,
        activation=short(found.activation),
        pre=short(found.pre),
        by_head=_row(by_HS.sum(1)),
        bias_by_head=_row(found.b_v_H),
        bos=short(float(by_source[0])) if skip else None,
        by_source=_row(by_source[skip:]),
        cells=_cells(by_HS, skip),
        b_enc=short(found.b_enc),
        b_dec=short(found.b_dec),
        rounding=short(found.rounding),
        parts=parts,
    )


def _cells(by_HS: Tensor, skip: int) -> list[tuple[int, int, float]]:
    flat = by_HS.flatten()
    largest = flat.abs().topk(min(CELLS, len(flat))).indices
    width = by_HS.shape[1]
    return [
        (place // width, place % width - skip, short(value))
        for place, value in zip(largest.tolist(), flat[largest].tolist(), strict=True)
        if value
    ]


def _part(part: Part, skip: int) -> TracedPart:
    return TracedPart(
        kind=part.kind,
        value=short(part.value),
        token=None if part.token is None else part.token - skip,
        layer=part.layer,
        sae=part.sae,
        feature=part.feature,
        activation=None if part.activation is None else short(part.activation),
        count=part.count,
        parts=None if part.parts is None else [_part(each, skip) for each in part.parts],
    )


def _pair(
    backwards: Backwards, prompt: PromptTokens, pair: AttendedPair, listed: int
) -> PairAttention:
    last = len(prompt.ids) - prompt.skip - 1
    token = last if pair.token is None else _within(pair.token, last, "pair.token")
    source = _within(pair.source, last, "pair.source")
    if source == BOS and not prompt.skip:
        raise DataError("pair.source: no BOS was read before this prompt, so none is -1.")
    if source > token:
        raise DataError(
            f"pair.source: token {token} cannot look at {source}; a token looks back, or at itself."
        )
    attention = pair_scores(backwards, pair.head, token + prompt.skip, source + prompt.skip)
    return told_pair(attention, pair.head, token, source, listed)


def _row(values: Tensor) -> list[float]:
    return [short(value) for value in values.tolist()]
