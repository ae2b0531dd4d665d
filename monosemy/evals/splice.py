"""The host model's loss with an SAE's reconstruction in place of its activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from monosemy.data.store import TokenStore
from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.edits import Interventions
from monosemy.interventions.intervention import Function, Intervention, Where, replace
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE

Decode = Callable[[Tensor], Tensor]
"""``[n, width read] -> [n, width]`` in float32: what an SAE makes of activations."""

ROWS_AT_ONCE = 8

LOGITS_AT_ONCE = 256
"""Positions whose logits are float32 at the same time: a vocabulary is wide."""


def reconstruct(sae: SAE) -> Decode:
    """The SAE as a function of activations on whatever device they are."""

    def apply(x_ND: Tensor) -> Tensor:
        result: Tensor = sae(x_ND.to(sae.device)).to(x_ND.device)
        return result

    return apply


@dataclass(frozen=True)
class CountedBatch:
    """A batch of rows, and which of its predictions count: those of text made from text."""

    rows_B: npt.NDArray[np.int64]
    """Of the store."""
    ids_BS: Tensor
    mask_BS: Tensor
    real_BS: Tensor
    """Which tokens are text."""
    counted_BS: Tensor
    """``[B, S - 1]``: which positions' predictions count."""
    target_M: Tensor
    """What they are to predict."""
    row_M: Tensor
    """Which row of the batch each is in."""

    def logits(self, host: HostModel, edits: Mapping[str, Any] | None = None) -> Tensor:
        """``[M, V]`` of the host model, edited or as it is."""
        logits_BSV = host.logits(self.ids_BS, self.mask_BS, edits)
        return logits_BSV[:, :-1][self.counted_BS.to(host.device)]


def counted_batches(
    store: TokenStore, rows: npt.NDArray[np.int64], max_tokens: int
) -> Iterator[CountedBatch]:
    """``rows`` a few at a time, until ``max_tokens`` predictions have counted; batches in which
    none does are left out."""
    left = max_tokens
    for start in range(0, len(rows), ROWS_AT_ONCE):
        if left <= 0:
            return
        taken = rows[start : start + ROWS_AT_ONCE]
        batch = store.batch(taken)
        ids, real = torch.from_numpy(batch.ids_BS), torch.from_numpy(batch.real_BS)
        counted = first_of(real[:, 1:] & real[:, :-1], left)
        target = ids[:, 1:][counted]
        if not len(target):
            continue
        row = torch.arange(len(ids))[:, None].expand_as(counted)[counted]
        mask = torch.from_numpy(batch.mask_BS)
        yield CountedBatch(taken, ids, mask, real, counted, target, row)
        left -= len(target)


@torch.no_grad()
def spliced_losses(
    hosted: HostedSAE,
    store: TokenStore,
    rows: npt.NDArray[np.int64],
    reconstructions: Mapping[str, Decode],
    mean_D: Tensor,
    max_tokens: int,
    advance: Callable[[int], None],
    ablations: bool = True,
) -> dict[str, Any]:
    """Cross-entropy (nats per token) of the clean and of the edited host model, on the same tokens.

    BOS, padding and tokens whose norm where the SAE reads is above its ``max_norm`` or not finite,
    on none of which an SAE is trained, keep their clean activation in every variant, the ablations
    too.  A prediction counts when both it and the token it is made from are text.  Of an SAE of
    several places everything it writes is replaced at once, by what it makes of the clean
    activations.  ``mean_D`` ``[d_out]`` is for mean ablation.

    Returns ``ce_clean``, ``ce_zero``, ``ce_mean``, ``tokens`` (predictions counted),
    ``spliced_share`` (share of text tokens replaced) and, per name in ``reconstructions``,
    ``ce_sae``, ``kl`` (clean to spliced, nats), ``ce_recovered_zero`` and ``ce_recovered_mean``,
    where recovered = (CE_ablated - CE_spliced) / (CE_ablated - CE_clean), None where ablation does
    no harm, or without ``ablations``.  Zero ablation flatters beside mean ablation: both are given.
    All are None, of 0 tokens, where nothing can be spliced (``HostedSAE.no_losses``).
    """
    sums, host = _Sums(), hosted.host
    if hosted.no_losses is not None:
        return sums.summary(list(reconstructions))
    decodes = {**(ablating(mean_D) if ablations else {}), **reconstructions}
    for batch in counted_batches(store, rows, max_tokens):
        clean, target = batch.logits(host), batch.target_M
        sums.add("clean", clean, clean, target)
        count = {"zero": partial(sums.count, batch.real_BS)}
        for name, logits in spliced_logits(hosted, batch, decodes, count):
            sums.add(name, logits, clean, target)
        sums.tokens += len(target)
        advance(len(target))
    return sums.summary(list(reconstructions))


def ablating(mean_D: Tensor) -> dict[str, Decode]:
    """Zero and mean ablation, as reconstructions."""
    return {"zero": always(torch.zeros_like(mean_D)), "mean": always(mean_D)}


