"""Token ids on their way into a host model: checked, and with what padding needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.models.vocabulary import check_range


@dataclass(frozen=True)
class HostInputs:
    """What the model called ``name`` takes."""

    name: str
    tokenizer: Any
    d_vocab: int
    pad_id: int
    positions: int | None
    """Tokens of one row; None: as many as memory holds."""
    device: torch.device

    def check_ids(self, ids: Tensor, where: str = "") -> None:
        """``DataError`` names a token that the embedding has no row for."""
        if not _are_whole(ids):
            raise DataError(f"{where}Token ids are whole numbers, not {ids.dtype}.")
        if ids.numel():
            least, largest = (int(value) for value in ids.aminmax())
            check_range(least, largest, self.tokenizer, self.d_vocab, where)

    def check(self, ids_BS: Tensor, length: int) -> None:
        """``DataError`` for ids and positions that this model does not have."""
        self.check_ids(ids_BS)
        limit = self.positions
        if limit is not None and length > limit:
            raise DataError(
                f"A row has {plural(length, 'token')}; {self.name} reads {limit} at once."
            )

    def padded(self, ids_BS: Tensor, mask_BS: Tensor) -> dict[str, Tensor]:
        """What a forward takes for rows that are padded where ``mask_BS`` is 0."""
        mask = torch.as_tensor(mask_BS).bool()
        ids_BS = torch.as_tensor(ids_BS)
        if _are_whole(ids_BS):
            # Whatever a store or a caller pads with: it is never looked at.
            ids_BS = ids_BS.where(mask.to(ids_BS.device), self.pad_id)
        self.check(ids_BS, int(ids_BS.shape[1]))
        inputs = {"input_ids": ids_BS.to(self.device)}
        if bool((mask[:, 1:] <= mask[:, :-1]).all()):
            # Padding on the right only: under causal attention no real token sees it, and without
            # a mask the attention kernel takes its fast path.
            return inputs
        inputs["attention_mask"] = mask.long().to(self.device)
        inputs["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0).to(self.device)
        return inputs


def _are_whole(ids: Tensor) -> bool:
    return not (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool)
