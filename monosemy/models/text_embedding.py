"""One vector for a whole text: what a text encoder pools where the text ends, tried at load.

A causal language model pools nothing; the mean of its last stream stands in for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from monosemy.models import sites
from monosemy.models.hook_points import Edit, Editor, Recorder
from monosemy.models.vocabulary import readable_id

if TYPE_CHECKING:
    from monosemy.models.host import HostModel

_NAMES = ("text_embeds", "pooler_output")
"""Of a forward's result: after the projection into the space of images, or before it."""
_TOKENS = 8
_ALIKE = 1e-4
"""Largest change of an embedding by tokens after the text's end, as a share of its norm; rows are
of one batch (``abilities._LEAK``)."""


def text_embeddings(
    host: HostModel,
    ids_BS: Tensor,
    mask_BS: Tensor,
    edits: Mapping[str, Edit] | None = None,
    skip: int = 0,
) -> Tensor:
    """One vector for each row ``[B, E]``, float32 on the host model's device, sites edited as in
    ``HostModel.logits``.

    What a text encoder pools, of texts that end with ``abilities.text_end``; of a causal language
    model the mean of the stream after its last block, over all tokens but ``skip`` leading ones.
    Rows are padded on the right.
    """
    shape = int(ids_BS.shape[0]), int(ids_BS.shape[1])
    last = []
    with host.opened() as opened, torch.no_grad():
        if host.abilities.text_end is None:
            last = [opened.sites.point(f"blocks.{host.n_layers - 1}.{sites.RESID_POST}")]
        # Hooks run in their order: what is recorded has been edited.
        with Editor(opened.sites.plan(edits), shape), Recorder(last, shape) as recorder:
            result = opened.model(**opened.inputs.padded(ids_BS, mask_BS), use_cache=False)
    if not last:
        value_BE = _pooled(result)
        assert value_BE is not None  # as it was when the model was loaded
        return value_BE.float()
    counts_BS = mask_BS.to(host.device, torch.bool, copy=True)
    counts_BS[:, :skip] = False
    acts_BSD = recorder.values[last[0]].float()
    return (acts_BSD * counts_BS[..., None]).sum(1) / counts_BS.sum(1, keepdim=True)


def _pooled(result: Any) -> Tensor | None:
    """The embedding of each row ``[B, E]`` in a forward's result; None where it has none."""
    for name in _NAMES:
        value = getattr(result, name, None)
        if isinstance(value, Tensor) and value.ndim == 2:
            return value
    return None


def text_end(model: Any, tokenizer: Any, d_vocab: int) -> int | None:
    """The EOS at which ``model`` pools a text; None for a model that pools nothing there.

    Found by trying: tokens behind the EOS must not change the embedding, the one before it must.
    """
    eos = readable_id(tokenizer.eos_token_id, d_vocab)
    if eos is None or model.get_output_embeddings() is not None:
        return None
    # Old CLIP configurations pool at the largest id, which is EOS unless tokens were added.
    most = eos if eos > _TOKENS else d_vocab
    ids_S = (torch.arange(3 * _TOKENS) * 7919 + 11) % most
    ids_S[ids_S == eos] = (eos + 1) % d_vocab
    first_T, second_T, third_T = ids_S.split(_TOKENS)
    end_1 = torch.tensor([eos])
    changed_T = torch.cat([first_T[:-1], third_T[:1]])
    rows = [(first_T, second_T), (first_T, third_T), (changed_T, second_T)]
    ids_BS = torch.stack([torch.cat([before, end_1, after]) for before, after in rows])
    try:
        with torch.no_grad():
            value_BE = _pooled(model(input_ids=ids_BS.to(next(model.parameters()).device)))
    except Exception:  # a foreign forward may fail in any way
        return None
    if value_BE is None or not bool(value_BE.isfinite().all()):
        return None
    text_E, same_E, other_E = value_BE.float()
    least = _ALIKE * (float(text_E.norm()) + 1e-12)
    follows = float((text_E - same_E).norm()) <= least < float((text_E - other_E).norm())
    return eos if follows else None