def spliced_logits(
    hosted: HostedSAE,
    batch: CountedBatch,
    decodes: Mapping[str, Decode],
    count: Mapping[str, Callable[[Tensor], None]] | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """``[M, V]`` with each of ``decodes`` in place of what the SAE writes, at tokens of ordinary
    norm, one after the other; ``count`` is told, by name, which those are."""
    # One place is edited as it is met; of several, one must not see what another was made.
    hooks = hosted.hooks
    several = len(hooks.reads) > 1 or len(hooks.writes) > 1
    read = hosted.read(batch.ids_BS, batch.mask_BS) if several else None
    for name, decode in decodes.items():
        change = _spliced(hosted, decode, read, (count or {}).get(name))
        yield name, batch.logits(hosted.host, change.edits(batch.real_BS))


@dataclass
class _Sums:
    """Nats over tokens, per variant."""

    tokens: int = 0
    text: int = 0
    replaced: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    divergences: dict[str, float] = field(default_factory=dict)

    def count(self, real_BS: Tensor, ordinary_BS: Tensor) -> None:
        """Text tokens, and those of them that are replaced."""
        self.text += int(real_BS.sum())
        self.replaced += int((real_BS.to(ordinary_BS.device) & ordinary_BS).sum())

    def add(self, name: str, logits_MV: Tensor, clean_MV: Tensor, target_M: Tensor) -> None:
        loss = divergence = 0.0
        blocks = (part.split(LOGITS_AT_ONCE) for part in (logits_MV, clean_MV, target_M))
        for logits, clean, target in zip(*blocks, strict=True):
            edited = F.log_softmax(logits.float(), dim=-1)
            loss += float(F.nll_loss(edited, target.to(edited.device), reduction="sum"))
            if name not in ("clean", "zero", "mean"):
                reference = F.log_softmax(clean.float(), dim=-1)
                divergence += float(F.kl_div(edited, reference, reduction="sum", log_target=True))
        self.losses[name] = self.losses.get(name, 0.0) + loss
        self.divergences[name] = self.divergences.get(name, 0.0) + divergence

    def summary(self, names: list[str]) -> dict[str, Any]:
        count = max(self.tokens, 1)
        ce = {name: total / count for name, total in self.losses.items()}
        result: dict[str, Any] = {
            **{f"ce_{name}": ce.get(name) for name in ("clean", "zero", "mean")},
            "tokens": self.tokens,
            "spliced_share": self.replaced / max(self.text, 1),
        }
        for name in names:
            result[name] = {
                "ce_sae": ce.get(name),
                "kl": self.divergences[name] / count if name in ce else None,
                "ce_recovered_zero": _recovered(ce, "zero", name),
                "ce_recovered_mean": _recovered(ce, "mean", name),
            }
        return result


def _spliced(
    hosted: HostedSAE,
    decode: Decode,
    clean: list[Tensor] | None = None,
    count: Callable[[Tensor], None] | None = None,
) -> Interventions:
    """``decode`` in place of what the SAE writes, at tokens of ordinary norm; ``count`` is told
    which those are.  ``clean``: what is read at each place, if not in the forward itself."""

    def ordinary(parts: list[Tensor]) -> Tensor:
        where_BS = hosted.usable(parts)
        if count is not None:
            count(where_BS)
        return where_BS

    hooks = hosted.hooks
    if clean is None:
        return Interventions([in_place(hosted, decode, ordinary)])
    where_BS = ordinary(clean)
    made_ND = decode(hosted.joined(clean).flatten(0, 1).float())
    return Interventions(
        [
            replace(
                Function(partial(_known, made_ND[:, part]), hook.site),
                where=Where(when=partial(_known, where_BS)),
            )
            for hook, part in hooks.written_parts.items()
        ]
    )


def in_place(
    hosted: HostedSAE, decode: Decode, ordinary: Callable[[list[Tensor]], Tensor] | None = None
) -> Intervention:
    """``decode`` of what an SAE of one place reads, as the model goes on with it, in place of what
    it writes, where ``ordinary`` (by default ``HostedSAE.usable``) says so."""
    hooks, usable = hosted.hooks, ordinary or hosted.usable
    reads = hooks.reads[0].site if hooks.transcodes else None
    what = Function(decode, hooks.writes[0].site, reads)
    return replace(what, where=Where(when=lambda read: usable([read])))


def _known(value: Tensor, _acts: Tensor) -> Tensor:
    """A value that is there already, whatever the activations are."""
    return value


def always(value_D: Tensor) -> Decode:
    def apply(x_ND: Tensor) -> Tensor:
        return value_D.to(x_ND).expand(len(x_ND), -1)

    return apply


def first_of(mask_BS: Tensor, count: int) -> Tensor:
    """Only the first ``count`` true entries, in row order."""
    within = mask_BS.flatten().cumsum(0).view_as(mask_BS) <= count
    return mask_BS & within


def _recovered(ce: dict[str, float], ablation: str, name: str) -> float | None:
    if name not in ce or ablation not in ce:
        return None
    harm = ce[ablation] - ce["clean"]
    return (ce[ablation] - ce[name]) / harm if harm > 0 else None
