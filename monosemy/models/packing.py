"""Several texts in one row of the host model: block-diagonal batches, and reading by sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.data.layout import block_sequences, groups
from monosemy.data.store import TokenStore
from monosemy.errors import ModelError
from monosemy.models.abilities import TOLERANCE
from monosemy.models.architecture import text_config
from monosemy.models.host import HostModel

if TYPE_CHECKING:
    from monosemy.training.stream import RowSource

Ints = npt.NDArray[np.int64]

_PROBE_TOKENS = 5
"""Length of the shortest text in the check of a model."""

_LONGEST_PROBE = 4096

_checked: WeakSet[HostModel] = WeakSet()


class BlockBatch(NamedTuple):
    """Lines of several rows each, padded on the right, numpy."""

    ids_BS: Ints
    place_BS: Ints
    """0, 1, 2, ... within each row (its BOS counts), starting again with the next; 0 on padding."""
    position_BS: Ints
    """Flat position of each token of the text, -1 on BOS and padding."""


def block_batch(store: TokenStore, rows: Ints, pad_id: int | None = None) -> BlockBatch:
    """The given rows, each once, in as few lines of ``context_size`` as ``_lines`` finds.

    Each row has its own BOS where the store prepends one.  ``pad_id``: what pads in place of the
    store's padding, which may be of a time when any id was taken.
    """
    lead = 0 if store.bos_id is None else 1
    lines = _lines(store, np.unique(np.asarray(rows, dtype=np.int64)))
    sizes = [store.row_start[line + 1] - store.row_start[line] + lead for line in lines]
    shape = (len(lines), max((int(size.sum()) for size in sizes), default=lead))
    ids = np.full(shape, store.pad_id if pad_id is None else pad_id, dtype=np.int64)
    place = np.zeros(shape, dtype=np.int64)
    position = np.full(shape, -1, dtype=np.int64)
    for number, (line, size) in enumerate(zip(lines, sizes, strict=True)):
        at = 0
        for row, length in zip(line.tolist(), size.tolist(), strict=True):
            text = slice(at + lead, at + length)
            start, end = int(store.row_start[row]), int(store.row_start[row + 1])
            if store.bos_id is not None:
                ids[number, at] = store.bos_id
            ids[number, text] = store.tokens[start:end]
            position[number, text] = np.arange(start, end)
            place[number, at : at + length] = np.arange(length)
            at += length
    return BlockBatch(ids, place, position)


def _lines(store: TokenStore, rows: Ints) -> list[Ints]:
    """Rows that share a line.  As no row sees another, any may: not only those of one sequence,
    which would leave lines empty wherever parts of sequences are asked for."""
    sizes = store.row_start[rows + 1] - store.row_start[rows] + (store.bos_id is not None)
    order, start = groups(block_sequences(sizes, np.zeros(len(rows), bool), store.context_size))
    return [rows[order[a:b]] for a, b in pairwise(start)]


def check_blocks(host: HostModel) -> None:
    """``ModelError`` unless this model's blocks give the activations of each text alone.

    Found by trying, once per model: models differ in whether they make the mask from positions
    (a recurrent one, or one with ALiBi, does not).
    """
    if host in _checked:
        return
    lengths = [_PROBE_TOKENS, 2 * _PROBE_TOKENS + 1, _probe_length(host)]
    generator = torch.Generator().manual_seed(0)
    ids_S = torch.randint(host.d_vocab, (sum(lengths),), generator=generator)
    place_S = torch.cat([torch.arange(length) for length in lengths])
    site = f"blocks.{host.n_layers - 1}.hook_resid_post"
    try:
        together_SD = host.capture_blocks(ids_S[None], place_S[None], [site])[site][0].float()
    except (TypeError, ValueError, RuntimeError) as error:
        raise _no_blocks(host, str(error).strip().split("\n")[0]) from None
    for ids, packed in zip(ids_S.split(lengths), together_SD.split(lengths), strict=True):
        alone = host.capture(ids[None], torch.ones_like(ids[None]), [site])[site][0].float()
        off = float((packed - alone).norm(dim=-1).div(alone.norm(dim=-1) + 1e-12).max())
        if not off <= TOLERANCE.get(host.dtype, 1e-3):
            raise _no_blocks(host, f"a text's activations are off by {off:.2g} of their norm")
    _checked.add(host)


def _probe_length(host: HostModel) -> int:
    """Beyond a sliding window, so that its mask is tried too, as far as that is cheap."""
    window = getattr(text_config(host.model), "sliding_window", None)
    wanted = 3 * _PROBE_TOKENS
    if isinstance(window, int) and window + wanted <= _LONGEST_PROBE:
        wanted += window
    limit = host.abilities.positions
    return wanted if limit is None else min(wanted, limit)


def _no_blocks(host: HostModel, reason: str) -> ModelError:
    return ModelError(
        f"{host.name} cannot run several texts in one row: {reason}.",
        "Set text.packing=chat (or document), which runs each alone.",
    )


def forward_groups(store: TokenStore, rows: Ints, lines: int) -> Iterator[Ints]:
    """Splits ``rows`` into the parts of one forward each, of about so many ``lines``.

    Rows that are read alone stay in their order.  Otherwise each part is ascending and has each row
    once; where documents are packed it takes in all rows of a sequence, which are computed anyway.
    """
    if store.row_sequence is None:
        for at in range(0, len(rows), lines):
            yield rows[at : at + lines]
    elif store.crosses_documents:
        sequences = store.sequences_of(rows)
        for at in range(0, len(sequences), lines):
            yield np.sort(store.rows_of_sequences(sequences[at : at + lines]))
    else:
        blocks = _lines(store, np.unique(rows))
        for at in range(0, len(blocks), lines):
            yield np.sort(np.concatenate(blocks[at : at + lines]))


def forward_rows(
    host: HostModel, store: TokenStore, rows: Ints, sites: Sequence[str]
) -> dict[str, Tensor]:
    """Per site ``[n, width]`` of the text in ``rows``, in the model's dtype, in their order.

    ``rows`` is a part that ``forward_groups`` gave; what one forward holds is as the store's
    packing says.
    """
    if store.row_sequence is None or store.crosses_documents:
        batch = store.batch(rows)
        position_BS = batch.position_BS
        acts = host.capture(torch.from_numpy(batch.ids_BS), torch.from_numpy(batch.mask_BS), sites)
    else:
        check_blocks(host)
        blocks = block_batch(store, rows, host.pad_id)
        position_BS = blocks.position_BS
        acts = host.capture_blocks(
            torch.from_numpy(blocks.ids_BS), torch.from_numpy(blocks.place_BS), sites
        )
    real = torch.from_numpy(position_BS >= 0)
    read = {site: value[real.to(value.device)] for site, value in acts.items()}
    if store.row_sequence is None:
        return read
    order = torch.from_numpy(np.argsort(position_BS[position_BS >= 0]))
    return {site: value[order.to(value.device)] for site, value in read.items()}


def reading_order(source: RowSource, store: TokenStore, rows: Ints) -> tuple[RowSource, Ints]:
    """What an ``ActivationStream`` should shuffle: whole sequences where the store has them.

    Reading single rows of packed sequences would run the host model on each sequence several times.
    Returns ``(source, rows)`` as they are where every row is read alone.
    """
    if store.row_sequence is None:
        return source, rows
    return SequenceSource(source, store), np.sort(store.sequences_of(rows))


class SequenceSource:
    """A ``RowSource`` whose rows are the sequences of a store."""

    def __init__(self, source: RowSource, store: TokenStore) -> None:
        self.source = source
        self.store = store

    @property
    def width(self) -> int:
        return self.source.width

    def rows(self, rows: Ints) -> tuple[Tensor, Ints]:
        """Activations ``[n, width]`` and flat positions ``[n]`` of whole sequences."""
        return self.source.rows(self.store.rows_of_sequences(rows))

    def raw_rows(self, rows: Ints) -> Tensor:
        """The source's ``raw_rows`` of whole sequences; its ``rows`` where it has none."""
        wanted = self.store.rows_of_sequences(rows)
        raw = getattr(self.source, "raw_rows", None)
        return self.source.rows(wanted)[0] if raw is None else raw(wanted)

    def flush(self) -> None:
        self.source.flush()
