"""The one dense product of an encoder, and the largest entries of each of its rows."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK_BYTES = {"cpu": 8 << 20, "cuda": 512 << 20}
"""Pre-activations that exist at once.  On a CPU they stay in the cache between product and
selection, and allocations of this size are reused where larger ones are mapped anew each time."""

_GROUP = 16


@torch.no_grad()
def top_latents(
    centred_ND: Tensor, W_enc: Tensor, b_enc: Tensor, k: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Indices and values ``[n, k]`` of the largest ``centred @ W_enc + b_enc`` per row.

    ``dtype`` is that of the product; values come back in the dtype of ``centred_ND``.  Rows are
    done a block at a time, so memory does not grow with n.
    """
    d_sae = W_enc.shape[1]
    weight, bias = W_enc.to(dtype), b_enc.to(dtype)
    budget = _BLOCK_BYTES.get(centred_ND.device.type, _BLOCK_BYTES["cuda"])
    rows = max(64, budget // (d_sae * weight.element_size()))
    n = centred_ND.shape[0]
    indices = torch.empty(n, k, dtype=torch.int64, device=centred_ND.device)
    values = torch.empty(n, k, dtype=centred_ND.dtype, device=centred_ND.device)
    for start in range(0, n, rows):
        block = slice(start, start + rows)
        pre = torch.addmm(bias, centred_ND[block].to(dtype), weight)
        largest, where = top_k(pre, k)
        values[block] = largest
        indices[block] = where
    return indices, values


def top_k(pre_NF: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As ``torch.topk(k, sorted=False)``, in less time where ``F`` is much larger than ``k``.

    The k largest entries lie in the k groups with the largest maxima, so only those are looked
    through.  Exact; which of several equal entries come along is not specified.
    """
    n, width = pre_NF.shape
    groups = width // _GROUP
    if width % _GROUP or groups < 8 * k:
        return pre_NF.topk(k, dim=-1, sorted=False)
    # Group g holds the entries g, g + groups, g + 2 * groups, ...: maxima over them vectorise.
    grouped = pre_NF.view(n, _GROUP, groups)
    best = grouped.amax(1).topk(k, dim=-1, sorted=False).indices
    candidates = grouped.gather(2, best[:, None].expand(-1, _GROUP, -1)).flatten(1)
    values, found = candidates.topk(k, dim=-1, sorted=False)
    return values, best.gather(1, found % k) + (found // k) * groups
