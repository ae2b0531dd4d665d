"""Why a head looks where it looks: one score as a sum over pairs of parts of query and key.

    S[t, s] = scale * q_t . k_s = sum over parts i of the stream at t, j at s, of  Q_i . K_j,

with the norms held and positions' rotations applied part by part.  Parts are the features of an SAE
on the stream with its error and bias, or, without one, what was written into the stream; the shift
of the norm and the biases of the projections are one part of each side.  S is the score before a
soft cap.

A softmax ignores what is the same for every key.  ``relative`` takes from each part of the key what
that part is on average over the keys that the head looks at, ``S[t, s] - sum_s' A[t, s'] S[t,
s']``; what other keys have and this one lacks is the part ``elsewhere``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.attribution.backwards import Backwards
from monosemy.attribution.projections import Projection
from monosemy.attribution.reading import BlockReading
from monosemy.attribution.rotations import Pairing, Turn, measured
from monosemy.errors import DataError
from monosemy.models import sites
from monosemy.specs.inference.attention import ScoreKind


@dataclass(frozen=True)
class ScoredPart:
    """A part of the stream at the query's or the key's token."""

    kind: ScoreKind
    layer: int | None = None
    sae: int | None = None
    feature: int | None = None
    activation: float | None = None


@dataclass(frozen=True)
class PairScores:
    """One score taken apart; float64."""

    score: float
    """As the model computed it."""
    weight: float
    """The attention that came of it."""
    average: float
    """Of the scores of all keys, weighted by attention."""
    queries: list[ScoredPart]
    keys: list[ScoredPart]
    pairs_QK: Tensor
    """Sum to ``score``; sums of rows and columns are what each part counts alone."""
    relative_QK: Tensor
    """The same of ``score - average``."""


def pair_scores(backwards: Backwards, head: int, token: int, source: int) -> PairScores:
    """The score of ``head`` between two tokens of the prompt.

    Raises ``DataError`` for a head that is not there and a source after the token, ``ModelError``
    where the scores of this model cannot be taken apart.
    """
    reading = backwards.block()
    block = reading.block
    if not 0 <= head < block.heads:
        raise DataError(f"The block has heads 0 to {block.heads - 1}, so none is number {head}.")
    length = len(reading.z_SZ)
    for each in (token, source):
        if not 0 <= each < length:
            raise DataError(f"The prompt has tokens 0 to {length - 1}, so none is {each}.")
    if source > token:
        raise DataError(f"Token {token} cannot look at {source}: a token looks back, or at itself.")
    sides = ScoredHead.of(reading, backwards.host.name, head)
    query, key, scale = sides.query, sides.key, sides.scale
    queries, at_query = _parts(backwards, token, range(token, token + 1))
    keys, at_keys = _parts(backwards, source, range(token + 1))
    query_PE = query.heads(at_query, range(token, token + 1))[0]
    key_SPE = key.heads(at_keys, range(token + 1))
    weight_S = reading.pattern_HSS[head, token, : token + 1].double()
    average_PE = torch.einsum("s,spe->pe", weight_S, key_SPE)
    own_S = scale * (key.used_SE[: token + 1] @ query.used_SE[token])
    pairs_QK = scale * query_PE @ key_SPE[source].T
    relative_QK = scale * query_PE @ (key_SPE[source] - average_PE).T
    bias = ScoredPart("bias")
    return PairScores(
        score=float(own_S[source]),
        weight=float(weight_S[source]),
        average=float(weight_S @ own_S),
        queries=[*queries, bias],
        keys=[*keys, bias],
        pairs_QK=pairs_QK,
        relative_QK=relative_QK,
    )


@dataclass(frozen=True)
class ScoredHead:
    """How one head of a block makes its scores on a prompt."""

    query: HeadSide
    key: HeadSide
    scale: float

    @classmethod
    def of(cls, reading: BlockReading, host_name: str, head: int) -> ScoredHead:
        """``ModelError`` where the scores of this model cannot be taken apart."""
        scores = reading.block.need_scores(host_name)
        call = reading.call
        query_SHE = call.query_BHSE[0].transpose(0, 1)
        key_SHE = call.spread(call.key_BGSE)[0].transpose(0, 1)
        return cls(
            HeadSide.of(reading, scores.query, scores.query_pairs, query_SHE, head),
            HeadSide.of(reading, scores.key, scores.key_pairs, key_SHE, head),
            scores.scale,
        )


@dataclass(frozen=True)
class HeadSide:
    """Queries or keys of one head as a linear function of parts of the stream, float64."""

    reading: BlockReading
    matrix_DE: Tensor
    """What the normed stream is multiplied by, norm's gain included."""
    factor_S: Tensor
    """``1 / sigma`` of the norm of queries or keys."""
    bias_SE: Tensor
    turn: Turn
    used_SE: Tensor
    """What the head used."""

    @classmethod
    def of(
        cls,
        reading: BlockReading,
        projection: Projection,
        pairing: Pairing,
        used_SHE: Tensor,
        head: int,
    ) -> HeadSide:
        weight_DN, bias_N = projection.weight(), projection.bias()
        raw_SN = reading.normed_SD @ weight_DN + bias_N
        inverse = projection.inverse(raw_SN)
        before_SHE = projection.part(raw_SN, inverse) + projection.shift()
        turn = measured(pairing, before_SHE.double(), used_SHE.double())
        ones = None if inverse is None else torch.ones_like(inverse[:1])
        matrix_DE = projection.part(weight_DN, ones)[:, head].double()
        constant_E = projection.part(bias_N[None], ones)[0, head].double()
        entry = reading.block.entry
        if entry is not None:
            constant_E = constant_E + entry.shift.double() @ matrix_DE
        factor_S = _factor(projection, inverse, head, len(raw_SN)).to(raw_SN.device)
        bias_SE = factor_S[:, None] * constant_E + projection.shift()[head].double()
        return cls(reading, matrix_DE, factor_S, bias_SE, turn, used_SHE[:, head].double())

    def directions(self, token: int) -> Tensor:
        """What each dimension of the head reads of the stream at a token, turned, ``[D, E]``."""
        width = len(self.turn.pairing.partner_E)
        eye_EE = torch.eye(width, dtype=torch.float64, device=self.matrix_DE.device)
        into_DE = self.matrix_DE @ self.turn.at(token, eye_EE) * self.factor_S[token]
        entry = self.reading.block.entry
        if entry is None:
            return into_DE
        scaled_ED = entry.gain.double() * into_DE.T
        return (entry.centre(scaled_ED) * self.reading.entry_inverse_S1[token].double()).T

    def constant(self, token: int) -> Tensor:
        """What biases and the norms' shifts give at a token, turned, ``[E]``."""
        return self.turn.at(token, self.bias_SE[token])

    def heads(self, parts_SPD: Tensor, at: range) -> Tensor:
        """``[S, P + 1, E]``: of each part of the stream, and last the bias, at tokens ``at``."""
        entry = self.reading.block.entry
        if entry is not None:
            inverse = self.reading.entry_inverse_S1[at.start : at.stop, None].double()
            centred = parts_SPD - parts_SPD.mean(-1, keepdim=True) if entry.centred else parts_SPD
            parts_SPD = entry.gain.double() * centred * inverse
        factor = self.factor_S[at.start : at.stop, None, None]
        bias_SE = self.bias_SE[at.start : at.stop, None]
        made = torch.cat([parts_SPD @ self.matrix_DE * factor, bias_SE], dim=1)
        turn = Turn(
            self.turn.pairing,
            self.turn.cos_SE[at.start : at.stop],
            self.turn.sin_SE[at.start : at.stop],
        )
        return turn(made)


