"""What the host model loses when an SAE's reconstruction stands in for its activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from monosemy.data.store import TokenStore
from monosemy.models.host import HostModel
from monosemy.models.splice import mean_ablation, replace, zero_ablation
from monosemy.models.taps import Edit
from monosemy.progress import Stage
from monosemy.saes.base import SAE


@torch.no_grad()
def spliced_losses(
    host: HostModel,
    store: TokenStore,
    rows: npt.NDArray[np.int64],
    site: str,
    saes: dict[str, SAE],
    mean_D: Tensor,
    max_tokens: int,
    stage: Stage,
    rows_at_once: int = 8,
) -> dict[str, Any]:
    """Cross-entropy (nats per token) of the clean and of the edited host model, on the same tokens.

    A token counts when both it and the token that predicts it are text: BOS and padding are neither
    edited nor counted.  Returns ``tokens``, ``ce_clean``, ``ce_zero``, ``ce_mean`` and, per SAE,
    ``ce``, ``kl`` (clean to spliced), ``ce_recovered_zero`` and ``ce_recovered_mean``, where
    recovered = (CE_ablated - CE_spliced) / (CE_ablated - CE_clean).  Zero ablation flatters against
    mean ablation (Kissane et al. 2024, section 2): both are given.
    """
    names = ["zero", "mean", *saes]
    losses = dict.fromkeys(["clean", *names], 0.0)
    divergences = dict.fromkeys(saes, 0.0)
    tokens = 0
    for start in range(0, len(rows), rows_at_once):
        if tokens >= max_tokens:
            break
        batch = store.batch(rows[start : start + rows_at_once])
        ids, mask = torch.as_tensor(batch.ids_BS), torch.as_tensor(batch.mask_BS)
        real = torch.as_tensor(batch.real_BS)
        counted = real[:, 1:] & real[:, :-1]
        target = ids[:, 1:][counted]
        if not len(target):
            continue
        edits: dict[str, Edit] = {
            "zero": zero_ablation(real),
            "mean": mean_ablation(mean_D, real),
            **{name: replace(sae, real) for name, sae in saes.items()},
        }
        clean = _log_probabilities(host, ids, mask, counted, None)
        losses["clean"] += float(F.nll_loss(clean, target, reduction="sum"))
        for name in names:
            edited = _log_probabilities(host, ids, mask, counted, {site: edits[name]})
            losses[name] += float(F.nll_loss(edited, target, reduction="sum"))
            if name in saes:
                kl = F.kl_div(edited, clean, reduction="sum", log_target=True)
                divergences[name] += float(kl)
        tokens += len(target)
        stage.advance(len(target))
    return _summary({n: v / max(tokens, 1) for n, v in losses.items()}, divergences, tokens, saes)


def _log_probabilities(
    host: HostModel, ids: Tensor, mask: Tensor, counted: Tensor, edits: dict[str, Edit] | None
) -> Tensor:
    """``[counted tokens, vocabulary]`` in float32: only what is scored is turned into float32."""
    logits = host.logits(ids, mask, edits)[:, :-1].cpu()
    return F.log_softmax(logits[counted].float(), dim=-1)


def _summary(
    ce: dict[str, float], divergences: dict[str, float], tokens: int, saes: dict[str, SAE]
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "tokens": tokens,
        "ce_clean": ce["clean"],
        "ce_zero": ce["zero"],
        "ce_mean": ce["mean"],
    }
    for name in saes:
        result[name] = {
            "ce": ce[name],
            "kl": divergences[name] / max(tokens, 1),
            "ce_recovered_zero": _recovered(ce["zero"], ce[name], ce["clean"]),
            "ce_recovered_mean": _recovered(ce["mean"], ce[name], ce["clean"]),
        }
    return result


def _recovered(ablated: float, spliced: float, clean: float) -> float | None:
    """None where ablation does no harm, so that there is nothing to recover."""
    harm = ablated - clean
    return (ablated - spliced) / harm if harm > 0 else None
