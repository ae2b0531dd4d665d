"""A feature's direct effect on the next-token logits, through the weights alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.models.sites import MLP_READS, STREAM, parse_site
from monosemy.specs.hooks import HOST, Hook, Hooks

if TYPE_CHECKING:
    from monosemy.models.host import HostModel

BLOCK_BYTES = 128 * 2**20


@dataclass(frozen=True)
class LogitEffects:
    """For each of n directions: strongest tokens and the shape of the whole distribution.

    ``promoted_*`` [n, t] descending, ``suppressed_*`` [n, t] ascending; ``std``, ``skew`` and
    excess ``kurtosis`` [n] over the vocabulary.
    """

    promoted_ids: Tensor
    promoted: Tensor
    suppressed_ids: Tensor
    suppressed: Tensor
    std: Tensor
    skew: Tensor
    kurtosis: Tensor


class TopTokens(NamedTuple):
    """Tokens ``[n, t]`` of n directions, strongest first, and the effects on their logits."""

    ids: Tensor
    effects: Tensor


class LogitLens:
    """Decoder rows -> effects on the logits.

    effect[f, t] = ((direction_f in residual space) * final norm gain) @ W_U[:, t], centred: the
    mean over the vocabulary is taken away, since a shift of all logits changes no probability.  The
    final norm's scale depends on the token and is left out, so effects compare within a feature.
    Of a host model without an unembedding of its own, and of an SAE that writes only what an MLP
    reads, there are none (``missing`` says why).
    """

    def __init__(self, host: HostModel, hooks: Hooks, tokens: int) -> None:
        """``hooks`` says where the rows are written."""
        self.missing = host.abilities.no_unembedding or _not_in_stream(hooks)
        if self.missing is not None:
            return
        unembedding, gain = host.unembedding()
        folded = unembedding.float() * gain.float()[:, None]
        # Centring W_U's rows once centres every effect.
        self.unembedding = folded - folded.mean(dim=1, keepdim=True)
        self.host, self.hooks = host, hooks
        self.tokens = min(tokens, self.unembedding.shape[1])

    @torch.no_grad()
    def effects(self, directions_FD: Tensor) -> LogitEffects:
        """Of the directions [n, width of all that is written], in blocks of bounded memory."""
        if self.missing is not None:
            none = torch.zeros(len(directions_FD), 0)
            flat = torch.zeros(len(directions_FD))
            return LogitEffects(none.long(), none, none.long(), none, flat, flat, flat)
        residual = self._in_stream(directions_FD).to(self.unembedding.device)
        rows = max(1, BLOCK_BYTES // (4 * self.unembedding.shape[1]))
        parts = [self._block(piece) for piece in residual.split(rows)]
        columns = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
        return LogitEffects(*columns)

    def _in_stream(self, directions_FD: Tensor) -> Tensor:
        """What the rows are in the stream after the last place that is written, [n, d_model]: what
        is added to the stream adds up, what is the stream itself replaces what came before."""
        result: Tensor | None = None
        parts = self.hooks.written_parts
        for hook in sorted(parts, key=lambda hook: hook.depth):
            if not _adds_to_stream(hook):
                continue
            part = self._added(hook, directions_FD[:, parts[hook]])
            whole = result is None or parse_site(hook.site).kind in STREAM
            result = part if whole or result is None else result + part
        if result is None:
            raise DataError(
                "The SAE writes nothing into the host model whose logits are asked for."
            )
        return result

    def _added(self, hook: Hook, directions_FD: Tensor) -> Tensor:
        return self.host.output_directions(hook.site, directions_FD).float()

    @torch.no_grad()
    def promoted_at(self, hook: Hook, directions_FD: Tensor, tokens: int) -> TopTokens | None:
        """The ``tokens`` strongest of directions [n, width] at this place alone; None where what is
        written there is no part of the stream of the host model with the unembedding."""
        if self.missing is not None or not _adds_to_stream(hook):
            return None
        residual = self._added(hook, directions_FD).to(self.unembedding.device)
        tokens = min(tokens, self.unembedding.shape[1])
        rows = max(1, BLOCK_BYTES // (4 * self.unembedding.shape[1]))
        parts = [(each @ self.unembedding).topk(tokens, dim=1) for each in residual.split(rows)]
        values, ids = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
        return TopTokens(ids, values)

    def _block(self, residual_nD: Tensor) -> tuple[Tensor, ...]:
        effects_nV = residual_nD @ self.unembedding
        up, up_ids = effects_nV.topk(self.tokens, dim=1)
        down, down_ids = effects_nV.topk(self.tokens, dim=1, largest=False)
        size = effects_nV.shape[1]
        squares = effects_nV * effects_nV
        second = squares.sum(dim=1) / size
        third = torch.einsum("nv,nv->n", squares, effects_nV) / size
        fourth = torch.einsum("nv,nv->n", squares, squares) / size
        # A row of zeros has no shape; the floor keeps it at 0 rather than at nan.
        floor = second.clamp_min(1e-30)
        skew = third / floor**1.5
        kurtosis = torch.where(second > 0, fourth / floor**2 - 3.0, 0.0)
        return up_ids, up, down_ids, down, second.sqrt(), skew, kurtosis


def _adds_to_stream(hook: Hook) -> bool:
    return hook.host == HOST and parse_site(hook.site).kind not in MLP_READS


def _not_in_stream(hooks: Hooks) -> str | None:
    """Why what is written is no part of the stream; None where some of it is."""
    own = [hook for hook in hooks.writes if hook.host == HOST]
    if own and all(parse_site(hook.site).kind in MLP_READS for hook in own):
        return f"an MLP reads {own[0]} and makes something else of it"
    return None