def _factor(projection: Projection, inverse: Tensor | None, head: int, length: int) -> Tensor:
    """``1 / sigma`` of the norm that this head's dimensions pass, ``[S]`` float64."""
    if inverse is None:
        return torch.ones(length, dtype=torch.float64)
    rows = inverse.reshape(length, -1).double()
    place = int(projection.select[head, 0]) // projection.norm_shape[-1]
    return rows[:, place if rows.shape[1] > 1 else 0]


def _parts(backwards: Backwards, chosen: int, at: range) -> tuple[list[ScoredPart], Tensor]:
    """(parts of the stream at token ``chosen``, the same at the tokens ``at``, ``[S, P, D]``
    float64).  Features that fire elsewhere alone are one part, 0 at ``chosen``."""
    layer = backwards.layer
    coded = backwards.coded(sites.RESID_PRE, layer)
    rows = slice(at.start, at.stop)
    if coded is None:
        written = backwards.parts_of_stream(layer)
        vectors = torch.stack([each.vectors_SD[rows] for each in written], dim=1).double()
        stream_SD = backwards.stream_at(layer)[rows].double()
        # What the parts miss of the stream by rounding, so that the scores still add up.
        missing = (stream_SD - vectors.sum(1))[:, None]
        named = [ScoredPart(each.kind, each.layer) for each in written]
        return [*named, ScoredPart("rounding")], torch.cat([vectors, missing], dim=1)
    fires = coded.codes.values[chosen] > 0
    latents = coded.codes.indices[chosen][fires]
    values_SF = coded.codes.of(latents.tolist())[rows].double()
    directions_FD = coded.sae.decoder_rows(latents).double()
    vectors = values_SF[:, :, None] * directions_FD
    error_SD = coded.error_SD[rows].double()
    bias_D = coded.sae.b_dec.detach().double()
    stream_SD = backwards.stream_at(layer)[rows].double()
    elsewhere_SD = stream_SD - error_SD - bias_D - vectors.sum(1)
    others = torch.stack([elsewhere_SD, error_SD, bias_D.expand_as(error_SD)], dim=1)
    named = [
        ScoredPart("feature", layer, coded.number, feature, value)
        for feature, value in zip(
            latents.tolist(), coded.codes.values[chosen][fires].tolist(), strict=True
        )
    ]
    kinds = (ScoredPart("elsewhere"), ScoredPart("error", layer, coded.number), ScoredPart("b_dec"))
    return [*named, *kinds], torch.cat([vectors, others], dim=1)
