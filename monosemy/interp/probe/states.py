"""Hidden states of the host model as it reads an explanation and a text.  Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.interp.host_text import HostText, Ids, batches, padded
from monosemy.interp.probe.linear import Floats
from monosemy.interp.probe.relation import RELATION
from monosemy.interp.prompts.loader import load_prompt
from monosemy.interp.prompts.quoting import fence, quote
from monosemy.models.host import HostModel

TOKENS_AT_ONCE = 8192
MEAN, LAST = "mean", "last"


class ProbeStates:
    """Pooled states by view.

    Explanation and text in one prompt: ``<site>:mean`` over real tokens, ``<site>:last`` of the
    last one.  Each read alone: ``relation``, the means of both at several depths.  The first
    position is left out of a mean: many models keep there a state so large that it would be most
    of it and say nothing.
    """

    def __init__(
        self, host: HostModel, sites: Sequence[str] | None = None, views: Sequence[str] = ()
    ) -> None:
        """``sites`` None takes those around the middle; ``views`` are those needed, empty: all."""
        self.text = HostText(host)
        self.host = host
        self.sites = tuple(sites) if sites else middle_sites(host)
        self.depths = depths_of(host)
        self.together = not views or any(view != RELATION for view in views)
        self.apart = not views or RELATION in views
        self.prompt = load_prompt("probe")
        self._longest = host.abilities.positions

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> dict[str, Floats]:
        """States ``[N, width]`` of (explanation, text) pairs, float64.

        Equal pairs are read once.  ``DataError`` for a pair longer than the model's context.
        """
        found = self._pairs(pairs) if self.together else {}
        if self.apart:
            found[RELATION] = self._apart(pairs)
        return found

    def _apart(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """``[N, 2 * L * D]``: means of the explanation's states by layer, then of the text's."""
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        ids = [self._alone(text) for text in texts]
        order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
        state: dict[str, Floats] = {}
        for chosen in batches([ids[n] for n in order], 1, TOKENS_AT_ONCE):
            numbers = order[chosen]
            ids_BS, mask_BS = padded([ids[n] for n in numbers], self.host.pad_id)
            captured = self.host.capture(ids_BS, mask_BS, self.depths)
            pooled = [
                pool(captured[site], mask_BS.to(captured[site].device), MEAN).cpu().double()
                for site in self.depths
            ]
            for n, row in zip(numbers, torch.cat(pooled, 1).numpy(), strict=True):
                state[texts[n]] = row
        return np.stack([np.concatenate([state[said], state[text]]) for said, text in pairs])

    def _alone(self, text: str) -> Ids:
        ids = self.text.with_bos(self.text.tokens(text)) or (self.host.pad_id,)
        return ids[: self._longest] if self._longest is not None else ids

    def _pairs(self, pairs: Sequence[tuple[str, str]]) -> dict[str, Floats]:
        rows = {pair: self._ids(*pair) for pair in dict.fromkeys(pairs)}
        order = sorted(rows, key=lambda pair: len(rows[pair]))
        ids = [rows[pair] for pair in order]
        parts: dict[str, list[Floats]] = {}
        for chosen in batches(ids, 1, TOKENS_AT_ONCE):
            for view, found_BD in self._read(ids[chosen]).items():
                parts.setdefault(view, []).append(found_BD)
        place = {pair: i for i, pair in enumerate(order)}
        picked = [place[pair] for pair in pairs]
        return {view: np.concatenate(found)[picked] for view, found in parts.items()}

    def source(self) -> dict[str, Any]:
        """Names model, precision and prompt."""
        return {
            "model": self.host.name,
            "fingerprint": self.host.fingerprint,
            "dtype": str(self.host.dtype),
            "prompt": self.prompt.provenance(),
            "depths": len(self.depths),
        }

    def _ids(self, explanation: str, text: str) -> Ids:
        said, shown = quote(explanation), quote(text)
        ids = self.text.prefix(
            self.prompt, explanation=said, text=shown, fence=fence([said, shown])
        )
        if self._longest is not None and len(ids) > self._longest:
            raise DataError(
                f"Explanation and text have {len(ids)} tokens; {self.host.name} reads "
                f"{self._longest}.",
                "Shorten the explanation, or take a host model with a longer context.",
            )
        return ids

    def _read(self, ids: Sequence[Ids]) -> dict[str, Floats]:
        ids_BS, mask_BS = padded(ids, self.host.pad_id)
        captured = self.host.capture(ids_BS, mask_BS, self.sites)
        found = {}
        for site, states_BSD in captured.items():
            for pooling in (MEAN, LAST):
                pooled_BD = pool(states_BSD, mask_BS.to(states_BSD.device), pooling)
                found[f"{site}:{pooling}"] = pooled_BD.cpu().double().numpy()
        return found


def pool(states_BSD: Tensor, mask_BS: Tensor, pooling: str) -> Tensor:
    """``[B, D]`` float32 of rows padded on the right; padding is never looked at."""
    states_BSD = states_BSD.float()
    length_B = mask_BS.sum(-1)
    if pooling == LAST:
        return states_BSD[torch.arange(len(states_BSD), device=states_BSD.device), length_B - 1]
    kept_BS = mask_BS.bool().clone()
    kept_BS[:, 0] &= length_B == 1
    states_BSD = states_BSD.masked_fill(~kept_BS[..., None], 0.0)
    return states_BSD.sum(1) / kept_BS.sum(-1, keepdim=True)


def depths_of(host: HostModel) -> tuple[str, ...]:
    """The stream after blocks at every tenth of the depth, from a tenth to seven."""
    depths = dict.fromkeys(
        min(host.n_layers - 1, max(0, round(tenth * host.n_layers / 10) - 1))
        for tenth in range(1, 8)
    )
    return tuple(f"blocks.{layer}.hook_resid_post" for layer in depths)


def middle_sites(host: HostModel) -> tuple[str, ...]:
    """The stream after blocks at a third, a half and two thirds of the depth."""
    depths = dict.fromkeys(
        min(host.n_layers - 1, max(0, round(share * host.n_layers) - 1))
        for share in (1 / 3, 1 / 2, 2 / 3)
    )
    return tuple(f"blocks.{layer}.hook_resid_post" for layer in depths)
