"""What a host model is found to do when it is loaded: proved on a few tokens, not assumed.

``check_reading`` refuses models whose activations cannot be used at all: those that see later
tokens or other rows, or give values that are not finite.  ``find_abilities`` tries what only some
uses need; what is missing has a reason, which its user reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from monosemy.errors import ModelError
from monosemy.models.architecture import Trunk
from monosemy.models.hook_points import HookPoint, Recorder
from monosemy.models.text_embedding import text_end
from monosemy.models.weights import no_unembedding, unembedding_matrix
from monosemy.specs.concepts import TextEmbedding

_TOKENS = 8
_HALF = 4

_LEAK = 1e-4
"""Largest change of earlier activations by later tokens, as a share of their norm.  Both rows are
of one batch, so a causal model computes the very same ..."""

_NOISE = 8
"""... but for a mixture of experts, whose sums are cut otherwise when other tokens change: so many
times what other rows of the batch change is no leak yet, up to ``_CERTAIN``."""

_CERTAIN = {torch.float32: 1e-2, torch.float16: 5e-2, torch.bfloat16: 1e-1}
"""More is a leak, whatever other rows do."""

TOLERANCE = {torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 2e-1}
"""Largest error of one text read in different company, as a share of the activations' norm.
Attention that leaks, or positions that run on, are off by half of it or more on random texts."""

_ALIKE = 0.9
"""Least mean correlation of the logits with those that norm and matrix alone give."""

_ENCODER = "it is a text encoder, which has no language-model head"

_SEEDS = (0, 1)
"""A fault shows with every seed; experts that change places by rounding do so with one at most."""


@dataclass(frozen=True)
class Abilities:
    """What a host model has besides causal activations; None says that it has it, else why not."""

    no_logits: str | None
    """Why it predicts no tokens (evaluation, steering and some scorers need logits)."""
    no_cache: str | None
    """Why a text that is being written is read anew at each step."""
    no_unembedding: str | None
    """Why directions have no logits of their own (an index then goes without)."""
    positions: int | None
    """Tokens of one row; None: as many as memory holds."""
    heads: int | None = None
    """Attention heads that stand side by side at ``attn.hook_z``; None where nothing shows them."""
    text_end: int | None = None
    """The token that ends every text and at which it is pooled into one vector; None for a model
    that pools nothing: any but a text encoder."""

    @property
    def text_embedding(self) -> TextEmbedding:
        """What one vector for a whole text is."""
        return "mean_stream" if self.text_end is None else "pooled"

    @property
    def logits(self) -> bool:
        return self.no_logits is None

    @property
    def cache(self) -> bool:
        return self.no_cache is None

    def as_dict(self) -> dict[str, Any]:
        """What the model declares, for JSON: ``causality`` (what lacks it is refused when it is
        loaded), ``logits``, ``generation``, ``cache``, ``unembedding``, ``heads`` as a number, and
        which ``text_embedding``; under ``reasons`` why it has not those that are false."""
        reasons = {
            "logits": self.no_logits,
            "generation": self.no_logits,
            "cache": self.no_cache,
            "unembedding": self.no_unembedding,
        }
        return {
            "causality": True,
            **{name: reason is None for name, reason in reasons.items()},
            "heads": self.heads,
            "text_embedding": self.text_embedding,
            "reasons": {name: reason for name, reason in reasons.items() if reason is not None},
        }


def check_reading(core: Any, trunk: Trunk, d_vocab: int, name: str) -> None:
    """``ModelError`` unless an earlier token's activations are what the text up to it gives.

    Later tokens, other rows and padding on the right must not change them: capture, cache and
    packing all rely on it.  Two small forwards, or three.
    """
    faults = []
    for seed in _SEEDS:
        fault = _fault(core, trunk, d_vocab, seed)
        if fault is None:
            return
        faults.append(fault)
    raise ModelError(f"{name} ({type(core).__name__}) {faults[-1][0]}", faults[-1][1])


def _fault(core: Any, trunk: Trunk, d_vocab: int, seed: int) -> tuple[str, str] | None:
    """What is wrong and the advice, or None."""
    ids_BS = torch.randint(d_vocab, (3, _TOKENS), generator=torch.Generator().manual_seed(seed))
    ids_BS[1] = ids_BS[0]
    ids_BS[1, _HALF:] = _others(ids_BS[0, _HALF:], d_vocab)
    together_BSD = _last_stream(core, trunk, ids_BS)
    alone_SD = _last_stream(core, trunk, ids_BS[:1, :_HALF])[0]
    if not bool(together_BSD.isfinite().all() and alone_SD.isfinite().all()):
        return "gives activations that are not finite.", "Set model.dtype=float32 or bfloat16."
    first_SD = together_BSD[0, :_HALF]
    dtype = next(core.parameters()).dtype
    leak = _distance(together_BSD[1, :_HALF], first_SD)
    if leak > _LEAK:
        ids_BS[2] = _others(ids_BS[2], d_vocab)
        noise = _distance(_last_stream(core, trunk, ids_BS)[0, :_HALF], first_SD)
        if leak > min(_NOISE * noise, _CERTAIN.get(dtype, 1e-2)):
            return (
                "is not causal: other tokens later in a text change the activations of those "
                f"before by {leak:.2g} of their norm.",
                "Take a causal language model; an encoder reads both ways.",
            )
    off = _distance(alone_SD, first_SD)
    if not off <= TOLERANCE.get(dtype, 1e-3):
        return (
            "reads a text otherwise alone than beside others and with padding: its activations "
            f"are off by {off:.2g} of their norm.",
            "Take a model whose rows do not depend on one another.",
        )
    return None


def _others(ids: Tensor, d_vocab: int) -> Tensor:
    """Another token in place of each."""
    return (ids + 1 + d_vocab // 3) % d_vocab


def _last_stream(core: Any, trunk: Trunk, ids_BS: Tensor) -> Tensor:
    """Float32 output of the last block, ``[B, S, D]``."""
    point = HookPoint(trunk.blocks[-1], "output")
    shape = (int(ids_BS.shape[0]), int(ids_BS.shape[1]))
    with torch.no_grad(), Recorder([point], shape) as recorder:
        core(input_ids=ids_BS.to(next(core.parameters()).device), use_cache=False)
    return recorder.values[point].float()


def _distance(value_SD: Tensor, wanted_SD: Tensor) -> float:
    """Largest distance of a token's vector, as a share of its norm."""
    return float((value_SD - wanted_SD).norm(dim=-1).div(wanted_SD.norm(dim=-1) + 1e-12).max())


