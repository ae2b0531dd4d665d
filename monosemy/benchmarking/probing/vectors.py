"""Activations at the last token of texts, kept on disk.  Needs torch."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from monosemy.benchmarking.base import Bench
from monosemy.data.characters import encodable
from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.models.rows import batches, padded
from monosemy.workspace import Kind, fingerprint

TOKENS_AT_ONCE = 8192
"""Of one forward of the host model."""
_VECTORS = "last_token"


@dataclass(frozen=True)
class Reading:
    """How texts are read."""

    context: int
    """Most tokens of a text, BOS included."""
    prepend_bos: bool
    cut: bool
    """Whether longer texts lose their beginning; else they are refused."""


def last_token_vectors(
    bench: Bench, texts: Sequence[str], reading: Reading, advance: Callable[[int], None]
) -> Tensor:
    """What the places of the bench read at the last token of each text, ``[texts, d_in]``, float32
    on the CPU; read once, then kept in the workspace under a digest of host model, places and
    texts.

    ``DataError`` for a context that the host model has not, and for a text that is longer where
    none is to be cut.
    """
    host = bench.host
    limit = host.abilities.positions
    if limit is not None and reading.context > limit:
        raise DataError(
            f"{host.name} reads {plural(limit, 'token')} at once, not {reading.context}.",
            f"Set context to {limit} or less.",
        )
    key = fingerprint(
        [host.fingerprint, str(host.dtype), bench.hooks.as_dict(), vars(reading), list(texts)]
    )
    folder = bench.workspace.folder(Kind.ACTIVATIONS, f"probing-{key}")
    file = folder / "vectors.safetensors"
    try:
        kept = load_file(file)[_VECTORS]
    except (FileNotFoundError, SafetensorError, KeyError):
        kept = None
    if kept is not None and len(kept) == len(texts):
        advance(len(texts))
        return kept
    made = _read(bench, texts, reading, advance)
    half = folder / f".{uuid.uuid4().hex}"
    save_file({_VECTORS: made}, half)
    half.replace(file)
    return made


@torch.no_grad()
def _read(
    bench: Bench, texts: Sequence[str], reading: Reading, advance: Callable[[int], None]
) -> Tensor:
    host, hooks = bench.host, bench.hooks
    rows = [_row(bench, text, reading) for text in texts]
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    ordered = [rows[at] for at in order]
    sites = list(dict.fromkeys(hook.site for hook in hooks.reads))
    parts: list[Tensor] = []
    for chosen in batches(ordered, 1, TOKENS_AT_ONCE):
        bench.reporter.check()
        ids_BS, mask_BS = padded(ordered[chosen], host.pad_id)
        got = host.capture(ids_BS, mask_BS, sites)
        at_B = torch.arange(len(ids_BS)), mask_BS.sum(1) - 1
        read = [got[hook.site].cpu()[at_B].float() for hook in hooks.reads]
        parts.append(torch.cat(read, dim=-1))
        advance(len(ids_BS))
    vectors_TD = torch.cat(parts)
    return vectors_TD[torch.tensor(order).argsort()]


def _row(bench: Bench, text: str, reading: Reading) -> list[int]:
    host = bench.host
    bos = [host.bos_id] if reading.prepend_bos and host.bos_id is not None else []
    ids = list(map(int, host.tokenizer(encodable(text)[0], add_special_tokens=False)["input_ids"]))
    room = reading.context - len(bos)
    if len(ids) > room and not reading.cut:
        raise DataError(
            f"A text has {plural(len(bos) + len(ids), 'token')}, more than the context of"
            f" {reading.context}: {text!r:.80}.",
            "Give a larger context, or let long texts lose their beginning: long_texts: cut.",
        )
    row = [*bos, *ids[-room:]] if room else bos
    if not row:
        raise DataError(f"A text has no tokens: {text!r:.80}.", "Leave it out.")
    return row
