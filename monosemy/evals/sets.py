"""A set of SAEs in its host model: each by itself, each alone in place, and all at once.

With all in place at once each reads what the others made of the layers before: errors carry on, as
in the replacement model whose graphs are drawn.  Losses carry n and an interval whose units are
rows of the text, since tokens of a row are alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from monosemy.data.store import TokenStore
from monosemy.errors import DataError
from monosemy.evals.evaluate import ORDER_SEED
from monosemy.evals.reconstruction import ROWS_AT_ONCE, ReconstructionSums
from monosemy.evals.splice import (
    LOGITS_AT_ONCE,
    CountedBatch,
    always,
    counted_batches,
    in_place,
    reconstruct,
)
from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.edits import Interventions
from monosemy.models.columns import Columns
from monosemy.models.host import HostModel
from monosemy.progress import SILENT, Reporter
from monosemy.specs import EvaluationSpec
from monosemy.training.stream import RowSource

_Z95 = 1.959964


def evaluate_set(
    members: Sequence[HostedSAE],
    columns: Mapping[str, slice],
    store: TokenStore,
    source: RowSource,
    spec: EvaluationSpec,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Metrics of SAEs of one host model on held-out documents, stage ``evaluate`` in tokens.

    ``members`` in the order of their layers, each reading and writing one place; ``source`` has all
    of these at ``columns``.  Under ``members`` of each: site, target, fvu, l0, dead_share, tokens
    and, where the model predicts tokens, ``alone`` with only its own place replaced.  ``all``: with
    all replaced at once; ``mean_ablation``: with each target's mean in all places.  Each of these
    has ``ce`` (nats), ``ce_increase`` over the clean model with ``low`` and ``high`` (95 %, rows
    resampled by the normal approximation), ``kl`` (clean to spliced), ``top1_agreement``.  Also
    ``ce_clean``, ``ce_recovered_mean`` = 1 - increase of all / increase of mean ablation,
    ``splice_tokens``, ``splice_rows``.  ``DataError`` where nothing is held out, or members do not
    fit together.
    """
    _check(members)
    rows = np.random.default_rng(ORDER_SEED).permutation(store.heldout_rows())
    if not len(rows):
        raise DataError("No document is held out, so there is nothing to evaluate on.")
    lengths = np.diff(store.row_start)[rows]
    reading = min(spec.reconstruction_tokens, int(lengths.sum()))
    splicing = min(spec.tokens, int((lengths - 1).sum()))
    no_losses = members[0].no_losses
    with reporter.stage("evaluate", reading + (0 if no_losses else splicing), "tokens") as stage:
        sums = _reconstructed(members, columns, source, rows, spec, stage.advance)
        result: dict[str, Any] = {
            "members": [
                {"site": each.site, "target": each.target, **its.metrics()}
                for each, its in zip(members, sums, strict=True)
            ]
        }
        if no_losses is not None:
            reporter.log("no losses are measured", model=members[0].host.name, reason=no_losses)
            return result
        losses = _spliced(members, [its.mean for its in sums], store, rows, spec, stage.advance)
    for place, member in enumerate(result["members"]):
        member["alone"] = losses.pop(str(place)).summary()
    clean = losses.pop("clean")
    both = {name: each.summary() for name, each in losses.items()}
    harm = both["mean_ablation"]["ce_increase"]
    kept = None if not harm > 0 else 1 - both["all"]["ce_increase"] / harm
    figures = {"ce_clean": clean.mean, "ce_recovered_mean": kept}
    return {**result, **both, **figures, "splice_tokens": clean.tokens, "splice_rows": clean.rows}


def _check(members: Sequence[HostedSAE]) -> None:
    if not members:
        raise DataError("A set without SAEs cannot be evaluated.")
    if any(each.host is not members[0].host for each in members):
        raise DataError("The SAEs of a set belong to one host model.")
    targets = [each.target for each in members]  # raises where they are several
    _ = [each.site for each in members]
    if len(set(targets)) < len(targets):
        raise DataError(
            "Two SAEs of the set write the same place, so they cannot all be put there."
        )