def find_abilities(
    model: Any, trunk: Trunk, tokenizer: Any, d_model: int, d_vocab: int, positions: int | None
) -> Abilities:
    """Tries logits and the cache of keys and values, or pooling, on a few tokens: three forwards
    at most."""
    end = text_end(model, tokenizer, d_vocab)
    if end is not None:
        return Abilities(_ENCODER, _ENCODER, _ENCODER, positions, text_end=end)
    unproved = no_unembedding(model, trunk.owner, d_model)
    no_logits, stream_SD, logits_SV = _logits(model, trunk, d_vocab)
    if no_logits is not None:
        return Abilities(no_logits, no_logits, unproved or no_logits, positions)
    if unproved is None:
        unproved = _unlike(model, trunk, d_model, stream_SD, logits_SV)
    return Abilities(None, _no_cache(model, d_vocab, logits_SV), unproved, positions)


def _ids(model: nn.Module, d_vocab: int) -> Tensor:
    ids_BS = torch.randint(d_vocab, (1, _TOKENS), generator=torch.Generator().manual_seed(0))
    return ids_BS.to(next(model.parameters()).device)


def _logits(model: Any, trunk: Trunk, d_vocab: int) -> tuple[str | None, Tensor, Tensor]:
    """(why there are none, the last block's output ``[S, D]``, logits ``[S, V]`` float32)."""
    nothing = torch.empty(0)
    if model.get_output_embeddings() is None:
        return "its files hold no unembedding (no language-model head)", nothing, nothing
    point = HookPoint(trunk.blocks[-1], "output")
    try:
        with torch.no_grad(), Recorder([point], (1, _TOKENS), stop_when_full=False) as recorder:
            value = model(input_ids=_ids(model, d_vocab), use_cache=False).logits
    except Exception as error:  # a foreign forward may fail in any way
        return f"its forward fails: {first_line(error)}", nothing, nothing
    if not isinstance(value, Tensor) or value.shape[:2] != (1, _TOKENS) or value.ndim != 3:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        return f"its head gives {shape}, not the logits of every token", nothing, nothing
    if not bool(value.isfinite().all()):
        return "its logits are not finite", nothing, nothing
    return None, recorder.values[point][0], value[0].float()


@torch.no_grad()
def _unlike(
    model: Any, trunk: Trunk, d_model: int, stream_SD: Tensor, logits_SV: Tensor
) -> str | None:
    """Why norm and matrix alone do not lead from the stream to the logits; None if they do.

    Correlated, as families scale their logits, or bend them at the ends.
    """
    try:
        last_SD = stream_SD if trunk.final_norm is None else trunk.final_norm(stream_SD)
        matrix_DV = unembedding_matrix(model, trunk.owner, d_model)
        bias = getattr(model.get_output_embeddings(), "bias", None)
        made_SV = last_SD.float().cpu() @ matrix_DV + (0 if bias is None else bias.float().cpu())
        pairs_2SV = torch.stack([made_SV, logits_SV.cpu()])
    except Exception as error:  # as above
        return f"its unembedding fails: {first_line(error)}"
    pairs_2SV = pairs_2SV - pairs_2SV.mean(-1, keepdim=True)
    alike = torch.cosine_similarity(pairs_2SV[0], pairs_2SV[1], dim=-1).mean()
    if not alike >= _ALIKE:
        return "there is more than a norm and a matrix between its stream and its logits"
    return None


def _no_cache(model: Any, d_vocab: int, logits_SV: Tensor) -> str | None:
    """Why reading the second half after a cache of the first does not do; None if it does."""
    ids_BS = _ids(model, d_vocab)
    cache: Any = None
    try:
        for part_BS in (ids_BS[:, :_HALF], ids_BS[:, _HALF:]):
            with torch.no_grad():
                result = model(
                    input_ids=part_BS, past_key_values=cache, use_cache=True, logits_to_keep=1
                )
            cache = getattr(result, "past_key_values", None)
            if cache is None:
                return "it keeps no keys and values"
        off = _distance(result.logits[0, -1:].float(), logits_SV[-1:])
    except Exception as error:  # a foreign forward may fail in any way
        return f"its cache fails: {first_line(error)}"
    if not off <= TOLERANCE.get(next(model.parameters()).dtype, 1e-3):
        return f"with its cache, logits are off by {off:.2g} of their norm"
    return None


def first_line(error: BaseException) -> str:
    """The error's first line, or its type where it has none."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(": ")
