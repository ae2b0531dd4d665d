"""A survey of an attention-output SAE: heads, sources and families of features; scores of heads.

Sources: C. Kissane et al., "Interpreting Attention Layer Outputs with Sparse Autoencoders" (2024),
sections 3 to 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.attribution.families import (
    FAMILIES,
    FamilyFigures,
    SourceShares,
    SourceTally,
    family_of,
)
from monosemy.attribution.head_features import (
    HeadLikeness,
    head_shares,
    likeness,
    logit_bases,
    share_entropy,
)
from monosemy.attribution.head_scores import HeadScores, score_heads
from monosemy.attribution.reading import BlockReading, read_rows
from monosemy.attribution.sources import attention_layer
from monosemy.attribution.survey_examples import SurveyExamples, choose_examples
from monosemy.errors import DataError
from monosemy.interp.statistics.multiple import FDR
from monosemy.progress import SILENT, Reporter
from monosemy.specs import AttentionRun
from monosemy.specs.rest.attention import (
    AttentionSummary,
    FeatureFamily,
    HeadFeature,
    HeadSurvey,
    SurveyedFeature,
)
from monosemy.versions import versions

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore
    from monosemy.hosted_sae import HostedSAE
    from monosemy.index.reader import IndexReader
    from monosemy.models.host import HostModel

_TOKENS_AT_ONCE = 2048
"""Tokens that are read in one forward."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AttentionSurvey:
    """The heads, and the features that fire."""

    summary: AttentionSummary
    features: list[SurveyedFeature]
    """By index."""


def survey_attention(
    hosted: HostedSAE,
    reader: IndexReader,
    store: TokenStore,
    spec: AttentionRun,
    weights: str,
    reporter: Reporter = SILENT,
) -> AttentionSurvey:
    """Surveys the SAE; ``weights`` is its digest.

    Stages ``choose`` and ``heads`` (in features and heads), ``attention`` (in rows).  Raises
    ``DataError`` for an SAE that does not stand at ``attn.hook_z``, or of which too few features
    fire, and ``ModelError`` for attention that cannot be taken apart.
    """
    host, sae = hosted.host, hosted.sae
    layer = attention_layer(hosted.site, sae.d_in, host.abilities.heads)
    if hosted.writes_to is not None:
        raise DataError(
            f"The SAE writes at {hosted.target}, not at {hosted.site}, which it reads.",
            "A survey needs one that does both at attn.hook_z.",
        )
    heads = int(host.abilities.heads or 0)
    alive_F = torch.from_numpy(reader.counts > 0)
    W_dec_FZ = sae.decoder_rows(slice(None)).float().cpu()
    with reporter.stage("heads", heads, "heads") as stage:
        bases = logit_bases(host, hosted.site, heads)
        alike = likeness(W_dec_FZ, bases, alive_F, spec.top, spec.draws, spec.seed)
        scores = _scores(host, layer, spec.seed)
        stage.advance(heads)
    examples = choose_examples(reader, store, spec.rows, spec.examples, reporter)
    seen = _read_examples(hosted, layer, heads, store, reader, examples, reporter)
    shares_FH = head_shares(W_dec_FZ, heads)
    features = _features(shares_FH, alive_F, seen)
    summary = AttentionSummary(
        site=hosted.site,
        heads=[_head(each, scores, features) for each in alike],
        alike=sum(each.q <= FDR for each in alike),
        draws=spec.draws,
        families=_count(features),
        features=len(features),
        rows=len(examples.rows),
        examples=len(examples),
        text_id=store.text_id,
        weights=weights,
        host=host.fingerprint,
        parameters=spec.model_dump(mode="json", exclude={"kind", "sae"}),
        versions=versions("transformers"),
    )
    return AttentionSurvey(summary, features)


# ------------------------------------------------------------------ heads
def _scores(host: HostModel, layer: int, seed: int) -> HeadScores:
    def patterns(ids_BS: Tensor) -> Tensor:
        rows = [each.blocks[layer] for each in read_rows(host, ids_BS, [layer])]
        return torch.stack([each.pattern_HSS for each in rows])

    special = set(host.tokenizer.all_special_ids)
    known = min(host.d_vocab, len(host.tokenizer))
    words = [token for token in range(known) if token not in special]
    return score_heads(patterns, words, host.bos_id, seed, longest=host.abilities.positions)


def _head(
    alike: HeadLikeness, scores: HeadScores, features: Sequence[SurveyedFeature]
) -> HeadSurvey:
    head = alike.head
    own = [each for each in features if each.head == head]
    long_prefix = float(scores.long_prefix[head])
    return HeadSurvey(
        head=head,
        previous=float(scores.previous[head]),
        duplicate=float(scores.duplicate[head]),
        induction=float(scores.induction[head]),
        prefixes={length: float(score[head]) for length, score in scores.prefixes.items()},
        long_prefix=None if np.isnan(long_prefix) else long_prefix,
        owned=len(own),
        families=_count(own),
        features=[
            HeadFeature(index=index, share=share)
            for index, share in zip(alike.features, alike.shares, strict=True)
        ],
        cosine=alike.cosine,
        random=alike.random,
        p=alike.p,
        q=alike.q,
    )


def _count(features: Sequence[SurveyedFeature]) -> dict[FeatureFamily, int]:
    counts = dict.fromkeys(FAMILIES, 0)
    for each in features:
        counts[each.family] += 1
    return counts


# ------------------------------------------------------------------ features
@dataclass(frozen=True)
class _Seen:
    """What was read of P examples."""

    features: Ints
    sources: SourceShares
    through_PH: Floats
    """Share of what adds that comes through each head."""


