"""Two sets of texts read by the host model, and the latents that tell one from the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.interp.contrast import Floats, contrast
from monosemy.saes.codes import Codes
from monosemy.specs.inference.contrast import ContrastAnswer, Pooling, Statistic
from workers.prompts import Prompt
from workers.reading import WarmSae
from workers.warm_host import BATCH_TOKENS, Row, Use, WarmHost

MAX_CONTRAST_TOKENS = 32_768
"""Of all texts together."""


@dataclass(frozen=True)
class Contrasted:
    """What is asked for."""

    positive: Sequence[Prompt]
    negative: Sequence[Prompt]
    pooling: Pooling
    """What a feature's value on a text is: its mean, or its maximum, over the text's tokens."""
    statistic: Statistic
    top: int
    """Features of each side."""
    values: bool = False
    """Also each feature's value on every text."""


def contrasted(host: WarmHost, warm: WarmSae, site: str, request: Contrasted) -> ContrastAnswer:
    """A leading BOS does not count among the tokens read.

    Raises ``DataError`` for a text that is empty or too long, and for too many tokens in all.
    """
    prompts = [*request.positive, *request.negative]
    read = [host.words.row(prompt, warm.prepend_bos) for prompt in prompts]
    total = sum(len(ids) for ids, _ in read)
    if total > MAX_CONTRAST_TOKENS:
        raise DataError(
            f"The texts have {plural(total, 'token')}; {MAX_CONTRAST_TOKENS} can be contrasted."
        )
    use = (Use(warm.sae, site),)
    rows = [Row(ids, skip, use) for ids, skip in read]
    pooled: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * len(rows)
    for part in _parts(rows):
        for number, (coded,) in zip(part, host.read([rows[n] for n in part]), strict=True):
            pooled[number] = pool(coded.codes, request.pooling)
    values_NF, features_F = _table(pooled)
    positive_N = np.arange(len(rows)) < len(request.positive)
    result = contrast(
        *(values_NF, positive_N, features_F, request.statistic, request.top),
        with_values=request.values,
    )
    return ContrastAnswer(
        positive=result.positive,
        negative=result.negative,
        relabellings=result.relabellings,
        exact=result.exact,
        tokens=sum(len(row.ids) - row.skip for row in rows),
    )


def pool(codes: Codes, how: Pooling) -> tuple[Tensor, Tensor]:
    """(latents that fire, int64 ``[f]``, ascending; the value of each over all tokens ``[f]``)."""
    fires_NK = codes.values > 0
    latents_F, place_M = codes.indices[fires_NK].unique(return_inverse=True)
    pooled_F = torch.zeros(len(latents_F), dtype=torch.float64)
    values_M = codes.values[fires_NK].double()
    if how == "max":
        return latents_F, pooled_F.scatter_reduce(0, place_M, values_M, "amax")
    return latents_F, pooled_F.index_add(0, place_M, values_M) / len(codes.values)


def _parts(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Rows of like lengths, a batch at a time: others, who came later, get their turns between."""
    part: list[int] = []
    for number in sorted(range(len(rows)), key=lambda n: len(rows[n].ids)):
        if part and (len(part) + 1) * len(rows[number].ids) > BATCH_TOKENS:
            yield part
            part = []
        part.append(number)
    if part:
        yield part


def _table(pooled: Sequence[tuple[Tensor, Tensor]]) -> tuple[Floats, Any]:
    """(values ``[n, F]``, indices ``[F]``) of the features that fire in any text."""
    features_F = torch.cat([latents for latents, _ in pooled]).unique()
    values_NF = np.zeros((len(pooled), len(features_F)))
    for row, (latents, values) in enumerate(pooled):
        values_NF[row, torch.searchsorted(features_F, latents).numpy()] = values.numpy()
    return values_NF, features_F.numpy()