def _reconstructed(
    members: Sequence[HostedSAE],
    columns: Mapping[str, slice],
    source: RowSource,
    rows: npt.NDArray[np.int64],
    spec: EvaluationSpec,
    advance: Any,
) -> list[ReconstructionSums]:
    """Each over the same tokens, but for those whose norm at its own place is above its limit."""
    sums = [ReconstructionSums(each.sae) for each in members]
    parts = [Columns.of(each.hooks, columns, each.max_norm) for each in members]
    done = 0
    for start in range(0, len(rows), ROWS_AT_ONCE):
        left = spec.reconstruction_tokens - done
        if left <= 0:
            break
        acts_NW = source.rows(rows[start : start + ROWS_AT_ONCE])[0][:left]
        for its, part in zip(sums, parts, strict=True):
            kept, target = part.usable(acts_NW), part.target(acts_NW)
            its.add(part.reads(acts_NW)[kept], None if target is None else target[kept])
        done += len(acts_NW)
        advance(len(acts_NW))
    return sums


@dataclass
class _Losses:
    """Sums of one variant by row: tokens, loss, its increase, divergence, agreement."""

    counts: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    increase: list[float] = field(default_factory=list)
    divergence: float = 0.0
    agreeing: int = 0

    @property
    def tokens(self) -> int:
        return sum(self.counts)

    @property
    def rows(self) -> int:
        return len(self.counts)

    @property
    def mean(self) -> float:
        return sum(self.loss) / self.tokens

    def summary(self) -> dict[str, Any]:
        n, rows = self.tokens, self.rows
        increase = sum(self.increase) / n
        # A ratio of sums over rows: each row's departure from it, squared.
        off = [d - increase * c for d, c in zip(self.increase, self.counts, strict=True)]
        width = math.inf
        if rows > 1:
            width = _Z95 * math.sqrt(rows / (rows - 1) * sum(each * each for each in off)) / n
        bounds = {"low": increase - width, "high": increase + width} if rows > 1 else {}
        return {
            "ce": self.mean,
            "ce_increase": increase,
            "low": bounds.get("low"),
            "high": bounds.get("high"),
            "kl": self.divergence / n,
            "top1_agreement": self.agreeing / n,
        }


def _spliced(
    members: Sequence[HostedSAE],
    means: Sequence[Tensor],
    store: TokenStore,
    rows: npt.NDArray[np.int64],
    spec: EvaluationSpec,
    advance: Any,
) -> dict[str, _Losses]:
    """``clean``, ``all``, ``mean_ablation``, and each member alone by its number."""
    host = members[0].host
    own = [in_place(each, reconstruct(each.sae)) for each in members]
    ablated = [in_place(each, always(mean)) for each, mean in zip(members, means, strict=True)]
    variants = {str(place): [each] for place, each in enumerate(own)}
    variants |= {"all": own, "mean_ablation": ablated}
    sums = {name: _Losses() for name in ("clean", *variants)}
    for batch in counted_batches(store, rows, spec.tokens):
        clean = _Predictions.of(host, batch, {})
        clean.add_to(sums["clean"], clean)
        for name, changes in variants.items():
            edits = Interventions(changes).edits(batch.real_BS)
            _Predictions.of(host, batch, edits).add_to(sums[name], clean)
        advance(len(batch.target_M))
    return sums


@dataclass
class _Predictions:
    """Log probabilities at the counted positions of a batch, and which row each is in."""

    log_MV: Tensor
    target_M: Tensor
    row_M: Tensor

    @classmethod
    def of(cls, host: HostModel, batch: CountedBatch, edits: Mapping[str, Any]) -> _Predictions:
        logits = batch.logits(host, edits)
        parts = [F.log_softmax(part.float(), -1) for part in logits.split(LOGITS_AT_ONCE)]
        return cls(torch.cat(parts), batch.target_M.to(logits.device), batch.row_M)

    @property
    def loss_M(self) -> Tensor:
        return -self.log_MV.gather(1, self.target_M[:, None])[:, 0]

    def add_to(self, sums: _Losses, clean: _Predictions) -> None:
        own, before = self.loss_M.double().cpu(), clean.loss_M.double().cpu()
        for row in self.row_M.unique():
            here = self.row_M == row
            sums.counts.append(int(here.sum()))
            sums.loss.append(float(own[here].sum()))
            sums.increase.append(float((own - before)[here].sum()))
        sums.divergence += float(
            F.kl_div(self.log_MV, clean.log_MV, reduction="sum", log_target=True)
        )
        sums.agreeing += int((self.log_MV.argmax(1) == clean.log_MV.argmax(1)).sum())
