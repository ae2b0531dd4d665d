"""Whether the heads that were found do the task: answers with the others, or with them, ablated.

A head is ablated by putting the mean of its ``z`` over negative prompts in place of it: token by
token over those of one template, else over all tokens.  The BOS token is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.circuits.agreement import RESAMPLED, interval
from monosemy.circuits.head_outputs import CapturedBatch, HeadMap, rows_of
from monosemy.data.tasks.examples import Example
from monosemy.models.host import HostModel
from monosemy.models.rows import LOGITS_AT_ONCE, Ids, batches
from monosemy.progress import SILENT, Reporter
from monosemy.specs.circuits import CausalSpec
from monosemy.specs.rest.circuits import CausalCheck, CausalPoint, WithInterval

Floats = npt.NDArray[np.float64]
Edit = Callable[[Tensor], Tensor]

_LEAST_PER_TEMPLATE = 2
_MOST_MEANS = 2**28
"""Numbers that means token by token may take; beyond, they are taken over all tokens."""
SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75)
"""Of the heads that are kept, or removed, unless sizes are given."""
Shape = tuple[str, int]
"""A template, and tokens of a row with its BOS."""


@dataclass
class _Sum:
    rows: int
    z: list[Tensor]
    """By layer, summed: ``[S, width]``."""


@dataclass
class ReferenceMeans:
    """Mean ``z`` of every head, to be put in place of it."""

    heads: HeadMap
    skip: int
    """Tokens at the beginning that are left alone: 1 for a BOS."""
    _by_shape: dict[Shape, _Sum] = field(default_factory=dict)
    _all: list[Tensor] = field(default_factory=list)
    _tokens: int = 0

    def add(self, batch: CapturedBatch, templates: Sequence[str], chosen: Sequence[bool]) -> None:
        """The rows of ``batch`` that are ``chosen`` (by the number of the row); ``templates`` has
        the template of each."""
        if not self._all:
            self._all = [torch.zeros(width) for width in self.heads.widths]
        for place, row in enumerate(batch.rows):
            if not chosen[row]:
                continue
            length = batch.lengths[place]
            own = [z_BSW[place, :length] for z_BSW in batch.z]
            for total, z_SW in zip(self._all, own, strict=True):
                total += z_SW[self.skip :].sum(0)
            self._tokens += length - self.skip
            if templates[row]:
                self._add_shape((templates[row], length), own)

    def _add_shape(self, shape: Shape, own: list[Tensor]) -> None:
        known = self._by_shape.get(shape)
        if known is None:
            held = sum(each.z[0].shape[0] for each in self._by_shape.values()) + shape[1]
            if held * sum(self.heads.widths) <= _MOST_MEANS:
                self._by_shape[shape] = _Sum(1, [z_SW.clone() for z_SW in own])
            return
        known.rows += 1
        for total, z_SW in zip(known.z, own, strict=True):
            total += z_SW

    def token_by_token(self, shapes: Sequence[Shape]) -> bool:
        """Whether there are means of every one of these shapes."""
        return all(
            shape in self._by_shape and self._by_shape[shape].rows >= _LEAST_PER_TEMPLATE
            for shape in shapes
        )

    def of(self, shape: Shape, by_token: bool) -> list[Tensor]:
        """By layer: ``[S, width]``, or ``[1, width]`` where not ``by_token``."""
        if by_token:
            known = self._by_shape[shape]
            return [total / known.rows for total in known.z]
        return [total[None] / self._tokens for total in self._all]


@dataclass(frozen=True)
class _Batch:
    ids_BS: Tensor
    means: list[Tensor]
    right: list[tuple[int, ...]]
    wrong: list[tuple[int, ...]]
    places: list[int]


class Ablation:
    """Logit differences of some prompts with any set of heads kept."""

    def __init__(
        self,
        host: HostModel,
        heads: HeadMap,
        means: ReferenceMeans,
        examples: Sequence[Example],
    ) -> None:
        host.need_logits()
        self.host, self.heads, self.skip = host, heads, means.skip
        rows = rows_of(host, examples)
        shapes = [(each.template, len(row)) for each, row in zip(examples, rows, strict=True)]
        by_token = means.token_by_token(shapes)
        self.reference: Literal["token by token", "all tokens"] = (
            "token by token" if by_token else "all tokens"
        )
        self.count = len(examples)
        self._batches = []
        for shape in dict.fromkeys(shapes):
            places = [place for place, own in enumerate(shapes) if own == shape]
            chosen: list[Ids] = [rows[place] for place in places]
            for part in batches(chosen, host.d_vocab, LOGITS_AT_ONCE):
                self._batches.append(
                    _Batch(
                        torch.tensor(chosen[part]),
                        means.of(shape, by_token),
                        [examples[place].right for place in places[part]],
                        [examples[place].wrong for place in places[part]],
                        places[part],
                    )
                )

    def differences(self, kept: npt.NDArray[np.bool_] | None) -> Floats:
        """``[prompts]``: with only the heads ``kept`` [heads] as they are; None: with all."""
        found = np.empty(self.count)
        for batch in self._batches:
            edits = {} if kept is None else self._edits(batch, kept)
            mask_BS = torch.ones_like(batch.ids_BS)
            logits_BV = self.host.logits(batch.ids_BS, mask_BS, edits)[:, -1].float().cpu()
            for row, place in enumerate(batch.places):
                right, wrong = (
                    torch.logsumexp(logits_BV[row, list(tokens)], 0)
                    for tokens in (batch.right[row], batch.wrong[row])
                )
                found[place] = float(right - wrong)
        return found

    def _edits(self, batch: _Batch, kept: npt.NDArray[np.bool_]) -> Mapping[str, Edit]:
        edits: dict[str, Edit] = {}
        by_layer = kept.reshape(len(self.heads.layers), self.heads.per_layer)
        for place, (site, width) in enumerate(
            zip(self.heads.sites, self.heads.widths, strict=True)
        ):
            if by_layer[place].all():
                continue
            mask = torch.from_numpy(~by_layer[place]).repeat_interleave(
                width // self.heads.per_layer
            )
            edits[site] = partial(_ablate, mean=batch.means[place], mask=mask, skip=self.skip)
        return edits


def _ablate(z_BSW: Tensor, mean: Tensor, mask: Tensor, skip: int) -> Tensor:
    """``z`` with the channels of ``mask`` [W] at their mean, from token ``skip`` on."""
    mean_SW = mean.to(z_BSW).expand(z_BSW.shape[1], -1)
    changed = torch.where(mask.to(z_BSW.device), mean_SW, z_BSW)
    if skip:
        changed[:, :skip] = z_BSW[:, :skip]
    return changed


def default_sizes(heads: int) -> list[int]:
    """Numbers of heads to keep, and to remove."""
    sizes = {round(share * heads) for share in SHARES}
    return sorted(size for size in sizes if 0 < size < heads)


def causal_check(
    ablation: Ablation,
    order: Sequence[int],
    spec: CausalSpec,
    seed: int,
    held_out: bool,
    reporter: Reporter = SILENT,
) -> CausalCheck:
    """Curves over the heads in ``order``, the strongest first, beside random sets of as many.
    Stage ``causal`` in forwards of all prompts."""
    count = len(order)
    sizes = sorted(set(spec.sizes or default_sizes(count)))
    sizes = [size for size in sizes if size <= count]
    rng = np.random.default_rng(seed % 2**63)
    resampled = rng.integers(ablation.count, size=(RESAMPLED, ablation.count))
    ranked = np.array(order)
    orders = [rng.permutation(count) for _ in range(spec.random_sets)]
    forwards = 2 + 2 * len(sizes) * (1 + len(orders))
    with reporter.stage("causal", forwards, "forwards") as stage:

        def measured(chosen: npt.NDArray[np.int64], keep: bool) -> Floats:
            kept = np.full(count, not keep)
            kept[chosen] = keep
            found = ablation.differences(kept)
            stage.advance()
            return found

        clean = ablation.differences(None)
        stage.advance()
        none = measured(ranked, keep=False)
        curves: dict[bool, list[CausalPoint]] = {True: [], False: []}
        for keep, points in curves.items():
            for size in sizes:
                top = measured(ranked[:size], keep)
                sets = np.array([measured(each[:size], keep) for each in orders])
                points.append(
                    CausalPoint(
                        heads=size,
                        top=_by_prompt(top, resampled),
                        random=_by_prompt(sets.mean(0), resampled),
                        sets=[float(each) for each in sets.mean(1)],
                    )
                )
    return CausalCheck(
        prompts=ablation.count,
        held_out=held_out,
        reference=ablation.reference,
        clean=_by_prompt(clean, resampled),
        none=_by_prompt(none, resampled),
        kept=curves[True],
        removed=curves[False],
    )


def _by_prompt(values: Floats, resampled: npt.NDArray[np.int64]) -> WithInterval:
    """A mean with its interval."""
    low, high = interval(values[resampled].mean(1))
    return WithInterval(value=float(values.mean()), low=low, high=high)