def _read_examples(
    hosted: HostedSAE,
    layer: int,
    heads: int,
    store: TokenStore,
    reader: IndexReader,
    examples: SurveyExamples,
    reporter: Reporter,
) -> _Seen:
    tally, which = SourceTally(), [np.empty(0, np.int64)]
    through = [np.empty((0, heads))]
    promoted = _Promoted(reader)
    left = len(examples.rows)
    with reporter.stage("attention", left, "rows") as stage:
        for lines in _batches(store, examples):
            ids_BS = torch.from_numpy(np.stack([line.ids_S for line in lines]))
            readings = read_rows(hosted.host, ids_BS, [layer])
            for line, reading in zip(lines, readings, strict=True):
                dfa_PS, through_PH = _attributed(hosted, reading.blocks[layer], line, examples)
                tokens = promoted.among(examples.features[line.which], line.ids_S)
                tally.add(dfa_PS, line.ids_S, line.at_P, tokens)
                which.append(line.which)
                through.append(through_PH)
            stage.advance(len(lines))
            left -= len(lines)
        stage.advance(left)
    features = examples.features[np.concatenate(which)]
    return _Seen(features, tally.shares(), np.concatenate(through))


class _Promoted:
    """Which tokens features promote most, by the index."""

    def __init__(self, reader: IndexReader) -> None:
        self._reader = reader
        self._known: dict[int, list[int]] = {}

    def among(self, features: Ints, ids_S: Ints) -> npt.NDArray[np.bool_]:
        """``[P, S]``: whether each of P features has each token of a row among them."""
        return np.stack([np.isin(ids_S, self._of(feature)) for feature in features.tolist()])

    def _of(self, feature: int) -> list[int]:
        if feature not in self._known:
            promoted = self._reader.evidence(feature).promoted
            self._known[feature] = [effect.id for effect in promoted]
        return self._known[feature]


@dataclass(frozen=True)
class _Line:
    """What the host model reads for one row: ``which`` of all examples are in it, and where."""

    which: Ints
    ids_S: Ints
    at_P: Ints


def _batches(store: TokenStore, examples: SurveyExamples) -> Iterator[list[_Line]]:
    """Lines of one length, as many as are read together; those without examples left out."""
    waiting: dict[int, list[_Line]] = {}
    for row in examples.rows.tolist():
        line = _line(store, examples, row)
        length = len(line.ids_S)
        if len(line.which) == 0 or length < 2:
            continue
        waiting.setdefault(length, []).append(line)
        if len(waiting[length]) * length >= _TOKENS_AT_ONCE:
            yield waiting.pop(length)
    yield from waiting.values()


def _line(store: TokenStore, examples: SurveyExamples, row: int) -> _Line:
    batch = store.batch([row])
    length = int(batch.mask_BS[0].sum())
    ids_S, position_S = batch.ids_BS[0, :length], batch.position_BS[0, :length]
    real_S = np.flatnonzero(position_S >= 0)
    span = np.searchsorted(examples.positions, [position_S[real_S[0]], position_S[real_S[-1]] + 1])
    which = np.arange(span[0], span[1])
    at_P = real_S[np.searchsorted(position_S[real_S], examples.positions[which])]
    return _Line(which, ids_S, at_P)


def _attributed(
    hosted: HostedSAE, reading: BlockReading, line: _Line, examples: SurveyExamples
) -> tuple[Floats, Floats]:
    """(by source ``[P, S]``, share of what adds that comes through each head ``[P, H]``)."""
    latents = torch.from_numpy(examples.features[line.which])
    rows_PZ, _ = hosted.sae.encoder_rows(latents.to(hosted.sae.device))
    by_HPS = _attribution(reading, rows_PZ.float(), torch.from_numpy(line.at_P))
    through_PH = by_HPS.clamp_min(0).sum(dim=2).T
    through_PH = through_PH / through_PH.sum(dim=1, keepdim=True).clamp_min(1e-30)
    dfa_PS = by_HPS.sum(dim=0)
    return dfa_PS.double().cpu().numpy(), through_PH.double().cpu().numpy()


def _attribution(reading: BlockReading, rows_PZ: Tensor, at_P: Tensor) -> Tensor:
    """What each head and source adds to the pre-activation of P features, each at its own token:
    ``[H, P, S]``."""
    heads, width = reading.block.heads, reading.block.width
    rows_HPV = rows_PZ.to(reading.z_SZ.device).view(-1, heads, width).transpose(0, 1)
    value_HPS = rows_HPV @ reading.value_HSV.transpose(1, 2)
    return value_HPS * reading.pattern_HSS[:, at_P.to(value_HPS.device)]


def _features(shares_FH: Tensor, alive_F: Tensor, seen: _Seen) -> list[SurveyedFeature]:
    entropy_F = share_entropy(shares_FH)
    order = np.argsort(seen.features, kind="stable")
    found, first = np.unique(seen.features[order], return_index=True)
    examples = dict(zip(found.tolist(), np.split(order, first[1:]), strict=False))
    nothing = np.empty(0, np.int64)
    result = []
    for feature in alive_F.nonzero()[:, 0].tolist():
        which = examples.get(feature, nothing)
        figures = family_of(seen.sources, which)
        share, head = shares_FH[feature].max(dim=0)
        through = seen.through_PH[which].mean(axis=0).tolist() if len(which) else None
        result.append(
            SurveyedFeature(
                index=feature,
                head=int(head),
                share=float(share),
                shares=[round(float(each), 6) for each in shares_FH[feature]],
                entropy=float(entropy_F[feature]),
                sources=through,
                **_family(figures),
            )
        )
    return result


def _family(figures: FamilyFigures) -> dict[str, object]:
    return {
        "family": figures.family,
        "n": figures.n,
        "deciding": figures.share,
        "low": figures.low,
        "high": figures.high,
        "figures": {name: round(value, 4) for name, value in figures.shares.items()},
    }
